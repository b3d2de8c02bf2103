#!/usr/bin/env python3
"""Faults in a cluster under load: crashes at every step of a move, pauses, cuts, wrong input.

After each: every slot has one owner within --within seconds, no acknowledged write is lost, no key
is there twice, nobody's reply was wrong. What clients were refused meanwhile is counted.

  scripts/cluster_faults.py --short --node target/debug/distcache-node     # about 90 s
  scripts/cluster_faults.py --node target/debug/distcache-node             # all
  scripts/cluster_faults.py kill-leader cut-one-way-out …                  # some
  scripts/cluster_faults.py --list

Cuts need root and network namespaces (cluster_net.py); where there are none, they are SKIPPED,
which is said. Fault points are in debug builds only. Nodes run with --fsync always.
"""
import argparse
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import cluster_net
from cluster_check import Load
from cluster_nodes import Cluster, add_cluster_options, require
from nodes import Connection, Failed, ReplyError, free_port

# Longer than a lease, 4 s, with what clocks may differ.
LONG_PAUSE = 7.0
LEASE_OVER = 4.4
FENCE_TRIES = 5
# What clients may hear while something is wrong. All else is a bug of the node.
ALLOWED = re.compile(r"CLUSTERDOWN|TRYAGAIN|MOVED|LOADING|ERR the node that serves the key gave no "
                     r"answer|ERR the command cannot be sent|connection: (Connection\w*Error|"
                     r"BrokenPipeError)|connecting: ConnectionRefusedError")
# Faults of the network and pauses: there a client may also wait in vain.
ALLOWED_SILENT = re.compile(ALLOWED.pattern + r"|connection: TimeoutError|connecting: TimeoutError"
                            r"|connecting: OSError")
POINTS = ("source.copying", "source.frozen", "source.acknowledged", "source.switched",
          "target.received", "target.last", "target.switched", "leader.proposed",
          "leader.promoted")


class Skipped(Exception):
    """The case cannot be run here."""


class Run:
    """One case: a cluster of three under load, and a fourth node that brings moves."""

    def __init__(self, args, name, nodes=3, network=False, environments=None, silent=False,
                 flags=("--fsync", "always"), late_shards=None, **load):
        self.args, self.name, self.silent = args, name, silent
        self.rng = random.Random(f"{args.seed} {name}")
        self.net = None
        self.cluster = Cluster(args.node, list(flags), args.seed, keep=args.keep)
        try:
            options = [{} for _ in range(nodes + 1)]
            if network:
                if why := cluster_net.is_possible():
                    raise Skipped(why)
                self.net = cluster_net.Network(nodes + 1, args.seed)
                options = [{"host": self.net.host(i), "prefix": self.net.prefix(i)}
                           for i in range(nodes + 1)]
                self.cluster.flags += ["--protected-mode", "no", "--cluster-secret", "campaign"]
            for number, each in enumerate(options):
                node = self.cluster.add(**each)[0]
                node.environment = (environments or {}).get(number, {})
            self.cluster.nodes[nodes].shards = late_shards
            self.nodes, self.late = self.cluster.nodes[:nodes], self.cluster.nodes[nodes]
            self.load_options = {"clients": 5, "cluster_clients": 3, "rate": 600, "keys": 240,
                                 "timeout": 15, "pipeline": 2, **load}
            self.said = []
        except BaseException:
            self.close()
            raise

    def start(self, voters=False):
        """With `voters`, three nodes vote: until then the first one is a majority by itself."""
        for node in self.nodes:
            node.start()
        self.cluster.wait_settled(self.nodes, 60)
        if voters:
            self.until(lambda: any(re.search(r"voters changed voters=\w+ \w+ \w+", node.said(10000))
                                   for node in self.nodes), 60, "one node alone votes")
        self.start_load()

    def start_load(self):
        self.load = Load(self.cluster, self.args.seed, **self.load_options)
        self.load.preload()
        self.load.start()
        time.sleep(0.5)

    def sleep(self, low, high):
        time.sleep(self.rng.uniform(low, high))

    def until_moving(self, limit=20):
        """Starts the fourth node, and waits for its first partitions."""
        before = len(self.cluster.moves()[0])
        self.late.start()
        self.until(lambda: len(self.cluster.moves()[0]) > before, limit, "nothing moves")

    def until(self, condition, limit, why):
        end = time.monotonic() + limit
        while not condition():
            if time.monotonic() > end:
                raise Failed(f"{why} within {limit} s")
            time.sleep(0.01)

    def finish(self, nodes=None):
        """All is well again: waits until the cluster is whole, and checks it."""
        nodes = nodes or [node for node in self.cluster.nodes if node.is_running()]
        whole = self.cluster.wait_settled(nodes, self.args.within, shares=False)
        shared = 0.0
        try:
            shared = self.cluster.wait_settled(nodes, self.args.within)
        except Failed as failed:
            done, cancelled = self.cluster.moves()
            self.load.violation(f"moves do not end: {failed}; {len(done)} done, {len(cancelled)} "
                                f"cancelled, the last: {cancelled[-1:]}")
        time.sleep(0.5)
        self.load.stop(30)
        allowed = ALLOWED_SILENT if self.silent else ALLOWED
        for text, count in self.load.errors.items():
            if not allowed.match(text):
                self.load.violation(f"{count} clients were told: {text}")
        keys = self.load.check(nodes)
        for line in self.cluster.ended_badly():
            self.load.violation(line)
        self.load.verdict()
        done, failed = self.cluster.moves()
        self.said.append(f"whole after {whole:.1f} s, even after {shared:.1f} s more; {len(done)} "
                         f"moves, {len(failed)} cancelled; {keys} keys, {self.load.done()} "
                         f"operations; refused: {self.load.error_text()}")
        return ". ".join(self.said)

    def close(self):
        if hasattr(self, "load"):
            self.load.stopping = True
        self.cluster.remove()
        if self.net:
            self.net.remove()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is Failed and self.args.verbose:
            for node in self.cluster.nodes:
                said = [line for line in node.lines() if "partition moved" not in line]
                print(f"--- node {node.number}:", *said[-12:], sep="\n", file=sys.stderr)
        self.close()


def kill_and_return(run, node, low=0.3, high=3.0):
    node.kill()
    run.sleep(low, high)
    node.start()


def hurt(run, which):
    """The node that a fault is to hit; the source is one of the first nodes that does not lead."""
    if which == "target":
        return run.late
    leader = run.cluster.leader()
    return leader if which == "leader" else next(node for node in run.nodes if node is not leader)


# Cases: functions of the arguments that return what they found. At first the first node leads,
# since it has created the cluster.


def killing(which, delay):
    def case(args, name):
        with Run(args, name) as run:
            run.start(voters=which == "leader")
            run.until_moving()
            run.sleep(*delay)
            node = hurt(run, which)
            kill_and_return(run, node)
            return run.finish()
    return case


def killing_again(args, name, rounds=6):
    """Kills one node after the other while all of them give and take."""
    with Run(args, name) as run:
        run.start(voters=True)
        run.until_moving()
        for _ in range(rounds):
            node = run.rng.choice(run.cluster.nodes)
            kill_and_return(run, node, 0.0, 2.0)
            run.sleep(0.2, 3.0)
        return run.finish()


def killing_long_values(args, name, rounds=4):
    """The target of values that take several messages dies, and has another number of shards."""
    with Run(args, name, late_shards=3, value_bytes=(100, 300_000, 300_000, 6_000_000), keys=60,
             rate=120, pipeline=1, timeout=30) as run:
        run.start()
        run.until_moving()
        for _ in range(rounds):
            run.sleep(0.1, 1.5)
            kill_and_return(run, run.late, 0.0, 1.0)
            run.sleep(1, 4)
        return run.finish()


def stop_all(args, name):
    """All nodes get SIGTERM in the middle of moves, under the default policy of the log."""
    with Run(args, name, flags=()) as run:
        run.start()
        run.until_moving()
        run.sleep(0, 1.5)
        for node in run.cluster.nodes:
            node.process.send_signal(signal.SIGTERM)
        for node in run.cluster.nodes:
            if (code := node.wait_end(30)) != 0:
                run.load.violation(f"SIGTERM ended node {node.number} with {code}: {node.said(4)}")
                node.kill()
        for node in run.rng.sample(run.cluster.nodes, len(run.cluster.nodes)):
            node.start()
        return run.finish()


def two_join_and_die(args, name):
    """Two nodes join at a time; both are killed while they receive."""
    with Run(args, name) as run:
        run.start()
        second = run.cluster.add()[0]
        second.shards = 1
        second.start()
        run.until_moving()
        run.sleep(0, 1)
        for node in (run.late, second):
            node.kill()
        run.sleep(0, 5)
        for node in (run.late, second):
            node.start()
        return run.finish()


def at_point(point, role):
    """The process ends at a point of a move, and comes back."""
    def case(args, name):
        if point.encode() not in open(args.node, "rb").read():
            raise Skipped(f"this build has no fault point {point}")
        fault = {"DISTCACHE_FAULT_POINT": point}
        with Run(args, name) as run:
            if role == "source":
                # Not the leader; it gives nothing while the first three share.
                run.nodes[1].environment = fault
                dying = run.nodes[1]
            elif role == "target":
                run.late.environment = fault
                dying = run.late
            else:
                dying = run.nodes[0]
            run.start(voters=role == "leader")
            if role == "leader":
                # The leader is the source as well: it must not die while the first three share.
                dying.environment = fault
                kill_and_return(run, dying, 0, 0)
                run.cluster.wait_settled(run.nodes, 60)
            run.late.start()
            run.until(lambda: not dying.is_running(), 30, f"{point} was not reached")
            if dying.process.returncode != -signal.SIGKILL:
                raise Failed(f"the process ended with {dying.process.returncode}: {dying.said(4)}")
            dying.environment = {}
            run.sleep(0.2, 5.0)
            dying.start()
            return run.finish()
    return case


def pausing(which):
    def case(args, name):
        with Run(args, name, silent=True) as run:
            run.start(voters=which == "leader")
            run.until_moving()
            run.sleep(0, 1)
            node = hurt(run, which)
            node.pause()
            time.sleep(LONG_PAUSE)
            node.go_on()
            return run.finish()
    return case


def restart_all(new_ports):
    def case(args, name):
        with Run(args, name) as run:
            run.start()
            run.until_moving()
            run.sleep(0, 1.5)
            # The load must not find a part of the cluster with ports of the other part.
            for node in run.cluster.nodes:
                node.signal(signal.SIGKILL)
            for node in run.cluster.nodes:
                node.kill()
            if new_ports:
                run.cluster.new_ports()
            run.sleep(0, 1)
            for node in run.rng.sample(run.cluster.nodes, len(run.cluster.nodes)):
                node.start()
                run.sleep(0, 0.5)
            return run.finish()
    return case


def rolling_stop(args, name):
    """SIGTERM and a start again, one after the other."""
    with Run(args, name) as run:
        run.start()
        run.until_moving()
        for node in run.cluster.nodes:
            node.process.send_signal(signal.SIGTERM)
            if (code := node.wait_end(30)) != 0:
                raise Failed(f"SIGTERM ended node {node.number} with {code}: {node.said(4)}")
            node.start()
            run.cluster.wait_settled(run.cluster.nodes, args.within, shares=False)
        return run.finish()


def cutting(which, ways, seconds=9.0):
    """A node is cut off, wholly or one way, for longer than its lease."""
    def case(args, name):
        with Run(args, name, network=True, silent=True) as run:
            run.start(voters=True)
            run.until_moving()
            run.sleep(0, 1)
            node = hurt(run, which)
            own = own_key(run, node)
            run.net.isolate(node.number, ways)
            # A lease is asked for at least every second: it is over for sure a while later.
            time.sleep(LEASE_OVER + 1.5)
            if len(ways) == 2 or "out" in ways:
                refuses(run, node, own)
            time.sleep(max(0, seconds - LEASE_OVER - 1.5))
            run.net.heal()
            return run.finish()
    return case


def own_key(run, node):
    """A key that this node serves, or None."""
    connection = node.connect(5, direct=True)
    for number in range(4000):
        connection.send(("SET", f"{run.load.name}:probe:{number % 40}", "x"))
        if connection.read() == b"OK":
            return f"{run.load.name}:probe:{number % 40}"
        if number == 40:
            break
    return None


def refuses(run, node, key):
    """A node that no majority can tell its lease answers neither reads nor writes."""
    if key is None:
        run.said.append("it had no partition to ask for")
        return
    for command in (("GET", key), ("SET", key, "y")):
        try:
            reply = node.ask(*command, timeout=8, direct=True)
        except ReplyError as error:
            reply = str(error)
        except OSError as error:
            reply = repr(error)
        if not isinstance(reply, str) or not reply.startswith(("CLUSTERDOWN", "MOVED", "TRYAGAIN")):
            run.load.violation(f"node {node.number} is cut off for longer than a lease, and "
                               f"answers {command[0]} with {reply!r}")


def cut_pair(args, name):
    """The joining node and a source do not reach each other; a third reaches both."""
    with Run(args, name, network=True, silent=True) as run:
        run.start(voters=True)
        run.net.cut(1, 3)
        run.net.cut(3, 1)
        run.late.start()
        time.sleep(10)
        run.net.heal()
        return run.finish()


def flapping(args, name, rounds=8):
    """Cuts of all kinds that come and go."""
    with Run(args, name, network=True, silent=True) as run:
        run.start(voters=True)
        run.until_moving()
        for _ in range(rounds):
            number = run.rng.randrange(4)
            run.net.isolate(number, run.rng.choice((("in",), ("out",), ("in", "out"))))
            run.sleep(0.2, 3.0)
            run.net.heal()
            run.sleep(0.1, 2.0)
        return run.finish()


def slow(delay, drop):
    def case(args, name):
        with Run(args, name, network=True, silent=True) as run:
            run.start()
            run.net.all(drop=drop, delay=delay)
            run.late.start()
            time.sleep(12)
            run.net.heal()
            return run.finish()
    return case


# Wrong input: each is refused with a text that says what to do.


def expect_said(node, pattern, limit, ends):
    """Waits until the log says so; `ends` is whether the process then ends with an error."""
    end = time.monotonic() + limit
    while not re.search(pattern, node.said(10000)):
        if time.monotonic() > end:
            raise Failed(f"its log does not say /{pattern}/: {node.said(4)}")
        time.sleep(0.05)
    line = next(line for line in reversed(node.lines()) if re.search(pattern, line))
    if ends:
        code = node.wait_end(limit)
        if code is None:
            node.kill()
            raise Failed(f"it goes on after saying: {line}")
        if code <= 0:
            raise Failed(f"it ended with {code} after saying: {line}")
    elif not node.is_running():
        raise Failed(f"it ended, but was to wait: {line}")
    return line[:400]


def alone(args, seeds, **options):
    """A node of its own with this list of seeds."""
    cluster = Cluster(args.node, seed=args.seed, keep=args.keep)
    node = cluster.add()[0]
    node.start(seeds=seeds(node), **options)
    return cluster, node


def wrong_secret(args, name):
    with Cluster(args.node, seed=args.seed, keep=args.keep) as cluster:
        cluster.add(2)
        for node, secret in zip(cluster.nodes, ("right", "wrong")):
            node.start({"DISTCACHE_CLUSTER_SECRET": secret},
                       seeds=f"127.0.0.1:{cluster.nodes[0].bus}")
            cluster.wait_settled(cluster.nodes[:1], 30)
        said = expect_said(cluster.nodes[1], r"secret", 20, ends=False)
        expect_said(cluster.nodes[0], r"refused a node.*secret", 5, ends=False)
        if "2" == cluster.nodes[0].info()["cluster_known_nodes"]:
            raise Failed("it was taken in")
        return said


def no_secret(args, name):
    with Cluster(args.node, seed=args.seed, keep=args.keep) as cluster:
        cluster.add(2)
        cluster.nodes[0].start({"DISTCACHE_CLUSTER_SECRET": "right"})
        cluster.nodes[1].start(seeds=f"127.0.0.1:{cluster.nodes[0].bus}")
        return expect_said(cluster.nodes[1], r"secret", 20, ends=False)


def copied_directory(of_seed):
    """The directory is copied while its node stands, and both are started."""
    def case(args, name):
        with Cluster(args.node, ["--fsync", "always"], seed=args.seed, keep=args.keep,
                     seeds=2) as cluster:
            cluster.start(3)
            load = Load(cluster, args.seed, rate=300)
            load.preload()
            original = cluster.nodes[0 if of_seed else 2]
            original.kill()
            copy = cluster.add()[0]
            shutil.copytree(original.directory, copy.directory)
            original.start()
            cluster.wait_settled(cluster.nodes[:3], 60, shares=False)
            load.start()
            time.sleep(1)
            copy.start()
            ended, end = None, time.monotonic() + 10
            while time.monotonic() < end and ended is None:
                ended = copy.wait_end(0.5)
                if not original.is_running():
                    load.violation(f"the original ended: {original.said(2)}")
                    break
            load.stop()
            if ended is None:
                load.violation(f"the copy goes on after 10 s; it says: {copy.said(3)}")
                load.violation(f"the original says: {original.said(2)}")
                copy.kill()
            elif ended <= 0 or not re.search(r"must not be copied|was copied", copy.said(20)):
                load.violation(f"the copy ended with {ended}: {copy.said(3)}")
            # What the copy did to the cluster.
            try:
                cluster.wait_settled(cluster.nodes[:3], 60, shares=False)
                load.check(cluster.nodes[:3])
            except (Failed, OSError, ReplyError) as error:
                load.violation(f"afterwards: {error}")
            load.verdict()
            return f"{copy.said(1)}; clients meanwhile: {load.error_text()}"
    return case


def seed_redis(args, name):
    if not shutil.which("redis-server"):
        raise Skipped("no redis-server")
    port = free_port()
    redis = subprocess.Popen(["redis-server", "--port", str(port), "--save", "", "--dir", "/tmp"],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cluster = None
    try:
        cluster, node = alone(args, lambda node: f"127.0.0.1:{node.bus},127.0.0.1:{port}")
        return expect_said(node, rf"127\.0\.0\.1:{port}.*(no|not)\b.*distcache", 20, ends=False)
    finally:
        redis.kill()
        redis.wait()
        if cluster:
            cluster.remove()


def seed_silent(args, name):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        port = silent.getsockname()[1]
        cluster, node = alone(args, lambda node: f"127.0.0.1:{node.bus},127.0.0.1:{port}")
        with cluster:
            return expect_said(node, rf"waiting for a cluster.*127\.0\.0\.1:{port}", 30, ends=False)


def seed_client_port(args, name):
    """The port for clients instead of the bus: the likeliest mistake."""
    with Cluster(args.node, seed=args.seed, keep=args.keep) as cluster:
        first, second = cluster.add(2)
        first.start(seeds=f"127.0.0.1:{first.bus}")
        cluster.wait_settled([first], 30)
        second.start(seeds=f"127.0.0.1:{first.port}")
        return expect_said(second, rf"127\.0\.0\.1:{first.port}.*(no|not)\b", 20, ends=False)


def seed_nobody(args, name):
    dead = free_port()
    cluster, node = alone(args, lambda node: f"127.0.0.1:{dead}")
    with cluster:
        said = expect_said(node, rf"none of the seeds answers \(127\.0\.0\.1:{dead}.*start them", 20,
                           ends=False)
        try:
            reply = node.ask("GET", "k")
        except ReplyError as error:
            reply = str(error)
        if not isinstance(reply, str) or not reply.startswith(("LOADING", "CLUSTERDOWN")):
            raise Failed(f"a client of it hears {reply!r}")
        node.process.send_signal(signal.SIGTERM)
        if (code := node.wait_end(20)) != 0:
            raise Failed(f"SIGTERM while it waits ends with {code}")
        return f"{said}; a client hears: {reply}"


def other_cluster(args, name):
    with Cluster(args.node, seed=args.seed, keep=args.keep) as cluster:
        first, second = cluster.add(2)
        for node in (first, second):
            node.start(seeds=f"127.0.0.1:{node.bus}")
        for node in (first, second):
            cluster.wait_settled([node], 30)
        second.kill()
        second.start(seeds=f"127.0.0.1:{first.bus}")
        return expect_said(second, r"belongs to cluster .* empty data directory", 20, ends=True)


def two_clusters(args, name):
    with Cluster(args.node, seed=args.seed, keep=args.keep) as cluster:
        first, second, third = cluster.add(3)
        for node in (first, second):
            node.start(seeds=f"127.0.0.1:{node.bus}")
        for node in (first, second):
            cluster.wait_settled([node], 30)
        third.start(seeds=f"127.0.0.1:{first.bus},127.0.0.1:{second.bus}")
        return expect_said(third, r"different clusters", 20, ends=True)


def brings_keys(args, name):
    """A node that was alone and has keys is given the seeds of a cluster."""
    with Cluster(args.node, seed=args.seed, keep=args.keep) as cluster:
        first, second = cluster.add(2)
        first.start(seeds=f"127.0.0.1:{first.bus}")
        cluster.wait_settled([first], 30)
        second.start(seeds=f"127.0.0.1:{second.bus}")
        cluster.wait_settled([second], 30)
        second.ask("SET", "k", "v")
        second.process.send_signal(signal.SIGTERM)
        second.wait_end(20)
        shutil.rmtree(os.path.join(second.directory, "raft"))
        second.start(seeds=f"127.0.0.1:{first.bus}")
        return expect_said(second, r"start with an empty directory", 20, ends=True)


def violations_without(fence, args, name):
    """What the checker finds in one try without the fence, or None."""
    off = {"DISTCACHE_FENCE_OFF": fence}
    with Run(args, name, environments={i: off for i in range(4)}, silent=True,
             rate=0, pipeline=8, keys=1000) as run:
        run.start()
        run.until_moving()
        for node in run.nodes:
            node.pause()
            time.sleep(0.3)
            node.go_on()
        try:
            run.finish()
        except Failed as failed:
            if "violations" not in str(failed):
                raise
            return str(failed)
        return None


def fence_off(fence):
    """Without this fence the checker must find something: shows that it would."""
    def case(args, name):
        if args.node_bytes is None or b"DISTCACHE_FENCE_OFF" not in args.node_bytes:
            raise Skipped("a build without fences to turn off")
        if fence.encode() not in args.node_bytes:
            raise Skipped(f"this build has no fence {fence}")
        # Whether a write meets the moment without the fence is chance.
        for tried in range(1, FENCE_TRIES + 1):
            if (found := violations_without(fence, args, name)) is not None:
                return f"the checker finds, at try {tried}: {found[:200]}"
        raise Failed(f"nothing was found in {FENCE_TRIES} tries without the fence {fence}")
    return case


def cases(args):
    found = {}
    for which in ("leader", "source", "target"):
        found[f"kill-{which}"] = killing(which, (0.0, 1.5))
        found[f"kill-{which}-at-once"] = killing(which, (0.0, 0.05))
    for point in POINTS:
        role = point.split(".")[0]
        found[f"point-{point}"] = at_point(point, role)
        if role == "source":
            found[f"point-{point}-leader"] = at_point(point, "leader")
    found["kill-again"] = killing_again
    found["kill-target-long-values"] = killing_long_values
    found["two-join-and-die"] = two_join_and_die
    found["stop-all"] = stop_all
    for which in ("leader", "source", "target"):
        found[f"pause-{which}"] = pausing(which)
    found["restart-all"] = restart_all(False)
    found["restart-all-new-ports"] = restart_all(True)
    found["rolling-stop"] = rolling_stop
    for which in ("leader", "source", "target"):
        found[f"cut-{which}"] = cutting(which, ("in", "out"))
        found[f"cut-one-way-out-{which}"] = cutting(which, ("out",))
        found[f"cut-one-way-in-{which}"] = cutting(which, ("in",))
    found["cut-pair"] = cut_pair
    found["cuts-flapping"] = flapping
    found["delay-20ms"] = slow(0.02, 0)
    found["delay-100ms"] = slow(0.1, 0)
    found["loss-5-percent"] = slow(0.001, 0.05)
    found["wrong-secret"] = wrong_secret
    found["no-secret"] = no_secret
    found["copied-directory-of-seed"] = copied_directory(True)
    found["copied-directory"] = copied_directory(False)
    found["seed-redis"] = seed_redis
    found["seed-silent"] = seed_silent
    found["seed-client-port"] = seed_client_port
    found["seed-nobody"] = seed_nobody
    found["other-cluster"] = other_cluster
    found["two-clusters"] = two_clusters
    found["brings-keys"] = brings_keys
    found["fence-freeze"] = fence_off("freeze")
    return found


SHORT = ("kill-leader", "kill-target", "point-source.acknowledged", "restart-all-new-ports",
         "cut-one-way-out-source", "wrong-secret", "other-cluster", "seed-nobody")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_cluster_options(parser)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--short", action="store_true", help="a handful of cases")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--rounds", type=int, default=1, help="of all cases, each with another seed")
    parser.add_argument("--within", type=float, default=60,
                        help="seconds after a fault until every slot has an owner")
    args = parser.parse_args()
    known = cases(args)
    if args.list:
        print("\n".join(known))
        return
    require(args)
    args.node_bytes = open(args.node, "rb").read()
    chosen = args.cases or (SHORT if args.short else known)
    print(f"seed {args.seed}", flush=True)
    failures = 0
    for round_number in range(args.rounds):
        for name in chosen:
            if name not in known:
                sys.exit(f"no case {name}: see --list")
            begun = time.monotonic()
            try:
                text = f"PASS {name}: {known[name](args, name)}"
            except Skipped as skipped:
                text = f"SKIPPED {name}: {skipped}"
            except Failed as failed:
                failures += 1
                text = f"FAIL {name}: {failed}"
            except (OSError, ReplyError) as error:
                failures += 1
                text = f"FAIL {name}: {error!r}"
            print(f"{text} ({time.monotonic() - begun:.0f} s)", flush=True)
        args.seed += 1
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
