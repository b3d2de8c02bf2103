#!/usr/bin/env python3
"""Load on a cluster that knows what every reply may be, and a check of what is left at the end.

registers  each key has one writer, which writes growing serials; a read never goes back behind
           what was acknowledged when it was sent, shows nothing that was refused or not sent yet,
           and all its bytes are right. A write without an answer is possible, at any time later:
           its key gets no more writes, since they could not be told apart.
counters   INCR ends between what was acknowledged and that plus what had no answer.
owners     a prober writes one key through all direct ports again and again: no node accepts a
           write after another one has, and then again, without the time for two moves.
the end    every key, through every node and as a cluster client; DBSIZE; SCAN; CLUSTER SLOTS.

As a program it checks the checker: a run without faults is right, and every lie is found.

  scripts/cluster_check.py --node target/debug/distcache-node          # all lies
  scripts/cluster_check.py --lie lost                                   # one of them; must FAIL
"""
import argparse
import array
import collections
import random
import sys
import threading
import time
import zlib

from cluster_nodes import Cluster, add_cluster_options, partition_of, require, slot_of
from nodes import Connection, Failed, ReplyError

VIOLATIONS_MAX = 20
# A prober that finds the same two nodes in turn within this time has found two owners.
TURN = 2.0
# What a node says that has not executed a command. Everything else may have been executed.
NOT_EXECUTED = ("MOVED", "TRYAGAIN", "CLUSTERDOWN", "CROSSSLOT", "LOADING", "ASK",
                "ERR the command cannot be sent")
LIES = ("lost", "gone", "torn", "future", "counter", "resurrected", "orphan")
GONE = -1


class Register:
    """A key with one writer."""

    __slots__ = ("name", "size", "acked", "sent", "unknown", "refused", "deletes", "generation")

    def __init__(self, name, size, generation=0):
        self.name, self.size, self.generation = name, size, generation
        self.acked = self.sent = 0
        self.unknown, self.refused, self.deletes = (), (), ()

    @property
    def key(self):
        return f"{self.name}:{self.generation}".encode()

    def value(self, serial):
        """The one right value of a serial."""
        head = b"%d %s " % (serial, self.key)
        head += b"%08x " % zlib.crc32(head)
        return head + (head[-9:] * (self.size // 9 + 1))[:max(0, self.size - len(head))]

    def next(self):
        """The next generation, of which nothing is written yet."""
        return Register(self.name, self.size, self.generation + 1)

    def judge(self, found, low):
        """Says what is wrong with a value that was read, if the serial `low` was acknowledged
        when the question was sent; None if nothing is."""
        deletes, sent = self.deletes, self.sent
        if found is None:
            if low == 0 or any(serial >= low for serial in deletes):
                return None
            return f"is gone, serial {low} was acknowledged"
        try:
            serial = int(found.split(b" ", 1)[0])
        except ValueError:
            return f"has a torn value {found[:60]!r}"
        if not 0 < serial <= sent:
            return f"shows serial {serial}, which was never sent (up to {sent} were)"
        if serial in self.refused:
            return f"shows serial {serial}, whose write was refused"
        if found != self.value(serial):
            return f"has a torn value for serial {serial}: {found[:60]!r} of {len(found)} bytes"
        if serial in deletes:
            return f"shows the serial {serial} of a DEL"
        if serial < low:
            return f"went back to serial {serial}, {low} was acknowledged"
        return None


class Counter:
    """A key that one client increments."""

    __slots__ = ("key", "acked", "unknown")

    def __init__(self, key):
        self.key, self.acked, self.unknown = key, 0, 0

    def judge_reply(self, found):
        """`found` is the reply to an INCR that is counted as acknowledged by the caller."""
        if not self.acked + 1 <= found <= self.acked + 1 + self.unknown:
            return f"INCR answered {found}, {self.acked} were acknowledged, {self.unknown} unknown"
        return None

    def judge(self, found):
        value = int(found or 0)
        if not self.acked <= value <= self.acked + self.unknown:
            return f"is {value}, {self.acked} were acknowledged, {self.unknown} unknown"
        return None


class ClusterClient:
    """A client that knows the slots: follows MOVED, asks again after TRYAGAIN."""

    def __init__(self, cluster, timeout=10, retry=10, rng=None):
        self.cluster, self.timeout, self.retry = cluster, timeout, retry
        self.rng = rng or random.Random(0)
        self.connections, self.slots, self.last = {}, {}, None
        self.followed = collections.Counter()

    def connection(self, address):
        found = self.connections.get(address)
        if found is None:
            found = self.connections[address] = Connection(address[1], self.timeout, address[0])
        return found

    def drop(self, address):
        if found := self.connections.pop(address, None):
            found.close()

    def refresh(self):
        """Asks any node for the slots."""
        nodes = self.cluster.answering()
        self.rng.shuffle(nodes)
        last = ConnectionError("no node is running")
        for node in nodes:
            address = (node.host, node.direct)
            try:
                reply = self.connection(address).call("CLUSTER", "SLOTS")
            except (OSError, ReplyError) as error:
                self.drop(address)
                last = error
                continue
            self.slots = {}
            for first, final, primary, *_ in reply:
                owner = (primary[0].decode() or node.host, primary[1])
                self.slots.update(dict.fromkeys(range(first, final + 1), owner))
            return
        raise ConnectionError(str(last))

    def address(self, key):
        slot = slot_of(key)
        if slot not in self.slots:
            self.refresh()
        if slot not in self.slots:
            raise ReplyError("CLUSTERDOWN no owner in CLUSTER SLOTS")
        return self.slots[slot]

    def call(self, *command):
        """Runs a command of one key. An error of the connection leaves the outcome unknown, but
        for one at connecting, which is CLUSTERDOWN."""
        key, until = command[1], time.monotonic() + self.retry
        address = self.address(key)
        while True:
            try:
                connection = self.connection(address)
            except OSError as error:
                self.slots = {}
                raise ReplyError(f"CLUSTERDOWN cannot connect: {type(error).__name__}") from error
            try:
                return connection.call(*command)
            except OSError:
                self.drop(address)
                self.slots, self.last = {}, address
                raise
            except ReplyError as error:
                code = str(error).split()[0]
                self.followed[code] += 1
                if time.monotonic() > until or code not in ("MOVED", "TRYAGAIN"):
                    raise
                if code == "TRYAGAIN":
                    time.sleep(0.003)
                    continue
                host, port = str(error).split()[2].rsplit(":", 1)
                address = (host or address[0], int(port))
                self.slots[slot_of(key)] = address

    def close(self):
        for address in list(self.connections):
            self.drop(address)


class Worker(threading.Thread):
    """Writes its own keys, and reads its own and others'."""

    def __init__(self, load, number, is_cluster_client):
        super().__init__(daemon=True)
        self.load, self.number, self.is_cluster_client = load, number, is_cluster_client
        self.rng = random.Random(load.seed * 1000 + number)
        self.registers, self.counters, self.retired = [], [], []
        self.connection, self.node, self.client = None, None, None
        self.connects = number
        self.starts, self.latencies = array.array("d"), array.array("d")
        self.done, self.expiring = 0, 0

    def run(self):
        try:
            interval = self.load.pipeline / self.load.rate_each if self.load.rate_each else 0
            due = time.monotonic() + self.rng.random() * interval
            while not self.load.stopping:
                wait = due - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                # A load that was held up is not made up for: the cluster gets no burst.
                due = max(due + interval, time.monotonic() - interval)
                self.cluster_turn() if self.is_cluster_client else self.plain_turn()
        except Exception as error:  # A bug of the campaign must not look like a quiet cluster.
            self.load.violation(f"worker {self.number} broke: {error!r}")

    # What is sent next: (command, what to do with the reply).

    def choose(self):
        draw, own = self.rng.random(), self.rng.randrange(len(self.registers))
        if draw < self.load.writes:
            return self.write(own)
        if draw < self.load.expiring:
            # Nobody deletes these; at the end they must be gone wherever they moved.
            self.expiring += 1
            key = f"{self.load.name}:ttl:{self.number}:{self.expiring % 50}"
            return ("SET", key, "x" * 20, "PX", self.rng.choice((5, 500, 1500))), Expiring(self)
        if draw < self.load.writes + 0.08:
            return self.increment(self.rng.choice(self.counters))
        if draw < self.load.writes + 0.12 and not self.is_cluster_client:
            return self.read_many()
        if draw < self.load.writes + 0.16 and not self.is_cluster_client:
            return self.write_many()
        if draw < self.load.writes + 0.4:
            register = self.registers[own]
        else:
            others = self.rng.choice(self.load.workers).registers
            register = others[self.rng.randrange(len(others))]
        return ("GET", register.key), Reading(self, register)

    def write(self, index):
        register = self.registers[index]
        register.sent += 1
        serial = register.sent
        if self.rng.random() < self.load.deletes:
            register.deletes += (serial,)
            return ("DEL", register.key), Writing(self, [(index, register, serial)], (0, 1))
        command = ("SET", register.key, register.value(serial))
        return command, Writing(self, [(index, register, serial)], (b"OK",))

    def write_many(self):
        indices = self.rng.sample(range(len(self.registers)), min(3, len(self.registers)))
        written, arguments = [], []
        for index in indices:
            register = self.registers[index]
            register.sent += 1
            written.append((index, register, register.sent))
            arguments += [register.key, register.value(register.sent)]
        return ("MSET", *arguments), Writing(self, written, (b"OK",))

    def read_many(self):
        registers = [self.rng.choice(self.rng.choice(self.load.workers).registers)
                     for _ in range(3)]
        return ("MGET", *(r.key for r in registers)), ManyReading(self, registers)

    def increment(self, counter):
        return ("INCR", counter.key), Counting(self, counter)

    def plain_turn(self):
        """A pipeline through any node."""
        if self.connection is None and not self.connect():
            return
        chosen = [self.choose() for _ in range(self.load.pipeline)]
        begun, answered = time.monotonic(), 0
        try:
            self.connection.send(*(command for command, _ in chosen))
            for command, then in chosen:
                reply = self.connection.read()
                answered += 1
                self.took(command, then, reply)
            self.record(begun, answered)
        except (OSError, ValueError) as error:
            self.load.lost(error, self.node)
            self.record(begun, answered)
            for _, then in chosen[answered:]:
                then.no_answer()
            self.disconnect()

    def cluster_turn(self):
        if self.client is None:
            self.client = ClusterClient(self.load.cluster, self.load.timeout, rng=self.rng)
        command, then = self.choose()
        begun = time.monotonic()
        try:
            try:
                self.took(command, then, self.client.call(*command))
            except ReplyError as error:
                self.took(command, then, error)
            self.record(begun, 1)
        except (OSError, ValueError) as error:
            self.load.lost(error, self.load.node_at(self.client.last))
            self.record(begun, 0)
            then.no_answer()
            time.sleep(0.02)

    def took(self, command, then, reply):
        if isinstance(reply, ReplyError):
            text = str(reply)
            kind = "cluster client" if self.is_cluster_client else "plain client"
            self.load.error(f"{text} (to {command[0]} of a {kind})")
            if text.startswith(NOT_EXECUTED):
                then.refused()
            else:
                then.no_answer()
            if self.load.pipeline == 1 or self.is_cluster_client:
                time.sleep(0.005)
        else:
            then.answered(reply)

    def connect(self):
        nodes = self.load.cluster.answering()
        if nodes:
            # Nodes are taken in turn, so that each has clients of its own while all run.
            self.connects += 1
            node = nodes[self.connects % len(nodes)]
            try:
                self.connection, self.node = node.connect(self.load.timeout), node
                return True
            except OSError as error:
                self.load.error(f"connecting: {type(error).__name__}")
        time.sleep(0.05)
        return False

    def disconnect(self):
        if self.connection:
            self.connection.close()
            self.connection = None
        time.sleep(0.02)

    def record(self, begun, answered):
        self.starts.append(begun)
        self.latencies.append(time.monotonic() - begun)
        self.done += answered

    def retire(self, index, register):
        """A write had no answer: what is read of the key from now on cannot be judged by later
        ones, so it gets none."""
        if self.registers[index] is register:
            self.retired.append(register)
            self.registers[index] = register.next()


class Writing:
    """What a reply to SET, DEL or MSET means."""

    def __init__(self, worker, written, right):
        self.worker, self.written, self.right = worker, written, right

    def answered(self, reply):
        if reply not in self.right:
            self.worker.load.violation(f"a write of {self.written[0][1].key} answered {reply!r}")
        for _, register, serial in self.written:
            register.acked = max(register.acked, serial)

    def refused(self):
        if len(self.written) > 1:
            # Some parts may have been executed.
            return self.no_answer()
        for _, register, serial in self.written:
            register.refused += (serial,)

    def no_answer(self):
        for index, register, serial in self.written:
            register.unknown += (serial,)
            self.worker.retire(index, register)


class Expiring:
    """A key with a deadline: its value is of no interest."""

    def __init__(self, worker):
        self.worker = worker

    def answered(self, reply):
        if reply != b"OK":
            self.worker.load.violation(f"SET with PX answered {reply!r}")

    def refused(self):
        pass

    no_answer = refused


class Reading:
    def __init__(self, worker, register):
        self.worker, self.register, self.low = worker, register, register.acked

    def answered(self, reply):
        register = self.register
        # Of its own keys a client knows the order: replies are in request order.
        low = self.low
        if register in self.worker.registers and not register.unknown:
            low = register.acked
        if wrong := register.judge(reply, low):
            self.worker.load.violation(f"{register.key.decode()} (partition "
                                       f"{partition_of(register.key)}) {wrong}")

    def refused(self):
        pass

    no_answer = refused


class ManyReading:
    def __init__(self, worker, registers):
        self.parts = [Reading(worker, register) for register in registers]

    def answered(self, reply):
        for part, value in zip(self.parts, reply):
            part.answered(value)

    def refused(self):
        pass

    no_answer = refused


class Counting:
    def __init__(self, worker, counter):
        self.worker, self.counter = worker, counter

    def answered(self, reply):
        if wrong := self.counter.judge_reply(reply):
            self.worker.load.violation(f"{self.counter.key.decode()}: {wrong}")
        # What had no answer before may have been counted in between.
        done = max(reply - self.counter.acked - 1, 0)
        self.counter.unknown -= min(done, self.counter.unknown)
        self.counter.acked = max(reply, self.counter.acked + 1)

    def refused(self):
        pass

    def no_answer(self):
        self.counter.unknown += 1


class Prober(threading.Thread):
    """Asks all direct ports to write one key: two nodes that accept in turn are two owners."""

    def __init__(self, load, keys=40):
        super().__init__(daemon=True)
        self.load, self.rng = load, random.Random(load.seed + 77)
        self.keys = [f"{load.name}:probe:{i}".encode() for i in range(keys)]
        # For each key the last acceptances: (node, sent, answered).
        self.accepted = {key: collections.deque(maxlen=6) for key in self.keys}
        self.connections, self.asked, self.accepts = {}, 0, 0

    def run(self):
        while not self.load.stopping:
            for key in self.rng.sample(self.keys, len(self.keys)):
                nodes = self.load.cluster.answering()
                self.rng.shuffle(nodes)
                for node in nodes:
                    self.ask(node, key)
                    if self.load.stopping:
                        return
            time.sleep(0.01)

    def ask(self, node, key):
        sent = time.monotonic()
        try:
            connection = self.connections.get(node.number)
            if connection is None:
                connection = self.connections[node.number] = node.connect(0.5, direct=True)
            reply = connection.call("SET", key, b"x")
        except ReplyError:
            reply = None
        except OSError:
            if connection := self.connections.pop(node.number, None):
                connection.close()
            reply = None
        self.asked += 1
        if reply == b"OK":
            self.accepts += 1
            history = self.accepted[key]
            history.append((node.number, sent, time.monotonic()))
            # A, then B, then A and B again, each sent when the one before was answered.
            who = [entry[0] for entry in history]
            if len(who) >= 4 and who[-1] == who[-3] != who[-2] == who[-4] \
                    and history[-1][2] - history[-4][1] < TURN:
                self.load.violation(f"nodes {who[-1]} and {who[-2]} accept writes of partition "
                                    f"{partition_of(key)} in turn: {list(history)}")


class Load:
    """Clients that run until they are stopped, and what they know."""

    def __init__(self, cluster, seed, name="k", clients=6, cluster_clients=3, keys=300,
                 value_bytes=(100,), rate=2000, pipeline=1, timeout=5, writes=0.4, deletes=0.02,
                 tags=None, probe=True, expiring=0.03):
        """`tags`: hash tags that the keys have in turn, so that they are in chosen partitions.
        `writes`: the part of commands that are single writes."""
        self.cluster, self.seed, self.name = cluster, seed, name
        self.pipeline, self.timeout = pipeline, timeout
        self.writes, self.deletes, self.expiring = writes, deletes, expiring
        count = clients + cluster_clients
        self.rate_each = rate / count if rate else 0
        self.stopping, self.violations, self.errors = False, [], collections.Counter()
        self.lock, self.marks, self.closed = threading.Lock(), [], 0
        self.workers = [Worker(self, number, number >= clients) for number in range(count)]
        rng = random.Random(seed)
        for number in range(max(keys, count)):
            tag = f"{{{tags[number % len(tags)]}}}" if tags else ""
            register = Register(f"{name}:{tag}{number}", rng.choice(value_bytes))
            self.workers[number % count].registers.append(register)
        for worker in self.workers:
            for i in range(4):
                tag = f"{{{tags[i % len(tags)]}}}" if tags else ""
                worker.counters.append(Counter(f"{name}:{tag}n{worker.number}:{i}".encode()))
        self.prober = Prober(self) if probe else None

    def preload(self, batch_bytes=1 << 20):
        """Writes every register once, in pipelines."""
        connection = self.cluster.answering()[0].connect(60)
        batch, size = [], 0
        registers = [register for worker in self.workers for register in worker.registers]
        for number, register in enumerate(registers):
            register.sent += 1
            batch.append((register, ("SET", register.key, register.value(register.sent))))
            size += register.size
            if size >= batch_bytes or len(batch) >= 2000 or number == len(registers) - 1:
                connection.send(*(command for _, command in batch))
                for register, _ in batch:
                    if (reply := connection.read()) != b"OK":
                        raise Failed(f"loading {register.key} answered {reply!r}")
                    register.acked = register.sent
                batch, size = [], 0
        connection.close()

    def start(self):
        self.mark("before")
        for worker in self.workers:
            worker.start()
        if self.prober:
            self.prober.start()
        return self

    def mark(self, name):
        """Begins a phase, of which latencies are told apart."""
        self.marks.append((time.monotonic(), name))

    def stop(self, limit=60):
        self.mark("after")
        self.stopping = True
        for thread in self.workers + ([self.prober] if self.prober else []):
            thread.join(limit)
            if thread.is_alive():
                self.violation("a client hangs: no answer, and no end of its connection")

    def violation(self, text):
        with self.lock:
            if len(self.violations) < VIOLATIONS_MAX:
                self.violations.append(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}")

    def node_at(self, address):
        """The node whose direct port this is."""
        return next((node for node in self.cluster.nodes
                     if (node.host, node.direct) == address), None)

    def lost(self, error, node):
        """A connection has ended; that a node closes it that leaves the cluster is no error."""
        if node is not None and node.is_leaving:
            with self.lock:
                self.closed += 1
        else:
            self.error(f"connection: {type(error).__name__}")

    def error(self, text):
        with self.lock:
            self.errors[" ".join("#" if any(c.isdigit() for c in word) else word
                                 for word in text.split())[:140]] += 1

    def done(self):
        return sum(worker.done for worker in self.workers)

    def latencies(self):
        """For each phase: operations, p50, p99 and longest in ms."""
        bounds = self.marks + [(float("inf"), "")]
        phases = {}
        for (begin, name), (end, _) in zip(bounds, bounds[1:]):
            found = sorted(latency for worker in self.workers
                           for start, latency in zip(worker.starts, worker.latencies)
                           # A command that spans the begin of a phase suffers from it.
                           if start < end and start + latency >= begin and start >= begin - 30
                           and (start >= begin or name != "after"))
            if found:
                at = lambda part: found[min(len(found) - 1, int(len(found) * part))] * 1000
                phases[name] = (len(found), at(0.5), at(0.99), found[-1] * 1000)
        return phases

    def latency_text(self):
        return "; ".join(f"{name}: {count} turns, p50 {p50:.1f} p99 {p99:.1f} max {top:.0f} ms"
                         for name, (count, p50, p99, top) in self.latencies().items()
                         if name != "after")

    def error_text(self):
        return ", ".join(f"{count}x {text}" for text, count in self.errors.most_common(6)) or "none"

    def all_registers(self):
        return [register for worker in self.workers for register in worker.registers + worker.retired]

    def check(self, nodes=None, extra_keys=(), want_no_errors=False):
        """Compares what is left with what is known. Call it when the cluster has settled, and
        nothing else writes. Returns the number of keys."""
        nodes = nodes or self.cluster.answering()
        if want_no_errors and self.errors:
            self.violation(f"clients saw errors: {self.error_text()}")
        self.remove_probes(nodes[0])
        registers = self.all_registers()
        counters = [counter for worker in self.workers for counter in worker.counters]
        keys = [register.key for register in registers] + [counter.key for counter in counters]
        first = None
        for node in nodes:
            found = self.read_all(node, keys)
            if first is None:
                first = found
                self.judge_all(found, registers, counters)
            elif found != first:
                differ = [key for key in keys if found[key] != first[key]]
                self.violation(f"read through nodes {nodes[0].number} and {node.number}, "
                               f"{len(differ)} keys differ, as {differ[0]}: "
                               f"{cut(first[differ[0]])} and {cut(found[differ[0]])}")
        self.read_as_cluster_client(first, keys)
        there = {key for key in keys if first[key] is not None} | set(extra_keys)
        self.count_keys(nodes, there)
        return len(there)

    def remove_probes(self, node):
        if self.prober:
            node.ask("DEL", *self.prober.keys, timeout=30)

    def read_all(self, node, keys):
        connection, found = node.connect(60), {}
        for begin in range(0, len(keys), 200):
            part = keys[begin:begin + 200]
            try:
                found.update(zip(part, connection.call("MGET", *part)))
            except ReplyError as error:
                self.violation(f"MGET through node {node.number} at the end: {error}")
                found.update(dict.fromkeys(part, b"(error)"))
        connection.close()
        return found

    def judge_all(self, found, registers, counters):
        for register in registers:
            wrong = register.judge(found[register.key], register.acked)
            if wrong:
                self.violation(f"at the end {register.key.decode()} (partition "
                               f"{partition_of(register.key)}) {wrong}")
        for counter in counters:
            if wrong := counter.judge(found[counter.key]):
                self.violation(f"at the end {counter.key.decode()} {wrong}")

    def read_as_cluster_client(self, first, keys, most=2000):
        client, rng = ClusterClient(self.cluster, 30), random.Random(self.seed)
        for key in keys if len(keys) <= most else rng.sample(keys, most):
            try:
                found = client.call("GET", key)
            except (ReplyError, OSError) as error:
                found = repr(error)
            if found != first[key]:
                self.violation(f"a cluster client reads {key} as {cut(found)}, others as "
                               f"{cut(first[key])}")
        client.close()

    def count_keys(self, nodes, there):
        # Keys that have expired are counted until they are swept.
        end = time.monotonic() + 15
        while time.monotonic() < end and nodes[0].ask("DBSIZE", timeout=30) != len(there):
            time.sleep(0.2)
        totals = [node.ask("DBSIZE", timeout=30) for node in nodes]
        if set(totals) != {len(there)}:
            self.violation(f"DBSIZE over the cluster is {totals}, there are {len(there)} keys")
        parts = [node.ask("DBSIZE", timeout=30, direct=True) for node in nodes]
        if sum(parts) != len(there):
            self.violation(f"DBSIZE of the nodes is {parts}, together {sum(parts)}, there are "
                           f"{len(there)} keys")
        for node in nodes[:1] + nodes[-1:]:
            scanned = scan(node)
            if missing := there - scanned:
                self.violation(f"SCAN through node {node.number} misses {len(missing)} keys, as "
                               f"{min(missing)} (partition {partition_of(min(missing))})")
            if orphans := scanned - there:
                self.violation(f"SCAN through node {node.number} meets {len(orphans)} keys that "
                               f"nobody wrote, as {min(orphans)}")

    def verdict(self):
        """Raises what was found wrong."""
        if self.violations:
            raise Failed(f"{len(self.violations)} violations: " + " | ".join(self.violations[:6]))


def cut(value):
    return value if value is None or len(value) < 60 else value[:60] + type(value)()


def scan(node):
    connection, cursor, found = node.connect(60), b"0", set()
    while True:
        cursor, keys = connection.call("SCAN", cursor, "COUNT", 500)
        found.update(keys)
        if cursor == b"0":
            connection.close()
            return found


def tell_lie(lie, load):
    """Does to the cluster what a bug would do."""
    node = load.cluster.nodes[0]
    register = next(r for r in load.all_registers()
                    if r.acked > 2 and not r.unknown and r.acked not in r.deletes
                    and r.acked - 1 not in r.deletes)
    counter = next(c for w in load.workers for c in w.counters if c.acked > 2)
    if lie == "lost":
        node.ask("SET", register.key, register.value(register.acked - 1))
    elif lie == "gone":
        node.ask("DEL", register.key)
    elif lie == "torn":
        value = bytearray(register.value(register.acked))
        value[-1] ^= 1
        node.ask("SET", register.key, bytes(value))
    elif lie == "future":
        node.ask("SET", register.key, register.value(register.sent + 1))
    elif lie == "counter":
        node.ask("DECR", counter.key)
    elif lie == "resurrected":
        serial = register.sent = register.acked = register.acked + 1
        register.deletes += (serial,)
        # The key was deleted, and is there.
    elif lie == "orphan":
        node.ask("SET", "an orphan", "x")


def self_test(args, lie):
    """A run without faults; then a lie, if there is one. Returns what the checker says."""
    with Cluster(args.node, seed=args.seed, keep=args.keep) as cluster:
        cluster.start(3)
        load = Load(cluster, args.seed, keys=120, rate=args.rate, pipeline=3).start()
        time.sleep(args.seconds)
        load.stop()
        cluster.wait_settled()
        said = []
        for each in lie:
            if each:
                tell_lie(each, load)
            load.violations.clear()
            load.check(want_no_errors=each is None)
            said.append((each, list(load.violations), load.done(), load.latency_text()))
            if each:
                # What was made wrong is put right, but for what cannot be.
                for register in load.all_registers():
                    gone = not register.acked or register.acked in register.deletes
                    command = ("DEL", register.key) if gone else (
                        "SET", register.key, register.value(register.acked))
                    cluster.nodes[0].ask(*command)
                for worker in load.workers:
                    for counter in worker.counters:
                        if counter.acked:
                            cluster.nodes[0].ask("SET", counter.key, counter.acked)
                cluster.nodes[0].ask("DEL", "an orphan")
        return said


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_cluster_options(parser)
    parser.add_argument("--lie", choices=LIES, help="tell this lie, and FAIL")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rate", type=float, default=1500)
    args = require(parser.parse_args())
    print(f"seed {args.seed}", flush=True)
    try:
        said = self_test(args, [args.lie] if args.lie else [None, *LIES])
    except Failed as failed:
        print(f"FAIL cluster_check: {failed}")
        sys.exit(1)
    failures = 0
    for lie, violations, done, latency in said:
        if args.lie:
            failures += bool(violations)
            print(f"{'FAIL' if violations else 'PASS'} with the lie '{lie}': {violations}")
        elif lie is None:
            failures += bool(violations)
            print(f"{'FAIL' if violations else 'PASS'} no fault: {done} operations, {latency}, "
                  f"violations: {violations or 'none'}")
        else:
            failures += not violations
            print(f"{'PASS' if violations else 'FAIL'} the lie '{lie}' is "
                  f"{'found: ' + violations[0][9:] if violations else 'NOT found'}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
