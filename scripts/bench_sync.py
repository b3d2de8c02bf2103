#!/usr/bin/env python3
"""Measures SET under the policy `always` against redis-server on disks that are slower than this
machine's: as network disks of cloud machines are, on which a sync takes some milliseconds.

Each sync of either server takes --sync-ms longer, by a small library that is preloaded. Servers run
alone, pinned to cores, rounds alternate between them, and every figure is the median.

  scripts/bench_sync.py --node target/release/distcache-node
  scripts/bench_sync.py --node … --shards 2 --server-cores 0,1
  scripts/bench_sync.py --node … --before OTHER_BUILD      # also compared with another build

Needs redis-server and redis-benchmark (Debian: redis-server, redis-tools) and cc.
"""
import argparse
import statistics

from bench import ours, redis
from bench_load import Bench, redis_benchmark, remove
from nodes import slow_syncs

# About how long the warm-up and each measurement take.
WARM_S, RUN_S = 1, 4


def servers(args):
    """The command lines of what is compared, by name."""
    commands = {"redis": redis("always").command}
    for name, binary in (("before", args.before), ("distcache", args.node)):
        if binary:
            of_binary = argparse.Namespace(node=binary, flags=args.flags)
            commands[name] = ours(of_binary, "always", args.shards).command
    return commands


def measure(name, command, delay_ms, args, figures):
    with slow_syncs(delay_ms) as preload:
        server = Bench(name, f"{preload} {command}").start(args.server_cores)
        try:
            for pipeline in args.pipelines:
                # Half of the clients in a sync, and 0.2 ms for all else.
                rate = args.clients / 2 / (delay_ms + 0.2) * 1000 * pipeline
                for seconds in (WARM_S, RUN_S):
                    requests = max(1000, int(rate * seconds))
                    figure = redis_benchmark(server, "set", pipeline, requests, args)
                figures.setdefault((delay_ms, pipeline, name), []).append(figure)
        finally:
            remove(server)


def numbers(kind):
    return lambda text: [kind(part) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", required=True, help="a release build of distcache-node")
    parser.add_argument("--before", help="another one, to compare with")
    parser.add_argument("--flags", default="", help="more flags for the node")
    parser.add_argument("--sync-ms", type=numbers(float), default=[1.0, 3.0, 10.0],
                        help="what is added to each sync, in milliseconds: 1,3,10")
    parser.add_argument("--pipelines", type=numbers(int), default=[1, 16])
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--keyspace", type=int, default=100_000)
    parser.add_argument("--value", type=int, default=64, help="bytes of a value")
    parser.add_argument("--server-cores", default="0")
    parser.add_argument("--client-cores", default="1")
    args = parser.parse_args()
    commands, figures = servers(args), {}
    for _ in range(args.rounds):
        for delay_ms in args.sync_ms:
            for name, command in commands.items():
                measure(name, command, delay_ms, args, figures)
    median = lambda key, what: statistics.median(run[what] for run in figures[key])
    print("| case | server | op/s | over redis | p50 ms | p99 ms |\n|---|---|--:|--:|--:|--:|")
    for delay_ms in args.sync_ms:
        for pipeline in args.pipelines:
            for name in commands:
                key = (delay_ms, pipeline, name)
                ratio = median(key, "ops") / median((delay_ms, pipeline, "redis"), "ops")
                print(f"| P={pipeline} SET, syncs {delay_ms:g} ms longer | {name} | "
                      f"{median(key, 'ops'):,.0f} | {ratio:.2f} | {median(key, 'p50_ms'):.2f} | "
                      f"{median(key, 'p99_ms'):.2f} |")


if __name__ == "__main__":
    main()
