#!/usr/bin/env python3
"""Measures the node against redis-server in one run and prints a table with the targets.

Each server runs alone, pinned to core 0, and the load generator to core 1; rounds alternate
between the servers and every figure is the median over the rounds, so a machine that drifts
favours none. Cases:

  speed     GET and SET, one by one (P=1) and 16 in a pipeline, without a log and with one
  memory    resident bytes a key
  growth    from no key to --grow-keys under load: longest reply, cost of an operation
  restart   keys rebuilt a second, from the log alone and from snapshot and log
  compact   resident memory while the log is compacted under writes

  scripts/bench.py --node target/release/distcache-node speed memory
  scripts/bench.py --node … --quick      # shows that it runs; the figures mean little

Needs redis-server, redis-benchmark and redis-cli (Debian: redis-server, redis-tools).
"""
import argparse
import json
import multiprocessing
import shlex
import statistics
import sys
import time

import bench_growth
from bench_load import Bench, flood, load, redis_benchmark, remove, resident
from nodes import Failed, ReplyError

POLICIES = ("off", "everysec", "always")


def ours(args, policy, shards=1):
    log = "--oplog off" if policy == "off" else f"--fsync {policy}"
    flags = f"{log} --shards {shards} --auto-aof-rewrite-percentage 0 {args.flags}"
    node = shlex.quote(args.node)
    return Bench("distcache", f"{node} --port {{port}} --direct-port 0 --bus-port 0 "
                              f"--http-port 0 --data-dir {{dir}} {flags}")


def redis(policy):
    log = "--appendonly no" if policy == "off" else f"--appendonly yes --appendfsync {policy}"
    return Bench("redis", f'redis-server --port {{port}} --dir {{dir}} --save "" {log} '
                          "--aof-use-rdb-preamble no --auto-aof-rewrite-percentage 0")


class Table:
    """Rows of case, unit, both figures and what is compared with the target."""

    def __init__(self):
        self.rows = []

    def add(self, case, unit, mine, other, target, compared=None):
        """`target` is `<= 0.95` or `>= 2`; it is for the ratio unless `compared` is given. A row
        without one explains another."""
        ratio = mine / other if other else None
        value, met = compared if compared is not None else ratio, None
        if target is not None:
            relation, limit = target.split()
            met = value <= float(limit) if relation == "<=" else value >= float(limit)
        self.rows.append({"case": case, "unit": unit, "distcache": mine, "redis": other,
                          "ratio": ratio, "target": target, "met": met})
        print("  " + self.line(self.rows[-1]), file=sys.stderr, flush=True)

    def line(self, row):
        show = lambda figure: "-" if figure is None else f"{figure:,.{digits(figure)}f}"
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        met = {True: "yes", False: "NO", None: "-"}[row["met"]]
        return (f"| {row['case']} | {row['unit']} | {show(row['distcache'])} | "
                f"{show(row['redis'])} | {ratio} | {row['target'] or '-'} | {met} |")

    def text(self):
        head = "| case | unit | distcache | Redis | ratio | target | met |\n|---|---|--:|--:|--:|---|---|"
        return "\n".join([head] + [self.line(row) for row in self.rows])


def digits(figure):
    return 0 if abs(figure) >= 100 else 1 if abs(figure) >= 10 else 3


def speed(args, table):
    for policy in POLICIES:
        tests = ("set", "get") if policy == "off" else ("set",)
        cases = [(pipeline, test) for pipeline in (1, 16) for test in tests]
        benches = [ours(args, policy), redis(policy)]
        runs = {(bench.name, case): [] for bench in benches for case in cases}
        for _ in range(args.rounds):
            for bench in benches:
                server = bench.start(args.server_cores)
                try:
                    for case in cases:
                        count = args.requests * (1 if case[0] == 1 else 6)
                        figures = redis_benchmark(server, case[1], case[0], count, args)
                        runs[bench.name, case].append(figures)
                finally:
                    remove(server)
        for pipeline, test in cases:
            figure = lambda name, key: statistics.median(
                run[key] for run in runs[name, (pipeline, test)])
            add_speed(table, policy, pipeline, test.upper(), figure)


def add_speed(table, policy, pipeline, test, figure):
    """One row for each case of the table, with its target."""
    name = f"P={pipeline} {test}, log {policy}"
    if policy != "always" and pipeline == 1:
        target = "<= 0.95" if policy == "off" else "<= 1.0"
        key, unit = "cpu_us", "us of CPU/op"
    else:
        target = ">= 1.3" if policy == "always" else ">= 2.0"
        key, unit = "ops", "op/s"
    table.add(name, unit, figure("distcache", key), figure("redis", key), target)
    if policy == "off" and pipeline > 1:
        # Where the load generator is the slower side, only this tells the servers apart.
        table.add(f"{name}: its processor time", "us of CPU/op", figure("distcache", "cpu_us"),
                  figure("redis", "cpu_us"), None)


def memory(args, table):
    overhead = {}
    for bench in (ours(args, "off"), redis("off")):
        server = bench.start(args.server_cores)
        try:
            before = resident(server.process.pid)
            load(server, 0, args.keys, args.value)
            time.sleep(1)  # allocators return what the load's buffers took
            each = (resident(server.process.pid) - before) / args.keys
            overhead[bench.name] = each - 16 - args.value
        finally:
            remove(server)
    table.add(f"memory over key and value, {args.keys:,} keys", "bytes/key",
              overhead["distcache"], overhead["redis"], "<= 48", overhead["distcache"])


def growth(args, table):
    mine = bench_growth.measure(ours(args, "off"), args)
    other = bench_growth.measure(redis("off"), args)
    table.add(f"longest reply growing to {args.grow_keys:,} keys", "ms",
              mine["own_ms"], other["own_ms"], "<= 10", mine["own_ms"])
    print(f"  with the machine's own pauses (up to {mine['pause_ms']:.1f} and "
          f"{other['pause_ms']:.1f} ms): {mine['longest_ms']:.1f} and "
          f"{other['longest_ms']:.1f} ms", file=sys.stderr)
    for name, cost in mine["ratios"].items():
        table.add(f"{name}, at {args.grow_keys:,} keys over at {bench_growth.SMALL_KEYS:,}",
                  "times the CPU", cost, other["ratios"][name], "<= 1.3", cost)


def wait_for_compaction(connection, limit=600):
    """Returns when no compaction runs or waits."""
    deadline = time.monotonic() + limit
    while not is_compacted(connection):
        if time.monotonic() > deadline:
            raise Failed(f"the log was not compacted within {limit} s")
        time.sleep(0.02)


def is_compacted(connection):
    info = connection.call("INFO", "persistence").decode()
    return "aof_rewrite_in_progress:0" in info and "aof_rewrite_scheduled:1" not in info


def stop(server):
    """A clean stop, so that everything is on disk."""
    if server.terminate(300) != 0:
        raise Failed(f"{server.name} did not stop cleanly: {server.said(5)}")


def restart(args, table):
    """Loads, stops, starts on both cores and counts the keys; then once more from a snapshot."""
    figures = {}
    for bench in (ours(args, "everysec", shards=2), redis("everysec")):
        server = bench.start("0,1")
        try:
            load(server, 0, args.restart_keys, args.value)
            stop(server)
            rates = [rebuild(server, args.restart_keys)]
            connection = server.connect()
            connection.call("BGREWRITEAOF")
            wait_for_compaction(connection)
            # A tenth is written again after the snapshot, so that there is a log to replay too.
            load(server, 0, args.restart_keys // 10, args.value)
            stop(server)
            rates.append(rebuild(server, args.restart_keys))
            figures[bench.name] = rates
        finally:
            remove(server)
    for at, name in enumerate(("the log alone", "snapshot and log")):
        # Redis's log alone is what the issue compares with in both cases.
        table.add(f"restart from {name}, {args.restart_keys:,} keys", "keys/s",
                  figures["distcache"][at], figures["redis"][0], ">= 4.0")


def rebuild(server, keys):
    """Starts a stopped server and returns the keys it rebuilt a second."""
    seconds = server.start(600)
    count = server.connect().call("DBSIZE")
    if count != keys:
        raise Failed(f"{server.name} has {count} keys after the restart, not {keys}")
    return keys / seconds


def compact(args, table):
    figures = {}
    for bench in (ours(args, "everysec"), redis("everysec")):
        server = bench.start("0")
        try:
            load(server, 0, args.keys, args.value)
            flood(server, 2, args.keys, args.value)
            before = resident(server.process.pid)
            peak, finished = before, False
            connection = server.connect()
            connection.call("BGREWRITEAOF")
            deadline = time.monotonic() + 300
            while not finished:
                sampler = Sampler(server)
                sampler.start()
                flood(server, 0.5, args.keys, args.value)
                peak = max(peak, sampler.finish())
                finished = is_compacted(connection)
                if time.monotonic() > deadline:
                    raise Failed(f"{bench.name} did not compact its log under writes in 300 s")
            figures[bench.name] = peak / before
        finally:
            remove(server)
    table.add(f"peak memory while compacting under writes, {args.keys:,} keys", "times before",
              figures["distcache"], figures["redis"], "<= 1.15", figures["distcache"])


class Sampler:
    """Reads the resident memory all the time, in a process of its own."""

    def __init__(self, server):
        self.peak = multiprocessing.Value("d", 0.0)
        self.stopped = multiprocessing.Event()
        self.process = multiprocessing.Process(target=self.sample, args=(server.process.pid,))

    def sample(self, pid):
        while not self.stopped.is_set():
            self.peak.value = max(self.peak.value, resident(pid))
            time.sleep(0.01)

    def start(self):
        self.process.start()

    def finish(self):
        self.stopped.set()
        self.process.join()
        return self.peak.value


CASES = {"speed": speed, "memory": memory, "growth": growth, "restart": restart,
         "compact": compact}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="*", help=f"any of {', '.join(CASES)}; all by default")
    parser.add_argument("--node", required=True, help="a release build of distcache-node")
    parser.add_argument("--flags", default="", help="more flags for the node")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=200_000,
                        help="at P=1; six times as many when pipelined")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--keyspace", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--grow-keys", type=int, default=10_000_000)
    parser.add_argument("--restart-keys", type=int, default=5_000_000)
    parser.add_argument("--value", type=int, default=64, help="bytes of a value")
    parser.add_argument("--batch", type=int, default=100, help="commands in a pipeline of growth")
    parser.add_argument("--server-cores", default="0")
    parser.add_argument("--client-cores", default="1")
    parser.add_argument("--quick", action="store_true", help="small numbers of everything")
    parser.add_argument("--json", metavar="FILE", help="keeps the figures")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.requests, args.keys = 1, 20_000, 100_000
        args.grow_keys, args.restart_keys = 500_000, 200_000
    unknown = [case for case in args.case if case not in CASES]
    if unknown:
        parser.error(f"unknown case {unknown[0]}")
    table = Table()
    failed = []
    for case in args.case or CASES:
        print(f"{case} …", file=sys.stderr, flush=True)
        try:
            CASES[case](args, table)
        except (Failed, ReplyError, OSError) as error:
            failed.append(f"{case}: {error}")
    print(table.text())
    if args.json:
        with open(args.json, "w") as file:
            json.dump(table.rows, file, indent=1)
    for line in failed:
        print(f"bench: {line}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
