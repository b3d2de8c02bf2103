"""Load and measurements for bench.py: processor time, memory, redis-benchmark, bulk writes."""
import os
import select
import shutil
import socket
import subprocess
import time

from nodes import Connection, Failed, Server

MB = 1024 * 1024


def tree(pid):
    """The process and its children."""
    pids = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in open(f"/proc/{pid}/task/{task}/children").read().split():
                pids += tree(int(child))
    except OSError:
        pass
    return pids


def cpu_seconds(pid):
    """Processor time of a process and its children."""
    total = 0.0
    for one in tree(pid):
        try:
            # Linux's number of the clock that a process's threads share; exact, unlike `stat`.
            total += time.clock_gettime(~one << 3 | 2)
        except OSError:
            pass
    return total


def resident(pid):
    """Resident bytes of a process and its children; a forked child's shared pages count once."""
    total = 0
    for one in tree(pid):
        try:
            if one == pid:
                status = open(f"/proc/{one}/status").read()
                total += int(status.split("VmRSS:")[1].split()[0]) * 1024
            else:
                rollup = open(f"/proc/{one}/smaps_rollup").read()
                total += int(rollup.split("Private_Dirty:")[1].split()[0]) * 1024
        except (OSError, IndexError):
            pass
    return total


class Bench:
    """One kind of server: its name and its command line with {port} and {dir}."""

    def __init__(self, name, command):
        self.name, self.command = name, command

    def start(self, cores, directory=None, limit=600):
        """A running server, pinned to cores."""
        server = Server(f"taskset -c {cores} {self.command}", directory)
        server.name = self.name
        server.start_seconds = server.start(limit)
        return server


def redis_benchmark(server, test, pipeline, requests, args, keyspace=None, others=()):
    """One run of redis-benchmark: operations/s, latencies, processor time an operation, that of
    `others` included."""
    spent = lambda: sum(cpu_seconds(each.process.pid) for each in (server, *others))
    before = spent()
    command = ["taskset", "-c", args.client_cores, "redis-benchmark", "-p", str(server.port),
               "-c", str(args.clients), "-n", str(requests), "-r", str(keyspace or args.keyspace),
               "-d", str(args.value), "-P", str(pipeline), "-t", test, "-q", "--csv"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    used = spent() - before
    rows = [line for line in done.stdout.splitlines() if line.startswith(f'"{test.upper()}')]
    if not rows:
        raise Failed(f"redis-benchmark on port {server.port}: {done.stdout[-300:]}{done.stderr[-300:]}")
    cells = [cell.strip('"') for cell in rows[-1].split(",")]
    return {"ops": float(cells[1]), "p50_ms": float(cells[4]), "p99_ms": float(cells[6]),
            "max_ms": float(cells[7]), "cpu_us": used * 1e6 / requests}


def set_command(index, filler):
    return b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%s\r\n" % (index, len(filler), filler)


def value_of(size):
    return os.urandom(size // 2 + 1).hex()[:size].encode()


def load(server, first, last, size):
    """Sets keys first..last as fast as it goes; returns the seconds it took."""
    filler, started = value_of(size), time.monotonic()
    pipe = subprocess.Popen(["redis-cli", "-p", str(server.port), "--pipe"],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for at in range(first, last, 2000):
        chunk = b"".join(set_command(i, filler) for i in range(at, min(last, at + 2000)))
        pipe.stdin.write(chunk)
    said = pipe.communicate()[0].decode()
    if f"errors: 0, replies: {last - first}" not in said:
        raise Failed(f"loading {server.name}: {said[-300:]}")
    return time.monotonic() - started


class Prober:
    """Measures the longest reply to single commands while something else goes on."""

    def __init__(self, server):
        self.connection = Connection(server.port, 120)
        self.longest = 0.0

    def probe(self):
        started = time.monotonic()
        self.connection.call("GET", "key:000000000000")
        self.longest = max(self.longest, time.monotonic() - started)


def flood(server, seconds, keyspace, size):
    """Keeps SETs over existing keys going for some seconds; returns how many were answered."""
    connection, filler = socket.create_connection(("127.0.0.1", server.port)), value_of(size)
    connection.setblocking(False)
    answered, at, pending, in_flight, rest = 0, 0, b"", 0, 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or in_flight > 0:
        if not pending and in_flight < 20_000 and time.monotonic() < deadline:
            picks = ((at + i) * 7919 % keyspace for i in range(200))
            pending = b"".join(set_command(pick, filler) for pick in picks)
            at, in_flight = at + 200, in_flight + 200
        ready = select.select([connection], [connection] if pending else [], [], 30)
        if not ready[0] and not ready[1]:
            raise Failed(f"{server.name} does not answer under load")
        if ready[0]:
            # Every reply is "+OK" and CR LF: 5 bytes.
            got, rest = divmod(rest + len(connection.recv(262_144)), 5)
            answered, in_flight = answered + got, in_flight - got
        if ready[1]:
            pending = pending[connection.send(pending):]
    connection.close()
    return answered


def remove(server):
    """Ends a server and removes its directory."""
    server.remove()
    shutil.rmtree(server.directory, ignore_errors=True)
