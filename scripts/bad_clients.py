#!/usr/bin/env python3
"""Clients that are slow, silent, greedy or broken: memory stays bounded and others are served.

A witness writes and reads a key all the time; in each case its longest wait and the growth of the
server's resident memory are limited.

  scripts/bad_clients.py             # with 9,900 idle connections; needs `ulimit -n` of 10,100
  scripts/bad_clients.py --short     # a few seconds
  scripts/bad_clients.py --server 'redis-server --port {port} --dir {dir} --save ""'
"""
import argparse
import random
import resource
import socket
import struct
import threading
import time

from nodes import (Connection, Failed, ReplyError, Server, add_server_options, encode, run,
                   server_command)

MB = 1024 * 1024


class Watch(threading.Thread):
    """Writes and reads a key until stopped; remembers the longest wait and the largest memory."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.connection = server, server.connect()
        self.stopped = threading.Event()
        self.wrong, self.rounds = None, 0
        self.reset()

    def reset(self):
        self.longest, self.peak = 0.0, self.server.rss()

    def run(self):
        try:
            while not self.stopped.wait(0.005):
                self.rounds += 1
                started = time.monotonic()
                self.connection.call("SET", "witness", self.rounds)
                if self.connection.call("GET", "witness") != b"%d" % self.rounds:
                    raise Failed("the witness read something else than it wrote")
                self.longest = max(self.longest, time.monotonic() - started)
                self.peak = max(self.peak, self.server.rss())
        except (OSError, ReplyError, Failed) as error:
            self.wrong = f"the witness was not served: {error!r}"


def raw(server, data=b""):
    """A connection on which these bytes were sent."""
    connection = socket.create_connection(("127.0.0.1", server.port), 30)
    if data:
        connection.sendall(data)
    return connection


def answer_and_close(connection):
    """All that the server says until it closes."""
    said = b""
    try:
        while chunk := connection.recv(65536):
            said += chunk
    except ConnectionResetError:
        pass
    except TimeoutError:
        raise Failed(f"the server neither closed nor refused; it said {said[:200]!r}") from None
    return said


def expect_refusal(server, data, text):
    """The server answers with an error that contains the text, and closes."""
    connection = socket.create_connection(("127.0.0.1", server.port), 30)
    try:
        for at in range(0, len(data), MB):
            connection.sendall(data[at:at + MB])
    except OSError:
        pass  # closed before everything was sent: what counts is the answer
    said = answer_and_close(connection)
    connection.close()
    # A reset may swallow the answer when the server closed on unread input.
    if said and text not in said:
        raise Failed(f"{data[:40]!r}… was answered {said[:200]!r}, not {text!r}")
    return said


def half_commands(server, args):
    """Connections that stop in the middle of a command."""
    halves = [b"*", b"*3\r\n", b"*3\r\n$3\r\nSET\r\n$5\r\nab", b"SET k", b"*2\r\n$3\r\nGET\r\n$1",
              b"*1\r\n$4\r\nPING\r", b"*1048576\r\n"]
    return [raw(server, halves[i % len(halves)]) for i in range(args.connections // 10)]


def byte_by_byte(server, _):
    """A command that comes one byte at a time is still a command."""
    connection = Connection(server.port)
    for byte in encode(("SET", "slow", "value")) + encode(("GET", "slow")):
        connection.socket.sendall(bytes([byte]))
    if (connection.read(), connection.read()) != (b"OK", b"value"):
        raise Failed("a command sent byte by byte was answered otherwise")


def announced_bulk(server, _):
    """600 MB are over the limit and refused at once; 500 MB announced cost nothing yet."""
    said = expect_refusal(server, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$629145600\r\n",
                          b"invalid bulk length")
    if not said.startswith(b"-ERR Protocol error"):
        raise Failed(f"600 MB announced: answered {said!r}")
    return [raw(server, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$524288000\r\n" + b"x" * MB)
            for _ in range(20)]


def many_arguments(server, args):
    """Ours takes 1,048,576 arguments; Redis 7 as many as a 32-bit integer counts."""
    if not args.server:
        expect_refusal(server, b"*1048577\r\n", b"invalid multibulk length")
    expect_refusal(server, b"*2147483648\r\n", b"invalid multibulk length")


def giant_inline(server, _):
    """A line without end is refused after 64 KB."""
    expect_refusal(server, b"x" * (50 * MB), b"too big inline request")
    expect_refusal(server, b"*" + b"1" * (50 * MB), b"too big mbulk count string")


def garbage(server, args):
    """Random bytes are answered with an error or not at all; nobody else notices."""
    rng = random.Random(args.seed)
    for _ in range(200 if args.short else 2000):
        head = rng.choice([b"", b"*1\r\n$", b"*2\r\n$3\r\nGET\r\n", b"$", b"*"])
        connection = raw(server, head + rng.randbytes(rng.randint(1, 3000)))
        connection.close()


def resets(server, args):
    """Connections that end in a reset in the middle of a pipeline leave nothing behind."""
    for _ in range(200 if args.short else 2000):
        connection = raw(server, encode(("GET", "big")) * 20)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def never_reads(server, args):
    """Pipelines GETs of a big value and reads no reply: 2 GB asked for, little of it held."""
    control = server.connect()
    if args.server:
        # Redis by itself holds all replies; ours stops reading such a client's requests.
        control.call("CONFIG", "SET", "client-output-buffer-limit", "normal 32mb 16mb 2")
    control.call("SET", "big", b"v" * MB)
    return [send_without_reading(server, encode(("GET", "big")) * 500) for _ in range(4)]


def output_limit(server, _):
    """A client over its output buffer limit is closed."""
    control = server.connect()
    control.call("CONFIG", "SET", "client-output-buffer-limit", "normal 8mb 1mb 1")
    control.call("SET", "big", b"v" * MB)
    greedy = send_without_reading(server, encode(("GET", "big")) * 200)
    wait_for(lambda: is_closed(greedy), "a client over its output buffer limit was not closed", 15)
    control.call("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0")


def send_without_reading(server, data):
    connection = socket.create_connection(("127.0.0.1", server.port), 30)
    connection.setblocking(False)
    deadline = time.monotonic() + 2
    while data and time.monotonic() < deadline:
        try:
            data = data[connection.send(data):]
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:
            break
    return connection


def is_closed(connection):
    """Whether the server ended the connection; reads nothing while it lasts."""
    state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state not in (1,)  # 1: TCP_ESTABLISHED


def idle_connections(server, args):
    """Thousands of connections that say nothing."""
    return [raw(server) for _ in range(args.connections)]


def too_many_connections(server, _):
    """One over maxclients is told so; when one leaves, the next is served."""
    control = server.connect()
    control.call("CONFIG", "SET", "maxclients", 50)
    crowd = [raw(server) for _ in range(60)]
    said = b""
    for connection in crowd:
        connection.settimeout(0.2)
        try:
            said += connection.recv(200)
        except OSError:
            pass
    control.call("CONFIG", "SET", "maxclients", 10000)
    if b"max number of clients reached" not in said:
        raise Failed(f"beyond maxclients connections were answered {said[:200]!r}")
    return crowd


# Each case: what it does, by how much memory may grow meanwhile (MB).
CASES = [
    (half_commands, 32), (byte_by_byte, 16), (announced_bulk, 96), (many_arguments, 32),
    (giant_inline, 32), (garbage, 32), (resets, 64), (never_reads, 200), (output_limit, 200),
    (idle_connections, 250), (too_many_connections, 32),
]


def wait_for(condition, text, limit=30):
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(text)
        time.sleep(0.02)


def connected(server):
    """How many clients the server says it has."""
    connection = server.connect()
    info = connection.call("INFO", "clients")
    connection.close()
    return int(info.split(b"connected_clients:")[1].split()[0])


def campaign(args):
    server = Server(server_command(args, "--oplog off --shards 2"))
    server.start()
    watch = Watch(server)
    watch.start()
    slowest, largest = 0.0, 0.0
    try:
        for case, growth in CASES:
            before = server.rss()
            watch.reset()
            held = case(server, args) or []
            # What is held open is watched for a moment: memory may not creep up later.
            rounds = watch.rounds
            wait_for(lambda: watch.wrong or watch.rounds > rounds + 50, "the witness stands still")
            grown = (watch.peak - before) / MB
            if args.verbose:
                print(f"{case.__name__}: witness waited {watch.longest * 1000:.1f} ms at most, "
                      f"memory grew by {grown:.1f} MB", flush=True)
            if watch.wrong or not server.is_running():
                raise Failed(f"{case.__name__}: {watch.wrong}; {server.said(10)}")
            if watch.longest > args.wait:
                raise Failed(f"{case.__name__}: the witness waited {watch.longest:.2f} s")
            if grown > growth:
                raise Failed(f"{case.__name__}: memory grew by {grown:.0f} MB, allowed {growth}")
            slowest, largest = max(slowest, watch.longest), max(largest, grown)
            for connection in held:
                connection.close()
            wait_for(lambda: connected(server) <= 3, f"{case.__name__}: connections stay behind")
    finally:
        watch.stopped.set()
        watch.join(5)
        server.remove()
    return (f"{len(CASES)} kinds of bad clients, {args.connections} idle ones; the witness waited "
            f"{slowest * 1000:.0f} ms at most, memory grew by {largest:.0f} MB at most")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_server_options(parser)
    parser.add_argument("--short", action="store_true", help="fewer connections and rounds")
    parser.add_argument("--connections", type=int, default=None)
    parser.add_argument("--wait", type=float, default=3.0, help="seconds the witness may wait")
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    args.connections = args.connections or (1000 if args.short else 9900)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < args.connections + 100:
        wanted = min(hard, args.connections + 200) if hard > 0 else args.connections + 200
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        args.connections = min(args.connections, wanted - 100)
    run("bad_clients", lambda: campaign(args))


if __name__ == "__main__":
    main()
