#!/usr/bin/env bash
# A short life of a cluster with scripts/cluster.sh: up 2, add, status, remove, down.
#   scripts/cluster_smoke.sh PROGRAM
set -euo pipefail
cd "$(dirname "$0")/.."

program=${1:-${CARGO_TARGET_DIR:-target}/debug/distcache-node}
[ -x "$program" ] || { echo "cluster_smoke: $program is not there: cargo build --workspace" >&2; exit 1; }
DISTCACHE_NODE=$(realpath "$program")
DISTCACHE_CLUSTER_DIR=$(mktemp -d)
# Away from where nodes usually are, and different for two runs at a time.
DISTCACHE_CLUSTER_BASE=$((3000 + RANDOM % 600 * 10))
export DISTCACHE_NODE DISTCACHE_CLUSTER_DIR DISTCACHE_CLUSTER_BASE

finish() {
  status=$?
  [ $status -eq 0 ] || tail -n 20 "$DISTCACHE_CLUSTER_DIR"/node-*/log >&2 || true
  scripts/cluster.sh down --delete >/dev/null || true
  rm -rf "$DISTCACHE_CLUSTER_DIR"
  exit $status
}
trap finish EXIT

expect() {
  if ! grep -q "$1" <<<"$2"; then
    echo "cluster_smoke: FAILED: no '$1' in: $2" >&2
    exit 1
  fi
}

scripts/cluster.sh up 2
! scripts/cluster.sh up 2 2>/dev/null || { echo "cluster_smoke: FAILED: it started twice" >&2; exit 1; }
scripts/cluster.sh add
expect ': 3 nodes, ' "$(scripts/cluster.sh status)"
scripts/cluster.sh remove 1
expect ': 2 nodes, ' "$(scripts/cluster.sh status)"
scripts/cluster.sh down
scripts/cluster.sh up
expect ': 2 nodes, ' "$(scripts/cluster.sh status)"
echo "cluster_smoke: a cluster of two grew, gave a node up, stopped and came back"
