#!/usr/bin/env bash
# A cluster of nodes on this machine, to try things with: started, grown, drained and stopped.
#   scripts/cluster.sh up 3           three nodes; returns when each has its share
#   scripts/cluster.sh add            one more: it takes its share while clients work
#   scripts/cluster.sh start NODE     one that was killed, with its data
#   scripts/cluster.sh remove NODE    every key moves away, then the process exits 0
#   scripts/cluster.sh status         members, keys, moves; --format json for programs
#   scripts/cluster.sh logs NODE      what a node says; further arguments go to tail
#   scripts/cluster.sh down           stops all; `up` starts them again with their data
#   scripts/cluster.sh down --delete  ... and deletes their data
# NODE is a node's number (1, 2, ...), its id, or an address. Node I listens for clients on port
# BASE + 10 * (I - 1), for clients that know the slots on the next one, for operators (HTTP: /metrics,
# /health/ready) on the one after that, and for other nodes on BASE + 10 * (I - 1) + 10000.
#
# Environment:
#   DISTCACHE_NODE           the program; else a release build of this tree
#   DISTCACHE_CLUSTER_DIR    where data and logs are (default: .cluster in this tree)
#   DISTCACHE_CLUSTER_BASE   the first port (default: 2050)
#   DISTCACHE_CLUSTER_WAIT   seconds to wait for the cluster (default: 120)
# Options of the nodes are set as always, such as DISTCACHE_CLUSTER_SECRET or DISTCACHE_OPLOG.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dir=${DISTCACHE_CLUSTER_DIR:-$root/.cluster}
base=${DISTCACHE_CLUSTER_BASE:-2050}
wait_s=${DISTCACHE_CLUSTER_WAIT:-120}
host=127.0.0.1

say() { echo "cluster: $*"; }
fail() { echo "cluster: $*" >&2; exit 1; }
usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
is_number() { [[ $1 =~ ^[1-9][0-9]{0,3}$ ]]; }

port_of() { echo $((base + 10 * ($1 - 1))); }
address_of() { echo "$host:$(port_of "$1")"; }
bus_of() { echo "$host:$(($(port_of "$1") + 10000))"; }

# Numbers of the nodes that have data, ascending.
known() {
  local data
  for data in "$dir"/node-*/data; do
    [ -d "$data" ] || continue
    data=${data%/data}
    echo "${data##*/node-}"
  done | sort -n
}

# Whether a node's process runs; another process may have its number by now.
runs() {
  local pid
  pid=$(cat "$dir/node-$1/pid" 2>/dev/null) || return 1
  kill -0 "$pid" 2>/dev/null || return 1
  [ ! -r "/proc/$pid/cmdline" ] ||
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -- "$dir/node-$1/data"
}

running() {
  local node
  for node in $(known); do
    if runs "$node"; then echo "$node"; fi
  done
}

bus_list() {
  local node list=
  for node in "$@"; do list=$list${list:+,}$(bus_of "$node"); done
  echo "$list"
}

find_program() {
  if [ -n "${DISTCACHE_NODE:-}" ]; then
    program=$(command -v -- "$DISTCACHE_NODE") || fail "DISTCACHE_NODE=$DISTCACHE_NODE is no program"
    [[ $program == /* ]] || program=$PWD/$program
  else
    (cd "$root" && cargo build --release -p distcache-node --bin distcache-node >&2) ||
      fail "the build failed"
    program=${CARGO_TARGET_DIR:-$root/target}/release/distcache-node
  fi
}

# Only one of these scripts at a time changes the cluster.
lock() {
  mkdir -p "$dir"
  exec 9>"$dir/lock"
  ! command -v flock >/dev/null || flock -n 9 || fail "another cluster.sh is at work in $dir"
}

# Starts node $1, with the bus addresses $2 to look for others at.
start() {
  local node=$1 seeds=$2 at=$dir/node-$1
  mkdir -p "$at/data"
  rm -f "$at/exit" "$at/pid"
  # The shell between tells how the process ended; setsid keeps it from the terminal's signals.
  # shellcheck disable=SC2016 # the inner shell expands it
  env -u DISTCACHE_NODE -u DISTCACHE_CLUSTER_DIR -u DISTCACHE_CLUSTER_BASE -u DISTCACHE_CLUSTER_WAIT \
    setsid bash -c '
      at=$1; shift
      "$@" & echo $! >"$at/pid.new"; mv "$at/pid.new" "$at/pid"
      wait $!; echo $? >"$at/exit"' \
    cluster-node "$at" "$program" --port "$(port_of "$node")" --bind "$host" \
    --data-dir "$at/data" --seeds "$seeds" </dev/null >>"$at/log" 2>&1 9>&- &
  local tries=0
  until [ -s "$at/pid" ]; do
    tries=$((tries + 1))
    [ $tries -le 100 ] || fail "node $node did not start"
    sleep 0.05
  done
}

check_alive() {
  local node
  for node in "$@"; do
    [ ! -e "$dir/node-$node/exit" ] || {
      tail -n 5 "$dir/node-$node/log" >&2
      fail "node $node has ended with exit code $(cat "$dir/node-$node/exit"); see $dir/node-$node/log"
    }
  done
}

ask() {
  local seeds
  mapfile -t seeds < <(running)
  "$program" cluster "$@" --seeds "$(bus_list "${seeds[@]}")"
}
count() { { grep -o -- "$1" <<<"$2" || true; } | wc -l; }
# The value of field $1 in the JSON object $2.
field() { { grep -o "\"$1\":[^,}]*" <<<"$2" || true; } | head -n 1 | cut -d : -f 2- | tr -d '"'; }
# The object of the node with the address $1 in the status $2.
node_in() { grep -o "{[^{}]*\"client\":\"$1\"[^{}]*}" <<<"$2" || true; }

# Waits until the nodes are members, serve, and have their shares; shows how far it is.
await_shares() {
  local nodes=("$@") status='' deadline=$((SECONDS + wait_s)) line last=''
  while true; do
    check_alive "${nodes[@]}"
    if status=$(ask status --format json --timeout 3 2>/dev/null); then
      if [ "$(count '"id":' "$status")" -ge ${#nodes[@]} ] && is_settled "$status" "${nodes[@]}"; then
        break
      fi
      line=$(progress "$status")
    else
      line="waiting for the nodes to find each other"
    fi
    [ "$line" = "$last" ] || say "$line"
    last=$line
    [ $SECONDS -lt $deadline ] || fail "not ready after $wait_s s; see $dir/node-*/log"
    sleep 0.2
  done
}

is_settled() {
  local status=$1 node object
  shift
  grep -q '"unserved":0,' <<<"$status" || return 1
  grep -q '"moves":\[\],"moves_left":0,' <<<"$status" || return 1
  for node in "$@"; do
    object=$(node_in "$(address_of "$node")" "$status")
    [[ $object == *'"status":"up"'* && $object == *'"is_leased":true'* ]] || return 1
    [[ $object != *'"role":"data"'* || $(field partitions "$object") != 0 ]] || return 1
  done
}

# One line about what moves.
progress() {
  local moving left eta
  moving=$(count '"partition":' "$1")
  left=$(($(field moves_left "$1") + moving))
  eta=$(field eta_s "$1")
  if [ "$left" -eq 0 ]; then
    echo "$(count '"id":' "$1") members"
  else
    echo "$left partitions to move, $moving under way$([ "$eta" = null ] || echo ", about $eta s")"
  fi
}

up() {
  local count=${1:-} nodes node
  mapfile -t nodes < <(known)
  [ -z "$(running)" ] || fail "it runs already: nodes $(running | xargs) in $dir"
  if [ ${#nodes[@]} -eq 0 ]; then
    count=${count:-3}
    mapfile -t nodes < <(seq 1 "$count")
  elif [ -n "$count" ] && [ "$count" -ne ${#nodes[@]} ]; then
    fail "$dir has the data of ${#nodes[@]} nodes: start these with 'up', or 'down --delete' them first"
  fi
  find_program
  for node in "${nodes[@]}"; do start "$node" "$(bus_list "${nodes[@]}")"; done
  await_shares "${nodes[@]}"
  say "${#nodes[@]} nodes are up: $(for node in "${nodes[@]}"; do address_of "$node"; done | xargs)"
}

add() {
  local node=1 others
  mapfile -t others < <(running)
  [ ${#others[@]} -gt 0 ] || fail "no node runs in $dir: start some with 'up 3'"
  while [ -d "$dir/node-$node/data" ]; do node=$((node + 1)); done
  find_program
  start "$node" "$(bus_list "${others[@]}")"
  say "node $node starts at $(address_of "$node")"
  await_shares "$node"
  say "node $node has its share"
}

start_again() {
  local node=$1
  [ -d "$dir/node-$node/data" ] || fail "there is no node $node in $dir; it has: $(known | xargs)"
  ! runs "$node" || fail "node $node runs already"
  find_program
  local all
  mapfile -t all < <({ running; echo "$node"; } | sort -nu)
  start "$node" "$(bus_list "${all[@]}")"
  await_shares "$node"
  say "node $node is back at $(address_of "$node")"
}

remove() {
  local name=$1 node=0 object address deadline
  [ -n "$(running)" ] || fail "no node runs in $dir"
  find_program
  if is_number "$name" && [ -d "$dir/node-$name" ]; then
    node=$name
    address=$(address_of "$node")
  else
    address=$name
  fi
  # Which of these processes is meant is only known while it is a member.
  local status
  status=$(ask status --format json) || exit 1
  ask remove "$address" || exit 1
  for object in $(running); do
    if [[ $(node_in "$(address_of "$object")" "$status") == *"\"$address"* ]]; then node=$object; fi
  done
  [ "$node" -ne 0 ] || { say "$name is none of the nodes in $dir; its process ends by itself"; return; }
  deadline=$((SECONDS + wait_s))
  until [ -e "$dir/node-$node/exit" ]; do
    [ $SECONDS -lt $deadline ] || fail "node $node has left, but its process has not ended"
    sleep 0.1
  done
  local code
  code=$(cat "$dir/node-$node/exit")
  [ "$code" -eq 0 ] || fail "the process of node $node ended with exit code $code"
  # It has no keys, and its identity is used up.
  rm -rf "$dir/node-$node/data"
  say "the process of node $node has ended with exit code 0"
}

down() {
  local node nodes deadline=$((SECONDS + wait_s))
  mapfile -t nodes < <(running)
  for node in "${nodes[@]}"; do kill -TERM "$(cat "$dir/node-$node/pid")" 2>/dev/null || true; done
  for node in "${nodes[@]}"; do
    while runs "$node"; do
      [ $SECONDS -lt $deadline ] || fail "node $node does not stop"
      sleep 0.1
    done
  done
  if [ "${1:-}" = --delete ]; then
    rm -rf "$dir"/node-*
  fi
  say "${#nodes[@]} nodes stopped"
}

logs() {
  local node=$1
  if ! is_number "$node" || [ ! -f "$dir/node-$node/log" ]; then
    fail "there is no node $node in $dir; it has: $(known | xargs)"
  fi
  shift
  [ $# -gt 0 ] || set -- -n 100
  exec tail "$@" "$dir/node-$node/log"
}

if ! [[ $base =~ ^[1-9][0-9]{3,4}$ ]] || [ "$base" -gt 50000 ]; then
  fail "DISTCACHE_CLUSTER_BASE=$base is no port from 1000 to 50000"
fi
is_number "$wait_s" || fail "DISTCACHE_CLUSTER_WAIT=$wait_s is no number of seconds"
case ${1:-} in
  up)
    [ $# -le 2 ] || usage
    [ $# -eq 1 ] || is_number "$2" || fail "'$2' is no number of nodes"
    lock
    up "${2:-}"
    ;;
  add) [ $# -eq 1 ] || usage; lock; add ;;
  start)
    [ $# -eq 2 ] || usage
    is_number "$2" || fail "'$2' is no node's number"
    lock
    start_again "$2"
    ;;
  remove) [ $# -eq 2 ] || usage; lock; remove "$2" ;;
  status)
    shift
    [ -n "$(running)" ] || fail "no node runs in $dir"
    find_program
    ask status "$@"
    ;;
  down)
    [ $# -eq 1 ] || [ "$*" = "down --delete" ] || usage
    lock
    down "${2:-}"
    ;;
  logs) [ $# -ge 2 ] || usage; shift; logs "$@" ;;
  help | -h | --help) usage 2>&1 ;;
  *) usage ;;
esac
