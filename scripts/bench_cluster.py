#!/usr/bin/env python3
"""Measures what it costs that keys are on other nodes: GET and SET through the port of one of
three nodes over the same on a lone node, one by one (P=1) and 16 in a pipeline, without a log.

All processes and the load generator share the cores of this machine, so it shows the cost of
sending commands on and not what three machines could do. With --before, the lone node is also
compared with that of another build. Rounds alternate, and every figure is the median.

  scripts/bench_cluster.py --node target/release/distcache-node
  scripts/bench_cluster.py --node ... --before OTHER_BUILD

Needs redis-benchmark (Debian: redis-tools).
"""
import argparse
import statistics
import time

from bench_load import redis_benchmark
from cluster_nodes import Cluster, require

# Until Raft has its voters, and shards have forgotten what moved.
SETTLE_S = 5
CASES = [(pipeline, test) for pipeline in (1, 16) for test in ("set", "get")]


def run(binary, nodes, args, figures):
    """Starts nodes, and adds a figure to each case."""
    with Cluster(binary, ["--oplog", "off", "--log-level", "error", *args.flags.split()], shards=args.shards) as cluster:
        cluster.start(nodes)
        time.sleep(SETTLE_S)
        front, *others = cluster.nodes
        for pipeline, test in CASES:
            requests = args.requests * (1 if pipeline == 1 else 6)
            figures[pipeline, test].append(
                redis_benchmark(front, test, pipeline, requests, args, others=others))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", required=True, help="a release build of distcache-node")
    parser.add_argument("--before", help="another one, whose lone node is compared")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--shards", type=int, default=2, help="of each node")
    parser.add_argument("--flags", default="", help="more flags for the nodes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=100_000,
                        help="at P=1; six times as many when pipelined")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--keyspace", type=int, default=100_000)
    parser.add_argument("--value", type=int, default=64, help="bytes of a value")
    parser.add_argument("--client-cores", default="0,1")
    args = require(parser.parse_args())
    kinds = {"one node": (args.node, 1), f"{args.nodes} nodes": (args.node, args.nodes)}
    if args.before:
        kinds["one node, before"] = (args.before, 1)
    figures = {kind: {case: [] for case in CASES} for kind in kinds}
    for _ in range(args.rounds):
        for kind, (binary, nodes) in kinds.items():
            run(binary, nodes, args, figures[kind])
    median = lambda kind, case, key: statistics.median(one[key] for one in figures[kind][case])
    print("| case | servers | op/s | over one node | p99 ms | us of CPU/op |\n|---|---|--:|--:|--:|--:|")
    for case in CASES:
        for kind in kinds:
            ops, p99, cpu = (median(kind, case, key) for key in ("ops", "p99_ms", "cpu_us"))
            print(f"| P={case[0]} {case[1].upper()} | {kind} | {ops:,.0f} | "
                  f"{ops / median('one node', case, 'ops'):.2f} | {p99:.2f} | {cpu:.2f} |")


if __name__ == "__main__":
    main()
