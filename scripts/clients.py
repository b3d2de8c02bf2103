#!/usr/bin/env python3
"""Real clients against a node: redis-py in RESP2 and RESP3 and in its cluster mode, redis-cli, redis-benchmark.

Needs redis-py (pip install redis) and Debian's redis-tools.

  scripts/clients.py
  scripts/clients.py --server 'redis-server --port {port} --dir {dir} --save ""'
"""
import argparse
import subprocess

import redis

from nodes import Failed, Server, add_server_options, encode, run, server_command

# What is typed into redis-cli, and what it prints when its output is no terminal.
TRANSCRIPT = [
    ("SET brazil football", "OK"), ("GET brazil", "football"), ("GET none", ""),
    ("APPEND brazil !", "9"), ("INCR visits", "1"), ("INCRBY visits 41", "42"),
    ("INCR brazil", "ERR value is not an integer or out of range"),
    ("EXPIRE brazil 100", "1"), ("PERSIST brazil", "1"), ("TTL brazil", "-1"),
    ("MSET a 1 b 2 c 3", "OK"), ("MGET a none c", "1\n\n3"), ("EXISTS a b c d", "3"),
    ("OBJECT ENCODING visits", "int"), ("TYPE brazil", "string"), ("DEL a b c d", "3"),
    ("GETRANGE brazil 0 3", "foot"), ("RENAME brazil brasil", "OK"), ("DBSIZE", "2"),
    ("CONFIG GET maxmemory", "maxmemory\n0"), ("SET k v NX GET", ""), ("PING hello", "hello"),
    ("NOSUCH x", "ERR unknown command 'NOSUCH', with args beginning with: 'x' "),
]


def expect(found, expected, what):
    if found != expected:
        raise Failed(f"{what}: {found!r}, expected {expected!r}")


def redis_py(port, protocol):
    """The library's own methods, which ask for what libraries ask at connecting."""
    client = redis.Redis(port=port, protocol=protocol, decode_responses=True, client_name="smoke")
    client.flushall()
    expect(client.set("k", "v", ex=100, get=True), None, "SET EX GET")
    expect(client.get("k"), "v", "GET")
    expect(90 < client.ttl("k") <= 100, True, "TTL")
    expect(client.set("k", "w", nx=True), None, "SET NX")
    expect(client.getex("k", persist=True), "v", "GETEX PERSIST")
    expect(client.mset({f"key:{i}": i for i in range(500)}), True, "MSET")
    expect(client.mget("key:1", "none", "key:499"), ["1", None, "499"], "MGET")
    expect(len(set(client.scan_iter("key:*", count=50))), 500, "SCAN")
    expect(client.incrbyfloat("f", 1.5), 1.5, "INCRBYFLOAT")
    expect(client.incr("n", 5), 5, "INCRBY")
    pipeline = client.pipeline(transaction=False)
    for i in range(1000):
        pipeline.incr("n")
    expect(pipeline.execute()[-1], 1005, "a pipeline of INCR")
    expect(client.delete("key:1", "key:2", "none"), 2, "DEL")
    expect(client.client_getname(), "smoke", "CLIENT GETNAME")
    expect(client.config_get("maxmemory"), {"maxmemory": "0"}, "CONFIG GET")
    expect(client.info("keyspace")["db0"]["keys"], 501, "INFO keyspace")
    expect(isinstance(client.client_list(), list), True, "CLIENT LIST")
    expect(client.object("encoding", "n"), "int", "OBJECT ENCODING")
    expect(client.type("k"), "string", "TYPE")
    payload = redis.Redis(port=port).dump("k")
    expect(client.restore("k2", 0, payload), "OK", "RESTORE")
    expect(client.get("k2"), "v", "a restored value")
    try:
        client.incr("k")
        raise Failed("INCR of a text was not refused")
    except redis.ResponseError as error:
        expect(str(error), "value is not an integer or out of range", "INCR of a text")
    other = redis.Redis(port=port, db=3, protocol=protocol, decode_responses=True)
    expect(other.get("k"), None, "another database")
    expect(client.copy("k", "k", destination_db=3), True, "COPY to a database")
    expect(other.get("k"), "v", "the copy")
    client.flushall()
    expect(other.dbsize(), 0, "DBSIZE after FLUSHALL")


def redis_py_cluster(port, protocol):
    """The library's cluster mode, which finds the direct port from any other port."""
    client = redis.RedisCluster(host="127.0.0.1", port=port, protocol=protocol,
                                decode_responses=True)
    slots = client.execute_command("CLUSTER SLOTS")
    expect(list(slots), [(0, 16383)], "CLUSTER SLOTS")
    direct = client.get_primaries()[0]
    expect(direct.port, client.info("server")["direct_port"], "the direct port")
    client.flushall()
    for i in range(1000):
        client.set(f"key:{i}", i)
    expect(client.get("key:999"), "999", "GET")
    expect(client.mset_nonatomic({f"key:{i}": i for i in range(1000)}), [True] * 1000, "MSET")
    expect(client.mget_nonatomic("key:1", "none", "key:999"), ["1", None, "999"], "MGET")
    expect(client.dbsize(), 1000, "DBSIZE")
    expect(len(set(client.scan_iter("key:*", count=50))), 1000, "SCAN")
    pipeline = client.pipeline()
    for i in range(1000):
        pipeline.incr(f"key:{i}")
    expect(pipeline.execute(), list(range(1, 1001)), "a pipeline over all slots")
    expect(client.cluster_info()["cluster_state"], "ok", "CLUSTER INFO")
    expect(len(client.cluster_nodes()), 1, "CLUSTER NODES")
    expect(client.cluster_countkeysinslot(client.keyslot("key:1")) >= 1, True, "COUNTKEYSINSLOT")
    try:
        client.execute_command("MSET", "a", 1, "b", 2, target_nodes=direct)
        raise Failed("MSET of two slots was not refused")
    except redis.exceptions.ClusterCrossSlotError:
        pass
    expect(client.delete(*(f"key:{i}" for i in range(1000))), 1000, "DEL")
    client.close()


def redis_cli(port):
    """A transcript, bulk loading and the modes that scan."""
    cli = ["redis-cli", "-p", str(port)]
    subprocess.run(cli + ["FLUSHALL"], check=True, capture_output=True)
    typed = "".join(line + "\n" for line, _ in TRANSCRIPT)
    found = subprocess.run(cli, input=typed, capture_output=True, text=True, timeout=60).stdout
    expected = "".join(said + ("\n" if not said.startswith("ERR") else "\n\n")
                       for _, said in TRANSCRIPT)
    for (a, b) in zip(found.splitlines(), expected.splitlines()):
        expect(a, b, "redis-cli")
    expect(found, expected, "redis-cli")
    load = b"".join(encode(("SET", f"bulk:{i}", "x" * 50)) for i in range(20_000))
    piped = subprocess.run(cli + ["--pipe"], input=load, capture_output=True, timeout=120).stdout
    expect(b"errors: 0, replies: 20000" in piped, True, f"redis-cli --pipe said {piped!r}")
    scan = subprocess.run(cli + ["--scan", "--pattern", "bulk:*"], capture_output=True, timeout=120)
    expect(len(set(scan.stdout.split())), 20_000, "redis-cli --scan")
    for mode in ("--bigkeys", "--memkeys"):
        done = subprocess.run(cli + [mode], capture_output=True, text=True, timeout=120)
        expect("Sampled 20003 keys" in done.stdout, True, f"redis-cli {mode}: {done.stdout[-300:]}")


def redis_benchmark(port):
    tests = ["redis-benchmark", "-p", str(port), "-n", "5000", "-c", "20", "-P", "8", "-r", "1000",
             "-t", "ping,set,get,incr,mset", "-q"]
    done = subprocess.run(tests, capture_output=True, text=True, timeout=300)
    lines = [line for line in done.stdout.replace("\r", "\n").splitlines() if "per second" in line]
    if done.returncode or len({line.split(":")[0] for line in lines}) < 6 or "ERR" in done.stdout:
        raise Failed(f"redis-benchmark: {done.stdout[-500:]} {done.stderr[-500:]}")


def campaign(args):
    server = Server(server_command(args, "--shards 2"))
    server.start()
    try:
        redis_py(server.port, 2)
        redis_py(server.port, 3)
        if not args.server:
            direct = redis.Redis(port=server.port).info("server")["direct_port"]
            for (port, protocol) in ((server.port, 2), (server.port, 3), (direct, 2), (direct, 3)):
                redis_py_cluster(port, protocol)
        redis_cli(server.port)
        redis_benchmark(server.port)
        code = server.terminate()
        expect(code, 0, "exit code after SIGTERM")
    finally:
        server.remove()
    return f"redis-py {redis.__version__} (RESP2 and RESP3), redis-cli and redis-benchmark are content"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_server_options(parser)
    args = parser.parse_args()
    run("clients", lambda: campaign(args))


if __name__ == "__main__":
    main()
