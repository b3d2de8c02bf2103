"""The growth case of bench.py: a server that is filled while it is measured."""
import mmap
import multiprocessing
import statistics
import time
from contextlib import contextmanager
from os import sched_getaffinity, sched_setaffinity

from bench_load import MB, cpu_seconds, redis_benchmark, remove, set_command, value_of
from nodes import Connection, Failed

SMALL_KEYS = 100_000
WINDOW = 100_000
# Memory that a key of 16 bytes takes at most, its value not counted.
OVER_BYTES = 160


class Ballast:
    """Memory in use, given back bit by bit as a server grows.

    The host of a virtual machine may take back what has been free for a while. To touch such a page
    costs 12 us, whatever the program, and 1 us else: the servers are given pages that were in use
    a moment ago, when they are small and when they are large.
    """

    def __init__(self, size):
        self.left = size // MB * MB
        self.memory = mmap.mmap(-1, self.left, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.memory.madvise(mmap.MADV_NOHUGEPAGE)
        for at in range(0, self.left, MB):
            self.memory[at:at + MB] = bytes(MB)

    def release(self, size):
        size = min(size // MB * MB + MB, self.left)
        self.left -= size
        if size > 0:
            self.memory.madvise(mmap.MADV_DONTNEED, self.left, size)


class Pauses:
    """Notes when the machine stands still: a process that sleeps for 1 ms wakes too late then.

    Where both cores of a virtual machine are busy its host may stop them for some milliseconds.
    """

    LATE = 0.003

    def __init__(self, cores):
        self.stopped = multiprocessing.Event()
        self.here, there = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=self.watch, args=(there, cores))
        self.process.start()

    def watch(self, pipe, cores):
        sched_setaffinity(0, cores)
        pauses, before = [], time.monotonic()
        while not self.stopped.is_set():
            time.sleep(0.001)
            now = time.monotonic()
            if now - before > 0.001 + self.LATE:
                pauses.append((before + 0.001, now))
            before = now
        pipe.send(pauses)

    def finish(self):
        self.stopped.set()
        pauses = self.here.recv()
        self.process.join()
        return pauses


def without(wait, pauses):
    """Seconds of a wait in which the machine did not stand still."""
    start, end = wait
    still = sum(max(0, min(end, to) - max(start, at)) for at, to in pauses)
    return end - start - still


@contextmanager
def pinned(cores):
    """Keeps this process on some cores."""
    before = sched_getaffinity(0)
    sched_setaffinity(0, cores)
    try:
        yield
    finally:
        sched_setaffinity(0, before)


class Growing:
    """A server that keys are added to."""

    def __init__(self, server, args, ballast):
        self.server, self.args, self.ballast = server, args, ballast
        self.connection = Connection(server.port, 120)
        self.filler = value_of(args.value)
        self.keys = 0
        self.waits = []

    def grow(self, end):
        """Adds keys in pipelines; returns processor time in us a key."""
        pid, first = self.server.process.pid, self.keys
        before = cpu_seconds(pid)
        while self.keys < end:
            if self.keys % WINDOW < self.args.batch:
                self.ballast.release(WINDOW * (OVER_BYTES + self.args.value))
            last = min(end, self.keys + self.args.batch)
            chunk = b"".join(set_command(key, self.filler) for key in range(self.keys, last))
            self.exchange(chunk, 5 * (last - self.keys))
            self.keys = last
        return (cpu_seconds(pid) - before) * 1e6 / (end - first)

    def exchange(self, chunk, missing):
        """Sends a pipeline and waits for that many bytes of replies."""
        started = time.monotonic()
        self.connection.socket.sendall(chunk)
        while missing > 0:
            got = self.connection.socket.recv(65536)
            if not got:
                raise Failed(f"{self.server.name} closed the connection while growing")
            missing -= len(got)
        ended = time.monotonic()
        if ended - started > 0.0005:
            self.waits.append((started, ended))


def measure(bench, args):
    """Grows a server, and a small one beside it again and again. Returns the longest wait for a
    pipeline, with and without the machine's own pauses, in ms; and what an operation costs with
    all keys over what it costs with 100,000, at the same time."""
    client = {int(core) for core in args.client_cores.split(",")}
    servers = []
    with pinned(client):
        pauses = Pauses(client)
        try:
            keys = args.grow_keys + args.rounds * (SMALL_KEYS + 2 * WINDOW)
            ballast = Ballast(keys * (OVER_BYTES + args.value))
            servers.append(bench.start(args.server_cores))
            large = Growing(servers[0], args, ballast)
            large.grow(args.grow_keys - args.rounds * WINDOW)
            inserts = [[], []]
            for _ in range(args.rounds):
                if len(servers) > 1:
                    remove(servers.pop())
                servers.append(bench.start(args.server_cores))
                small = Growing(servers[1], args, ballast)
                small.grow(SMALL_KEYS - WINDOW // 2)
                inserts[0].append(small.grow(SMALL_KEYS + WINDOW // 2))
                inserts[1].append(large.grow(large.keys + WINDOW))
            stood_still = pauses.finish()
            ratios = {f"insert, P={args.batch}": ratio(inserts), **compare(servers, args)}
        finally:
            for server in servers:
                remove(server)
    return {
        "longest_ms": 1000 * max((end - start for start, end in large.waits), default=0.0),
        "own_ms": 1000 * max((without(wait, stood_still) for wait in large.waits),
                             default=0.0),
        "pause_ms": 1000 * max((end - start for start, end in stood_still), default=0.0),
        "ratios": ratios,
    }


def compare(servers, args):
    """Costs of commands on random keys of the large server over those of the small one."""
    costs = {}
    for _ in range(args.rounds):
        for pipeline in (16, 1):
            for test in ("set", "get"):
                sizes = (SMALL_KEYS, args.grow_keys)
                runs = costs.setdefault(f"{test.upper()}, P={pipeline}", [[], []])
                for run, server, keyspace in zip(runs, reversed(servers), sizes):
                    count = args.requests * (1 if pipeline == 1 else 6)
                    figures = redis_benchmark(server, test, pipeline, count, args, keyspace)
                    run.append(figures["cpu_us"])
    return {name: ratio(runs) for name, runs in costs.items()}


def ratio(runs):
    """Median cost of the large server over that of the small one."""
    small, large = runs
    return statistics.median(large) / statistics.median(small)
