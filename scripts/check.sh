#!/usr/bin/env bash
# Everything that must hold before a change lands: format, lints, tests, docs, short campaigns.
# Writes nothing to the tree but the (ignored) build folder. Needs Rust and a C compiler (cc); the
# tests also redis-server; the campaigns also python3 with redis-py, redis-cli and redis-benchmark
# (Debian: redis-server redis-tools python3-redis).
#   scripts/check.sh             all steps
#   scripts/check.sh lint test   only these
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
python=${DISTCACHE_PYTHON:-python3}
# Cargo.lock must be in step; PYTHONDONTWRITEBYTECODE keeps the tree free of __pycache__.
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto} PYTHONDONTWRITEBYTECODE=1

# Fails at once where a step would fail in an hour.
need() {
  for program in "$@"; do
    command -v "$program" >/dev/null || { echo "check: $program is not installed" >&2; exit 2; }
  done
}
needs_of() {
  case $1 in
    test) need cargo cc redis-server ;;
    campaigns)
      need cargo cc redis-server redis-cli redis-benchmark "$python"
      "$python" -c 'import redis' || { echo "check: $python lacks redis-py" >&2; exit 2; } ;;
    *) need cargo ;;
  esac
}

step_format() { cargo fmt --all --check; }
step_lint() { cargo clippy --workspace --all-targets --all-features --locked -- -D warnings; }
# The README's command; then the tests of the typed client, which is an optional feature.
step_test() { cargo test --workspace --locked --no-fail-fast; }
step_client() { cargo test -p distcache-protocol --all-features --locked; }
step_docs() { RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps --locked; }
step_campaigns() {
  cargo build --workspace --bins --examples --locked
  local node=$target/debug/distcache-node
  "$python" scripts/crash_loop.py --node "$node" --rounds 4
  "$python" scripts/crash_loop.py --node "$node" --rounds 2 --sync-ms 3
  "$python" scripts/crash_loop.py --node "$node" --rounds 2 --policy everysec
  "$python" scripts/bad_clients.py --node "$node" --short
  "$python" scripts/disk_full.py --node "$node"
  "$python" scripts/disk_full.py --node "$node" --file-limit --policy everysec
  "$python" scripts/clients.py --node "$node"
  scripts/cluster_smoke.sh "$node"
  "$python" scripts/cluster_moves.py --node "$node" move steady counters
  "$python" scripts/cluster_faults.py --node "$node" --short
}

steps=("$@")
[ $# -gt 0 ] || steps=(format lint test client docs campaigns)
for step in "${steps[@]}"; do
  declare -F "step_$step" >/dev/null || { echo "check: no step called $step" >&2; exit 2; }
  needs_of "$step"
done
for step in "${steps[@]}"; do
  echo "== $step"
  started=$SECONDS
  # A subshell of its own: `set -e` does not reach into a function called in a condition.
  set +e
  (set -e; "step_$step")
  status=$?
  set -e
  if [ $status -ne 0 ]; then
    echo "check: step $step failed (exit $status) after $((SECONDS - started)) s" >&2
    exit 1
  fi
  echo "== $step: passed in $((SECONDS - started)) s"
done
echo "check: all steps passed"
