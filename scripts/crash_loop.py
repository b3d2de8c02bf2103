#!/usr/bin/env python3
"""Kills a node under load again and again and compares what it rebuilds with what it promised.

policy always:   every writer sends one command at a time and keeps a model of its own keys; after
                 the restart they are as the model says, with the command that had no answer yet
                 applied either wholly or not at all. One more writer sends counters in pipelines:
                 each is between what was acknowledged and what was sent.
policy everysec: keys carry serials; each is at least as new as what was acknowledged --window
                 seconds before the kill, and keys written together are equally new.

  scripts/crash_loop.py --rounds 50                      # the long form
  scripts/crash_loop.py --rounds 50 --policy everysec
  scripts/crash_loop.py --rounds 50 --sync-ms 3          # on a slow disk
  scripts/crash_loop.py --server 'redis-server --port {port} --dir {dir} --save "" \\
      --appendonly yes --appendfsync always'             # shows that the campaign can pass
"""
import argparse
import random
import shlex
import subprocess
import threading
import time
from contextlib import nullcontext

from nodes import (Connection, Failed, ReplyError, Server, add_server_options, free_port, run,
                   server_command, slow_syncs)

STRINGS = 8
COUNTERS = 4
# A deadline far away, in ms: what counts is that it survives exactly.
DEADLINE = 4_102_444_800_000


class Model:
    """The keys of one writer as plain Python; the commands are applied as Redis defines them."""

    def __init__(self, prefix):
        self.keys = {}
        self.strings = [f"{prefix}s{i}" for i in range(STRINGS)]
        self.counters = [f"{prefix}c{i}" for i in range(COUNTERS)]

    def copy(self):
        other = Model.__new__(Model)
        other.keys, other.strings, other.counters = dict(self.keys), self.strings, self.counters
        return other

    def apply(self, command):
        """Applies a command and returns the reply it must have."""
        name, *args = command
        return getattr(self, name.lower())(*args)

    def set(self, key, value, *options):
        self.keys[key] = (value, int(options[1]) if options else None)
        return b"OK"

    def mset(self, *pairs):
        for key, value in zip(pairs[::2], pairs[1::2]):
            self.keys[key] = (value, None)
        return b"OK"

    def msetnx(self, *pairs):
        if any(key in self.keys for key in pairs[::2]):
            return 0
        self.mset(*pairs)
        return 1

    def rename(self, source, target):
        self.keys[target] = self.keys.pop(source)
        return b"OK"

    def copy_key(self, source, target):
        self.keys[target] = self.keys[source]
        return 1

    def incrby(self, key, delta):
        value, deadline = self.keys.get(key, (b"0", None))
        number = int(value) + int(delta)
        self.keys[key] = (b"%d" % number, deadline)
        return number

    def append(self, key, tail):
        value, deadline = self.keys.get(key, (b"", None))
        self.keys[key] = (value + tail, deadline)
        return len(value) + len(tail)

    def setrange(self, key, offset, part):
        value, deadline = self.keys.get(key, (b"", None))
        padded = value.ljust(int(offset), b"\0")
        value = padded[:int(offset)] + part + padded[int(offset) + len(part):]
        self.keys[key] = (value, deadline)
        return len(value)

    def delete(self, *keys):
        return sum(self.keys.pop(key, None) is not None for key in set(keys))

    def pexpireat(self, key, deadline):
        if key not in self.keys:
            return 0
        self.keys[key] = (self.keys[key][0], int(deadline))
        return 1

    def persist(self, key):
        value, deadline = self.keys.get(key, (None, None))
        if deadline is None:
            return 0
        self.keys[key] = (value, None)
        return 1

    def getdel(self, key):
        return self.keys.pop(key, (None, None))[0]

    def __getattr__(self, name):
        if name == "del":
            return self.delete
        raise AttributeError(name)

    def choose(self, rng, serial):
        """Returns a random command that cannot fail, with a value never used before."""
        value = b"%d:" % serial + b"v" * rng.choice((0, 10, 100, 100, 3000))
        some = rng.sample(self.strings, rng.randint(2, 5))
        present = [key for key in self.strings if key in self.keys]
        key, counter = rng.choice(self.strings), rng.choice(self.counters)
        pairs = [item for one in some for item in (one, value)]
        commands = [
            ("SET", key, value), ("SET", key, value, "PXAT", str(DEADLINE + serial)),
            ("MSET", *pairs), ("MSET", *pairs, counter, b"%d" % serial), ("MSETNX", *pairs),
            ("INCRBY", counter, rng.choice(("1", "-7"))), ("APPEND", key, b"+%d" % serial),
            ("SETRANGE", key, str(rng.randint(0, 50)), b"<%d>" % serial), ("DEL", *some),
            ("DEL", key), ("PEXPIREAT", key, str(DEADLINE + serial)), ("PERSIST", key),
            ("GETDEL", key),
        ]
        if present:
            commands += 2 * [("RENAME", rng.choice(present), key)]
        return rng.choice(commands)


class Writer(threading.Thread):
    """Sends one command at a time until the connection breaks."""

    def __init__(self, port, model, seed, serial):
        super().__init__(daemon=True)
        self.connection = Connection(port)
        self.model, self.rng, self.serial = model, random.Random(seed), serial
        self.pending, self.acknowledged, self.wrong = None, 0, None

    def run(self):
        try:
            while True:
                self.serial += 1
                self.pending = self.model.choose(self.rng, self.serial)
                after = self.model.copy()
                expected = after.apply(self.pending)
                reply = self.connection.call(*self.pending)
                if reply != expected:
                    self.wrong = f"{self.pending[:3]} answered {reply!r}, expected {expected!r}"
                    return
                self.model, self.pending = after, None
                self.acknowledged += 1
        except ReplyError as error:
            self.wrong = f"{self.pending[:3]} was refused: {error}"
        except (OSError, ValueError):
            pass


class Pipeliner(threading.Thread):
    """Increments counters in pipelines: counts what was sent and what was acknowledged."""

    def __init__(self, port, sent, acknowledged, seed):
        super().__init__(daemon=True)
        self.connection, self.rng = Connection(port), random.Random(seed)
        self.sent, self.acknowledged, self.wrong = sent, acknowledged, None

    def run(self):
        try:
            while True:
                batch = [f"pipe{self.rng.randint(0, 7)}" for _ in range(self.rng.randint(1, 64))]
                for key in batch:
                    self.sent[key] = self.sent.get(key, 0) + 1
                self.connection.send(*(("INCR", key) for key in batch))
                for key in batch:
                    reply = self.connection.read()
                    if not isinstance(reply, int):
                        self.wrong = f"INCR {key} answered {reply!r}"
                        return
                    self.acknowledged[key] = reply
        except (OSError, ValueError):
            pass


def state_of(connection, model):
    """Reads a writer's keys back as a model holds them."""
    names = model.strings + model.counters
    connection.send(*(command for key in names for command in (("GET", key), ("PEXPIRETIME", key))))
    state = {}
    for key in names:
        value, deadline = connection.read(), connection.read()
        if value is not None:
            state[key] = (value, deadline if deadline >= 0 else None)
    return state


def explain(found, expected):
    """The first keys that differ."""
    keys = [key for key in {**found, **expected} if found.get(key) != expected.get(key)]
    cut = lambda item: item and (item[0][:40], len(item[0]), item[1])
    return "; ".join(f"{k}: found {cut(found.get(k))}, promised {cut(expected.get(k))}"
                     for k in sorted(keys)[:4])


def always(args):
    rng = random.Random(args.seed)
    server = Server(f"{args.preload} {server_command(args, '--fsync always --shards 2')}")
    models = [Model(f"w{i}:") for i in range(args.writers)]
    sent, acknowledged = {}, {}
    writes, serial, slowest = 0, 0, 0
    try:
        for round_number in range(args.rounds):
            slowest = max(slowest, server.start())
            serial += 1_000_000
            threads = [Writer(server.port, model, rng.random(), serial) for model in models]
            threads.append(Pipeliner(server.port, sent, acknowledged, rng.random()))
            for thread in threads:
                thread.start()
            disturb_and_kill(server, rng, round_number)
            for thread in threads:
                thread.join(30)
                if thread.wrong:
                    raise Failed(f"round {round_number}: {thread.wrong}; {server.said(5)}")
            if round_number % 5 == 4:
                # A crash while the state is being rebuilt must harm nothing either.
                crash_during_start(server, rng)
            slowest = max(slowest, server.start())
            with_pending = check_writers(server, threads[:-1], models, round_number)
            check_pipelines(server, sent, acknowledged, round_number)
            writes += sum(thread.acknowledged for thread in threads[:-1])
            if args.verbose:
                print(f"round {round_number}: {writes} commands acknowledged so far, "
                      f"{with_pending} unanswered ones applied", flush=True)
            server.kill()
        check_clean_stop(server, models)
    finally:
        server.remove()
    piped = sum(acknowledged.values())
    return (f"{args.rounds} kills, {writes} single and {piped} pipelined writes acknowledged, "
            f"none lost, none half done; slowest start {slowest:.2f} s")


def disturb_and_kill(server, rng, round_number):
    """Lets the writers run for a while, every third time through a compaction."""
    time.sleep(rng.uniform(0.1, 0.6))
    if round_number % 3 == 1:
        try:
            server.connect().send(("BGREWRITEAOF",))
        except OSError:
            pass
        time.sleep(rng.uniform(0, 0.2))
    server.kill()


def crash_during_start(server, rng):
    words = shlex.split(server.command.format(port=free_port(), dir=server.directory))
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    time.sleep(rng.uniform(0.005, 0.1))
    process.kill()
    process.wait()


def check_writers(server, threads, models, round_number):
    """Compares each writer's keys with its model; returns how many pending commands were done."""
    connection, applied = server.connect(), 0
    for index, thread in enumerate(threads):
        found = state_of(connection, thread.model)
        if found != thread.model.keys:
            done = thread.model.copy()
            if thread.pending:
                done.apply(thread.pending)
            if found != done.keys:
                raise Failed(f"round {round_number}, writer {index}, unanswered "
                             f"{thread.pending and thread.pending[:2]}: "
                             f"{explain(found, thread.model.keys)}")
            thread.model, applied = done, applied + 1
        models[index] = thread.model
    return applied


def check_pipelines(server, sent, acknowledged, round_number):
    connection = server.connect()
    for key in sorted(sent):
        value = int(connection.call("GET", key) or 0)
        if not acknowledged.get(key, 0) <= value <= sent[key]:
            raise Failed(f"round {round_number}: {key} is {value}, acknowledged up to "
                         f"{acknowledged.get(key, 0)}, sent {sent[key]}")
        sent[key] = acknowledged[key] = value


def check_clean_stop(server, models):
    """After SIGTERM the exit code is 0 and everything is there."""
    server.start()
    if (code := server.terminate()) != 0:
        raise Failed(f"SIGTERM ended with exit code {code}: {server.said(5)}")
    server.start()
    connection = server.connect()
    for model in models:
        found = state_of(connection, model)
        if found != model.keys:
            raise Failed(f"after a clean stop: {explain(found, model.keys)}")


class Serials(threading.Thread):
    """Writes serials to single keys and to groups of keys, remembering when each was answered."""

    def __init__(self, port, name, serial):
        super().__init__(daemon=True)
        self.connection, self.name, self.serial = Connection(port), name, serial
        self.answered, self.wrong = [], None

    def run(self):
        keys = group(self.name)
        try:
            while True:
                self.serial += 1
                pairs = [item for key in keys for item in (key, self.serial)]
                self.connection.send(("SET", self.name, self.serial), ("MSET", *pairs))
                for reply in (self.connection.read(), self.connection.read()):
                    if reply != b"OK":
                        self.wrong = f"a write answered {reply!r}"
                        return
                self.answered.append((time.monotonic(), self.serial))
        except (OSError, ValueError):
            pass


def group(name):
    return [f"{name}:{i}" for i in range(6)]


def everysec(args):
    rng = random.Random(args.seed)
    server = Server(f"{args.preload} {server_command(args, '--fsync everysec --shards 2')}")
    # What each writer sent last, and what of it was on disk after the last restart.
    last, kept = {f"w{i}": 0 for i in range(args.writers)}, {}
    worst, writes = 0.0, 0
    try:
        for round_number in range(args.rounds):
            server.start()
            threads = [Serials(server.port, name, serial) for name, serial in last.items()]
            for thread in threads:
                thread.start()
            # Longer than the window at times, else all could be lost unseen.
            time.sleep(args.window + 1 if round_number % 2 == 0 else rng.uniform(0.3, 1.5))
            server.kill()
            killed = time.monotonic()
            for thread in threads:
                thread.join(30)
                if thread.wrong:
                    raise Failed(f"round {round_number}: {thread.wrong}; {server.said(5)}")
            server.start()
            connection = server.connect()
            for thread in threads:
                survived = surviving_serial(connection, thread, round_number)
                if survived < kept.get(thread.name, 0):
                    raise Failed(f"round {round_number}: {thread.name} went back to {survived}, "
                                 f"after an earlier restart it was {kept[thread.name]}")
                kept[thread.name] = survived
                missing = [at for at, serial in thread.answered if serial > survived]
                lost = killed - missing[0] if missing else 0.0
                worst = max(worst, lost)
                if lost > args.window:
                    raise Failed(f"round {round_number}: {thread.name} lost {lost:.2f} s")
                writes += len(thread.answered)
                last[thread.name] = thread.serial
            server.kill()
    finally:
        server.remove()
    return (f"{args.rounds} kills, {writes} pairs of writes acknowledged, at most {worst:.3f} s "
            f"of them lost (allowed {args.window} s), no group torn")


def surviving_serial(connection, thread, round_number):
    """The newest serial of which both the single key and the group are there."""
    values = connection.call("MGET", thread.name, *group(thread.name))
    single, *together = [int(value or 0) for value in values]
    if len(set(together)) != 1:
        raise Failed(f"round {round_number}: written together, found {together}")
    if max(single, together[0]) > thread.serial:
        raise Failed(f"round {round_number}: found {max(single, together[0])}, "
                     f"sent {thread.serial}")
    return min(single, together[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_server_options(parser)
    parser.add_argument("--policy", choices=("always", "everysec"), default="always")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--writers", type=int, default=6)
    parser.add_argument("--window", type=float, default=1.5,
                        help="seconds of acknowledged writes that everysec may lose")
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--sync-ms", type=float, default=0,
                        help="every sync of the server takes so much longer")
    args = parser.parse_args()
    with slow_syncs(args.sync_ms) if args.sync_ms else nullcontext("") as args.preload:
        campaign(args)


def campaign(args):
    run(f"crash_loop ({args.policy}, seed {args.seed})",
        lambda: always(args) if args.policy == "always" else everysec(args))


if __name__ == "__main__":
    main()
