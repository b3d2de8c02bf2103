"""Nodes of a cluster to start, stop, kill and ask; shared by the cluster campaigns.

Standard library only. Ports lie below those that the system gives to clients, so that a restart
finds its own again.
"""
import binascii
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from nodes import HERE, Connection, Failed, ReplyError

PARTITIONS = 1024
SLOTS = 16384
MOVED_LINE = re.compile(r"partition moved partition=(\d+) to=(\w+) bytes=(\d+) ms=(\d+) "
                        r"frozen_ms=([\d.]+)")
NOT_MOVED_LINE = re.compile(r"partition not moved; .*?partition=(\d+) .*reason=(.*)")


def slot_of(key):
    """The hash slot of a key, as in Redis Cluster."""
    key = key if isinstance(key, bytes) else key.encode()
    begin = key.find(b"{")
    if begin >= 0:
        end = key.find(b"}", begin + 1)
        if end > begin + 1:
            key = key[begin + 1:end]
    return binascii.crc_hqx(key, 0) % SLOTS


def partition_of(key):
    return slot_of(key) // 16


class ClusterNode:
    """A process of a node; its directory outlives kills and restarts."""

    def __init__(self, cluster, number, port, host="127.0.0.1", prefix=()):
        self.cluster, self.number, self.port, self.host = cluster, number, port, host
        self.prefix = list(prefix)
        self.directory = os.path.join(cluster.directory, f"node{number}")
        self.log = os.path.join(cluster.directory, f"node{number}.log")
        self.process, self.is_stopped = None, False
        self.environment, self.shards = {}, None
        # Whether it is told to leave the cluster, and so closes its clients' connections.
        self.is_leaving = False

    @property
    def direct(self):
        return self.port + 1

    @property
    def bus(self):
        return self.port + 10000

    def start(self, environment=None, flags=(), seeds=None):
        """Starts the process; does not wait for anything."""
        seeds = seeds if seeds is not None else self.cluster.seeds
        words = self.prefix + [self.cluster.binary, "--port", str(self.port), "--data-dir",
                               self.directory, "--shards",
                               str(self.shards or self.cluster.shards), "--bind", self.host,
                               "--seeds", seeds, *self.cluster.flags, *flags]
        started = {**os.environ, **self.environment, **(environment or {})}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=started, start_new_session=True)
        self.is_stopped = False
        return self

    def connect(self, timeout=10, direct=False):
        return Connection(self.direct if direct else self.port, timeout, self.host)

    def ask(self, *command, timeout=5, direct=False):
        """One command on a connection of its own."""
        connection = self.connect(timeout, direct)
        try:
            return connection.call(*command)
        finally:
            connection.close()

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def is_answering(self):
        return self.is_running() and not self.is_stopped and not self.is_leaving

    def signal(self, number):
        if self.is_running():
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                pass  # It has ended in between.

    def kill(self):
        """Ends the process at once, as a crash would."""
        self.signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def pause(self):
        self.is_stopped = True
        self.signal(signal.SIGSTOP)

    def go_on(self):
        self.signal(signal.SIGCONT)
        self.is_stopped = False

    def wait_end(self, limit):
        """Waits for the end of the process; returns its exit code, or None."""
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            return None

    def lines(self):
        try:
            return open(self.log, errors="replace").read().splitlines()
        except OSError:
            return []

    def said(self, count=8):
        return "\n".join(self.lines()[-count:])

    def id(self):
        """The node's id in the table, of 40 digits."""
        return self.ask("CLUSTER", "MYID", direct=True).decode()

    def slots(self):
        """This node's CLUSTER SLOTS as a list of the owner's direct port for each slot."""
        owners = [None] * SLOTS
        for first, last, primary, *_ in self.ask("CLUSTER", "SLOTS", direct=True):
            for slot in range(first, last + 1):
                if owners[slot] is not None:
                    raise Failed(f"node {self.number}: slot {slot} has two owners in CLUSTER SLOTS")
                owners[slot] = (primary[0].decode() or self.host, primary[1])
        return owners

    def info(self):
        text = self.ask("CLUSTER", "INFO", direct=True).decode()
        return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)

    def moves(self):
        """What its log says of the moves away from it, as `Cluster.moves`."""
        done, failed = [], []
        for line in self.lines():
            if found := MOVED_LINE.search(line):
                done.append((int(found[1]), int(found[3]), int(found[4]), float(found[5])))
            elif found := NOT_MOVED_LINE.search(line):
                failed.append(found[2])
        return done, failed


class Cluster:
    """Nodes with one list of seeds and one directory for all that they write."""

    def __init__(self, binary, flags=(), seed=0, shards=2, seeds=3, keep=False):
        self.directory = tempfile.mkdtemp(prefix="cluster-")
        # A copy, so that a build that goes on meanwhile changes nothing.
        self.binary = os.path.join(self.directory, "distcache-node")
        try:
            os.link(binary, self.binary)
        except OSError:
            shutil.copy2(binary, self.binary)
        self.flags, self.shards, self.keep = list(flags), shards, keep
        self.rng = random.Random(seed)
        self.nodes, self.seed_count = [], seeds

    @property
    def seeds(self):
        return ",".join(f"{node.host}:{node.bus}" for node in self.nodes[:self.seed_count])

    def add(self, count=1, **options):
        """Makes nodes without starting them."""
        added = []
        for _ in range(count):
            port = free_ports(self.nodes)
            node = ClusterNode(self, len(self.nodes), port, **options)
            self.nodes.append(node)
            added.append(node)
        return added

    def start(self, count=3, limit=60):
        """Starts nodes, and waits until each has its share."""
        self.add(count)
        started = time.monotonic()
        for node in self.nodes[-count:]:
            node.start()
        self.wait_settled(limit=limit)
        return time.monotonic() - started

    def answering(self):
        return [node for node in self.nodes if node.is_answering()]

    def why_unsettled(self, nodes, shares=True):
        """What is missing until every slot has one owner, the same for all nodes; None if nothing
        is. With `shares`, each of `nodes` has its part, and nothing moves any more."""
        views = {}
        try:
            for node in nodes:
                if not node.is_running():
                    return f"node {node.number} has ended: {node.said(4)}"
                info = node.info()
                if info["cluster_state"] != "ok":
                    return f"node {node.number} says cluster_state:{info['cluster_state']}"
                if shares and info.get("cluster_partitions_moving", "0") != "0":
                    return f"{info['cluster_partitions_moving']} partitions are moving"
                views[node.number] = node.slots()
        except (OSError, ReplyError) as error:
            return f"node {node.number} does not answer: {error!r}"
        first = views[nodes[0].number]
        for number, view in views.items():
            if None in view:
                return f"node {number}: slot {view.index(None)} has no owner"
            if view != first:
                return f"nodes {nodes[0].number} and {number} do not agree about the owners"
        if shares:
            counts = [first.count((node.host, node.direct)) // 16 for node in nodes]
            if sum(counts) != PARTITIONS or max(counts) - min(counts) > 1:
                return f"shares of partitions: {counts}"
        return None

    def wait_settled(self, nodes=None, limit=60, shares=True):
        """Waits until the cluster is whole; returns the seconds that it took."""
        nodes = nodes or self.nodes
        begun = time.monotonic()
        while (why := self.why_unsettled(nodes, shares)) is not None:
            if time.monotonic() - begun > limit:
                raise Failed(f"not settled within {limit} s: {why}")
            time.sleep(0.1)
        return time.monotonic() - begun

    def shares(self):
        """Partitions of each node, as the first node that answers says."""
        view = self.answering()[0].slots()
        return [view.count((node.host, node.direct)) // 16 for node in self.nodes]

    def owner(self, key):
        """The node that serves a key, as the first node that answers says."""
        address = self.answering()[0].slots()[slot_of(key)]
        return next(node for node in self.nodes if (node.host, node.direct) == address)

    def leader(self, limit=10):
        """The node that leads, as those that answer say, once they agree."""
        end = time.monotonic() + limit
        while True:
            nodes = {node.id()[-16:]: node for node in self.answering()}
            said = {node.info()["cluster_leader"] for node in nodes.values()}
            if len(said) == 1 and said <= nodes.keys():
                return nodes[said.pop()]
            if time.monotonic() > end:
                raise Failed(f"no leader within {limit} s; the nodes say {said}")
            time.sleep(0.1)

    def moves(self):
        """What the nodes' logs say of moves: [(partition, bytes, ms, frozen ms)], [(why)]."""
        told = [node.moves() for node in self.nodes]
        return [one for done, _ in told for one in done], [why for _, failed in told for why in failed]

    def new_ports(self):
        """Gives every node another port; to be called while none runs."""
        for node in self.nodes:
            node.port = free_ports(self.nodes)

    def ended_badly(self):
        """Lines of the logs that no fault explains: bugs that a node itself reports."""
        bad = []
        for node in self.nodes:
            bad += [f"node {node.number}: {line[:300]}" for line in node.lines()
                    if "panicked" in line or " ERROR " in line or "a bug stops" in line]
        return bad

    def remove(self):
        """Ends all processes and removes what they wrote."""
        for node in self.nodes:
            node.kill()
        if self.keep:
            print(f"kept: {self.directory}", file=sys.stderr)
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()


_rng = random.Random(os.getpid())


def free_ports(nodes):
    """A port that is free with the two behind it and the one of its bus."""
    taken = {node.port for node in nodes}
    for _ in range(1000):
        port = _rng.randrange(11000, 21990, 10)
        if port in taken:
            continue
        try:
            for each in (port, port + 1, port + 2, port + 10000):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", each))
            return port
        except OSError:
            continue
    raise Failed("no free ports")


def add_cluster_options(parser):
    """Adds what all cluster campaigns have in common."""
    default = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "..", "target")),
                           "debug", "distcache-node")
    parser.add_argument("--node", default=default, help="the distcache-node to test")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32),
                        help="of all random choices; printed, so that a run can be repeated")
    parser.add_argument("--keep", action="store_true", help="keep directories and logs")
    parser.add_argument("--verbose", action="store_true")


def require(args):
    if not os.path.exists(args.node):
        sys.exit(f"{args.node} is not there: cargo build --workspace, or --node PATH")
    return args
