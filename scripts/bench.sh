#!/usr/bin/env bash
# Measures the node against redis-server and prints the table of the README; see bench.py --help.
#   scripts/bench.sh                      all cases (about half an hour, 4 GB of memory)
#   scripts/bench.sh speed memory         only these
#   scripts/bench.sh --quick              fewer rounds and keys: shows that it runs
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked -p distcache-node
export PYTHONDONTWRITEBYTECODE=1
exec python3 scripts/bench.py --node "${CARGO_TARGET_DIR:-target}/release/distcache-node" "$@"
