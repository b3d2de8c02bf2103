#!/usr/bin/env python3
"""Partitions move under load: a node joins three, and leaves again. Nothing may be lost or refused.

  scripts/cluster_moves.py --node target/debug/distcache-node              # about 20 s
  scripts/cluster_moves.py --node target/release/distcache-node --long     # 1 GB, 20 k op/s
  scripts/cluster_moves.py hot large slot join …                           # other scenarios

  move      3 -> 4 -> 3 under load from plain clients and cluster clients
  hot       heavy writes on moving partitions only
  steady    as move, with a compiled client that checks each reply
  counters  more writes, by the same client: one of three nodes leaves, and all are on what it has
  large     a value of --large-mb moves while others are asked (there are two of them)
  slot      a slot with --slot-keys keys moves while others are asked (there are two of them)
  join      from the start of a process to its share, with little data

What is printed of latency is measured from when a turn is sent: in move, hot, large and slot Python
on the same processors is part of it. The compiled client is built by `cargo build --examples`.
"""
import argparse
import statistics
import subprocess
import sys
import threading
import time

from checked_load import CheckedLoad, phase_rows
from cluster_check import Load
from cluster_nodes import PARTITIONS, Cluster, add_cluster_options, partition_of, require
from nodes import Failed

SCENARIOS = ("move", "steady", "hot", "counters", "large", "slot", "join")
# Another key may wait so long while a large one moves.
OTHERS_WAIT_MS = 50


def freezes(done):
    """p50, p99 and longest freeze in ms."""
    found = sorted(frozen for _, _, _, frozen in done)
    if not found:
        return "no moves"
    at = lambda part: found[min(len(found) - 1, int(len(found) * part))]
    return f"p50 {at(0.5):.1f} p99 {at(0.99):.1f} max {found[-1]:.1f} ms"


def can_remove(args):
    """Whether this build knows `cluster remove`."""
    asked = subprocess.run([args.node, "cluster", "remove", "--help"], capture_output=True)
    return asked.returncode == 0


def remove_node(cluster, node, limit):
    """Drains a node: returns when it has left, and its process has ended in order."""
    node.is_leaving = True
    told = subprocess.run([cluster.binary, "cluster", "remove", node.id()[-16:], "--seeds",
                           cluster.seeds], capture_output=True, text=True, timeout=limit)
    if told.returncode:
        raise Failed(f"cluster remove ended with {told.returncode}: {told.stdout}{told.stderr}")
    code = node.wait_end(limit)
    if code != 0:
        raise Failed(f"the node that left ended with {code}: {node.said(3)}")


def table(rows):
    width = [max(len(str(row[i])) for row in rows) for i in range(2)]
    for name, value in rows:
        print(f"  {name.ljust(width[0])}  {value}")


def report(load, cluster, rows, failed_moves):
    for name, (count, p50, p99, top) in load.latencies().items():
        if name != "after":
            rows.append((f"latency {name}", f"{count} turns, p50 {p50:.2f} p99 {p99:.1f} "
                                            f"max {top:.0f} ms"))
    rows.append(("errors of clients", load.error_text()))
    rows.append(("connections that the leaving node closed", load.closed))
    rows.append(("moves that failed", f"{len(failed_moves)} {failed_moves[:2] or ''}"))
    rows.append(("operations", load.done()))
    if load.prober:
        rows.append(("asked of owners", f"{load.prober.asked}, accepted {load.prober.accepts}"))
    table(rows)


def move(args):
    """3 -> 4 -> 3."""
    with Cluster(args.node, args.flags.split(), args.seed, keep=args.keep) as cluster:
        rows = [("start of 3 nodes to their shares", f"{cluster.start(3, args.limit):.1f} s")]
        load = Load(cluster, args.seed, keys=args.keys, value_bytes=args.value_bytes,
                    rate=args.rate, pipeline=args.pipeline, clients=args.clients,
                    cluster_clients=args.cluster_clients, timeout=30)
        load.preload()
        load.start()
        time.sleep(args.seconds / 3)
        begun, before = time.monotonic(), len(cluster.moves()[0])
        load.mark("while one joins")
        node = cluster.add()[0].start()
        cluster.wait_settled(limit=args.limit)
        joined = time.monotonic() - begun
        done = cluster.moves()[0][before:]
        rows += [("joining, 3 to 4", f"{joined:.1f} s, {len(done)} moves, "
                                     f"{sum(size for _, size, _, _ in done):,} bytes"),
                 ("shares", cluster.shares()), ("freeze, joining", freezes(done))]
        if can_remove(args):
            load.mark("between")
            time.sleep(args.seconds / 6)
            begun, before = time.monotonic(), len(cluster.moves()[0])
            load.mark("while one leaves")
            remove_node(cluster, node, args.limit)
            cluster.wait_settled(cluster.nodes[:3], limit=args.limit)
            done = cluster.moves()[0][before:]
            rows += [("leaving, 4 to 3", f"{time.monotonic() - begun:.1f} s, {len(done)} moves, "
                                         f"{sum(size for _, size, _, _ in done):,} bytes"),
                     ("shares after", cluster.shares()), ("freeze, leaving", freezes(done))]
        else:
            rows.append(("leaving", "skipped: this build has no `cluster remove`"))
        time.sleep(args.seconds / 6)
        load.stop(args.limit)
        failed = cluster.moves()[1]
        keys = load.check(want_no_errors=True)
        report(load, cluster, rows, failed)
        bad = cluster.ended_badly()
        if bad:
            raise Failed(f"a node says: {bad[:2]}")
        load.verdict()
        return f"{keys} keys, {load.done()} operations, none lost, none refused"


def tags_in(partitions, count=1, start=0):
    """Hash tags whose slots are in these partitions."""
    wanted, found, number = {p: count for p in partitions}, [], start
    while any(wanted.values()):
        tag = f"t{number}"
        if wanted.get(partition_of(tag), 0):
            wanted[partition_of(tag)] -= 1
            found.append(tag)
        number += 1
    return found


def hot(args):
    """All writes are on the partitions that a joining node gets."""
    with Cluster(args.node, args.flags.split(), args.seed, keep=args.keep) as cluster:
        cluster.start(3, args.limit)
        # Which ones move is known once it has been done: the planner decides by the table.
        load = Load(cluster, args.seed, keys=200, value_bytes=args.value_bytes, rate=0,
                    pipeline=4, writes=0.75, tags=tags_in(range(0, PARTITIONS, 16)), timeout=30)
        load.preload()
        load.start()
        time.sleep(args.seconds / 4)
        load.mark("during")
        cluster.add()[0].start()
        cluster.wait_settled(limit=args.limit)
        load.stop(args.limit)
        done, failed = cluster.moves()
        load.check(want_no_errors=True)
        report(load, cluster, [("freeze", freezes(done))], failed)
        load.verdict()
        return f"{load.done()} operations, {len(done)} moves"


def steady(args):
    """As `move`, with the compiled client, which leaves the nodes more of the processors."""
    with Cluster(args.node, args.flags.split(), args.seed, keep=args.keep) as cluster:
        cluster.start(3, args.limit)
        stay = cluster.nodes[:3]
        load = CheckedLoad(args.node, [f"k{number}" for number in range(args.keys)], stay[:2],
                           stay * 2, [*args.value_bytes, 0], int(args.rate), args.pipeline)
        time.sleep(args.seconds / 3)
        begun, before = time.monotonic(), len(cluster.moves()[0])
        load.mark("while one joins")
        node = cluster.add()[0].start()
        cluster.wait_settled(limit=args.limit)
        joined, rows = time.monotonic() - begun, [("shares", cluster.shares())]
        joining = cluster.moves()[0][before:]
        load.mark("between")
        time.sleep(args.seconds / 6)
        begun = time.monotonic()
        load.mark("while one leaves")
        remove_node(cluster, node, args.limit)
        cluster.wait_settled(stay, limit=args.limit)
        left, leaving = time.monotonic() - begun, node.moves()[0]
        load.mark("after")
        time.sleep(args.seconds / 6)
        phases, failed = load.stop(args.limit), cluster.moves()[1]
        for name, took, done in (("joining", joined, joining), ("leaving", left, leaving)):
            size = sum(size for _, size, _, _ in done)
            rows.append((name, f"{took:.1f} s, {len(done)} moves, {size:,} bytes, freeze "
                               f"{freezes(done)}"))
        table(rows + phase_rows(phases) + [("moves that failed", f"{len(failed)} {failed[:2]}")])
        return f"{len(joining)} + {len(leaving)} moves, each reply right"


def counters(args):
    """One of three nodes leaves, and all writes are on what it has."""
    with Cluster(args.node, args.flags.split(), args.seed, keep=args.keep) as cluster:
        cluster.start(3, args.limit)
        leaving = cluster.nodes[2]
        mine = {slot // 16 for slot, owner in enumerate(cluster.nodes[0].slots())
                if owner[1] == leaving.direct}
        keys = [f"{{{tag}}}{number}" for number in range(3) for tag in tags_in(mine)]
        load = CheckedLoad(args.node, keys, cluster.nodes[:2], rate=args.count_rate)
        time.sleep(args.seconds / 4)
        begun = time.monotonic()
        load.mark("while it leaves")
        remove_node(cluster, leaving, args.limit)
        took = time.monotonic() - begun
        phases, (done, failed) = load.stop(args.limit), leaving.moves()
        table([("moved", f"{len(done)} in {took:.1f} s, freeze {freezes(done)}"),
               *phase_rows(phases), ("moves that failed", f"{len(failed)} {failed[:2]}")])
        if len(done) < len(mine):
            raise Failed(f"{len(done)} of {len(mine)} partitions moved")
        return f"{phases['while it leaves']['rate']:,.0f} op/s on what moved, each reply right"


class Pinger(threading.Thread):
    """Asks for one small key after the other, and remembers how long each waited."""

    def __init__(self, keys, node):
        super().__init__(daemon=True)
        self.keys, self.connection = keys, node.connect(60)
        self.waits, self.stopping, self.error = [], False, None

    def run(self):
        number = 0
        try:
            while not self.stopping:
                number += 1
                begun = time.monotonic()
                key = self.keys[number // 2 % len(self.keys)]
                if number % 2:
                    self.connection.call("SET", key, "x" * 100)
                else:
                    self.connection.call("GET", key)
                self.waits.append((begun, (time.monotonic() - begun) * 1000, partition_of(key)))
                time.sleep(0.001)
        except Exception as error:  # Said by the scenario.
            self.error = repr(error)

    def worst(self, is_counted):
        """p99 and longest wait in ms of what is counted: a function of begin and partition."""
        found = sorted(wait for begun, wait, partition in self.waits
                       if is_counted(begun, partition)) or [0.0]
        return found[int(len(found) * 0.99)], found[-1]


def machine_pause(stop, found):
    """What this machine makes anybody wait who sleeps for 1 ms."""
    while not stop.is_set():
        begun = time.monotonic()
        time.sleep(0.001)
        found.append((time.monotonic() - begun) * 1000 - 1)


def big_move(args, fill, what):
    """Fills two partitions of the only node alike, of which one moves to a second node. Others are
    asked meanwhile; a key counts as another one if its own partition does not move."""
    with Cluster(args.node, args.flags.split(), args.seed, seeds=1, keep=args.keep) as cluster:
        cluster.start(1, args.limit)
        source = cluster.nodes[0]
        tags = tags_in([0, PARTITIONS // 2])
        for tag in tags:
            fill(source, tag)
        heavy = {partition_of(tag) for tag in tags}
        others = [f"{{{tag}}}small" for tag in tags_in(
            p for p in range(PARTITIONS) if p % 8 == 1 and p not in heavy)]
        pinger = Pinger(others, source)
        pinger.start()
        stop, pauses = threading.Event(), [0.0]
        watch = threading.Thread(target=machine_pause, args=(stop, pauses), daemon=True)
        time.sleep(2)
        size = source.ask("DBSIZE")
        begun = time.monotonic()
        watch.start()
        cluster.add()[0].start()
        cluster.wait_settled(limit=args.limit)
        took = time.monotonic() - begun
        pinger.stopping = True
        stop.set()
        pinger.join(60)
        watch.join()
        done, failed = cluster.moves()
        moved = {entry[0] for entry in done}
        before = pinger.worst(lambda at, _: at < begun)
        frozen = pinger.worst(lambda at, partition: at >= begun and partition in moved)
        p99, top = pinger.worst(lambda at, partition: at >= begun and partition not in moved)
        table([("two of these, one moves", what),
               ("its move: partition, bytes, ms, frozen ms",
                [entry for entry in done if entry[0] in heavy]),
               ("before", f"p99 {before[0]:.1f} max {before[1]:.1f} ms"),
               ("keys that move too", f"p99 {frozen[0]:.1f} max {frozen[1]:.1f} ms"),
               ("other keys", f"p99 {p99:.1f} max {top:.1f} ms"),
               ("the machine's own pauses", f"max {max(pauses):.1f} ms"),
               ("freeze of all", freezes(done)), ("moves that failed", failed[:3]),
               ("from start to shares", f"{took:.1f} s")])
        if pinger.error:
            raise Failed(f"a client of other keys: {pinger.error}")
        if not heavy & moved:
            raise Failed("neither of the full partitions moved")
        if (now := cluster.nodes[1].ask("DBSIZE", timeout=60)) != size:
            raise Failed(f"there were {size} keys, and now {now}")
        if top - max(pauses) > OTHERS_WAIT_MS and not args.no_limit:
            raise Failed(f"another key waited {top:.1f} ms (the machine paused {max(pauses):.1f})")
        return f"others waited {top:.1f} ms at most"


def large(args):
    size = args.large_mb << 20

    def fill(node, tag):
        connection = node.connect(120)
        key = f"{{{tag}}}large"
        step = 8 << 20
        for begin in range(0, size, step):
            connection.call("SETRANGE", key, begin, b"x" * min(step, size - begin))
        if connection.call("STRLEN", key) != size:
            raise Failed("the large value is not there")
        connection.close()

    return big_move(args, fill, f"one value of {args.large_mb} MB")


def slot(args):
    def fill(node, tag):
        connection, left = node.connect(120), args.slot_keys
        while left:
            part = min(left, 5000)
            connection.send(*(("SET", f"{{{tag}}}{left - i}", "v" * 20) for i in range(part)))
            for _ in range(part):
                connection.read()
            left -= part
        connection.close()

    return big_move(args, fill, f"one slot of {args.slot_keys:,} keys")


def join(args):
    """From the start of a process to its share, and to its first own reply."""
    times = []
    with Cluster(args.node, args.flags.split(), args.seed, keep=args.keep) as cluster:
        first = cluster.start(3, args.limit)
        load = Load(cluster, args.seed, keys=300, rate=200, clients=2, cluster_clients=1)
        load.preload()
        load.start()
        for _ in range(args.joins):
            begun = time.monotonic()
            node = cluster.add()[0].start()
            while "has joined" not in node.said(10000):
                time.sleep(0.01)
                if time.monotonic() - begun > args.limit:
                    raise Failed("the node did not join")
            known = time.monotonic() - begun
            cluster.wait_settled(limit=args.limit)
            times.append((known, time.monotonic() - begun))
        load.stop()
        load.check(want_no_errors=True)
        done, failed = cluster.moves()
        table([("3 nodes, from nothing", f"{first:.1f} s"),
               ("joined, share served", [f"{a:.1f} s, {b:.1f} s" for a, b in times]),
               ("freeze", freezes(done)), ("moves that failed", failed[:3])])
        load.verdict()
    return f"a share after {statistics.median(b for _, b in times):.1f} s"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_cluster_options(parser)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", default=["move"],
                        help=f"of {', '.join(SCENARIOS)}, or all")
    parser.add_argument("--long", action="store_true", help="1 GB and 20 k op/s")
    parser.add_argument("--keys", type=int, default=2000)
    parser.add_argument("--value-bytes", default="100,1000",
                        type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--rate", type=float, default=1500, help="operations a second; 0: no limit")
    parser.add_argument("--seconds", type=float, default=6, help="of load beside the moves")
    parser.add_argument("--pipeline", type=int, default=2)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--cluster-clients", type=int, default=3)
    parser.add_argument("--limit", type=float, default=120, help="seconds until shares are right")
    parser.add_argument("--large-mb", type=int, default=200)
    parser.add_argument("--slot-keys", type=int, default=2_000_000)
    parser.add_argument("--joins", type=int, default=2)
    parser.add_argument("--count-rate", type=int, default=0,
                        help="operations a second of `counters`; 0: no limit")
    parser.add_argument("--no-limit", action="store_true", help="long waits are no failure")
    parser.add_argument("--flags", default="", help="more options of the nodes")
    args = require(parser.parse_args())
    if args.long:
        # 100 bytes and 16 KiB alike: 125,000 keys are 1 GB.
        args.keys, args.value_bytes, args.rate = 125_000, [100, 16384], 20_000
        args.seconds, args.pipeline, args.limit = 60, 16, 900
    print(f"seed {args.seed}", flush=True)
    failures = 0
    for name in SCENARIOS if args.scenarios == ["all"] else args.scenarios:
        if name not in SCENARIOS:
            sys.exit(f"no scenario {name}: {', '.join(SCENARIOS)}")
        begun = time.monotonic()
        try:
            text = f"PASS {name}: {globals()[name](args)}"
        except Failed as failed:
            failures += 1
            text = f"FAIL {name}: {failed}"
        print(f"{text} ({time.monotonic() - begun:.0f} s)", flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
