"""The compiled client that checks every reply (`node/examples/checked_load.rs`), for campaigns."""
import json
import os
import subprocess

from nodes import Failed


class CheckedLoad:
    """It works from when it is made, on the plain ports of `nodes`, and of `direct` as a client
    that knows the slots."""

    def __init__(self, binary, keys, nodes, direct=(), values=(0,), rate=0, pipeline=32):
        program = os.path.join(os.path.dirname(binary), "examples", "checked_load")
        if not os.path.exists(program):
            raise Failed(f"{program} is not there: cargo build --workspace --examples")
        words = [program, "--nodes", ",".join(f"{node.host}:{node.port}" for node in nodes),
                 "--rate", str(rate), "--pipeline", str(pipeline),
                 "--values", ",".join(str(size) for size in values)]
        if direct:
            addresses = ",".join(f"{node.host}:{node.direct}" for node in direct)
            words += ["--cluster-nodes", addresses]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.process.stdin.write("".join(f"{key}\n" for key in keys) + "\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != "ready\n":
            raise Failed(f"checked_load has ended with {self.process.wait()}")

    def mark(self, phase):
        """What follows is told apart by this name."""
        self.process.stdin.write(f"{phase}\n")
        self.process.stdin.flush()

    def stop(self, limit):
        """Ends it; returns its phases, in order, each with operations, rate, p50, p99 and max."""
        said, _ = self.process.communicate(timeout=limit)
        told = json.loads(said)
        if told["faults"]:
            raise Failed("; ".join(told["faults"]))
        return told["phases"]


def phase_rows(phases):
    """Rows of a table, one a phase."""
    return [(name, f"{one['operations']:,} operations, {one['rate']:,.0f}/s, turns p50 "
                   f"{one['p50']:.2f} p99 {one['p99']:.1f} max {one['max']:.0f} ms")
            for name, one in phases.items()]
