#!/usr/bin/env bash
# bench-incident.sh: the incident that this project began with, "master OOM-killed during BGSAVE + PSYNC", and the same
# with `backup` and with `migrate`. A master in a memory cgroup of 256 MiB (version 1, as root) holds 190,000 keys of 1000
# bytes, AOF and save points on, under 10,000 SET/s; then a stock replica attaches, or a backup is made, or it is migrated
# into a server outside the cgroup. Prints for each whether the master lived, its peak of anonymous memory, and p50, p99
# and p99.9 of its clients' latency. Ends with 0 when the classic way killed it and ours did not. Two minutes once built.
#
# usage: scripts/bench-incident.sh [SERVER [RUNS]]
#   SERVER as scripts/servers.sh knows it: redis-7.0; RUNS of all three: 1
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
server=${1:-redis-7.0} runs=${2:-1}

# Before anything is built: without this there is nothing to see.
probe=/sys/fs/cgroup/memory/replsync-probe-$$
mkdir "$probe" 2>/dev/null && rmdir "$probe" || {
  echo "bench-incident.sh: cannot make a memory cgroup in /sys/fs/cgroup/memory (version 1, as root)" >&2
  exit 1
}
scripts/tools.sh
scripts/servers.sh "$server" >&2
echo "bench-incident.sh: building replsync-node (release)" >&2
cargo build --release --locked -q -p replsync-node -p replsync-tests --bin replsync-node --bin bench-incident
# The servers go with the program that started them, but a moment later.
stop() {
  if [ -n "${bench:-}" ]; then kill "$bench" 2>/dev/null && wait "$bench" || true; fi
  rm -rf "$folder" 2>/dev/null || { sleep 1 && rm -rf "$folder"; }
}

folder=$(mktemp -d "${TMPDIR:-/tmp}/replsync-bench.XXXXXX")
trap stop EXIT
trap 'exit 130' INT TERM
TMPDIR=$folder target/release/bench-incident "$server" "$runs" &
bench=$!
wait "$bench"
