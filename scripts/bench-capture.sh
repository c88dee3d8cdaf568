#!/usr/bin/env bash
# bench-capture.sh: how fast a capture is, and what a server and its clients feel of it. Speed: `backup` beside
# `redis-cli --rdb`, and beside the rate at which the server answers pipelined PEXPIRETIME and DUMP on one connection, on
# two million small strings and on some 500 MB of mixed keys. Harm: 2,000 and 10,000 writes/s, pairs of runs with and
# without a capture. The server is on one processor, all else on the other. Prints Markdown for docs/performance.md, and
# which aims were met. Some five minutes once built.
#
# usage: scripts/bench-capture.sh [SERVER [PAIRS [PERCENT]]]
#   SERVER as scripts/servers.sh knows it: redis-7.4; PAIRS of runs: 5; PERCENT of the data sets: 100
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
server=${1:-redis-7.4} pairs=${2:-5} percent=${3:-100}

scripts/tools.sh
scripts/servers.sh "$server" >&2
command -v taskset >/dev/null || { echo "bench-capture.sh: no taskset: install util-linux" >&2; exit 1; }
echo "bench-capture.sh: building replsync-node (release)" >&2
cargo build --release --locked -q -p replsync-node -p replsync-tests --bin replsync-node --bin bench-capture
# The server goes with the program that started it, but a moment later.
stop() {
  if [ -n "${bench:-}" ]; then kill "$bench" 2>/dev/null && wait "$bench" || true; fi
  rm -rf "$folder" 2>/dev/null || { sleep 1 && rm -rf "$folder"; }
}

folder=$(mktemp -d "${TMPDIR:-/tmp}/replsync-bench.XXXXXX")
trap stop EXIT
trap 'exit 130' INT TERM
TMPDIR=$folder target/release/bench-capture "$server" "$pairs" "$percent" &
bench=$!
wait "$bench"
