#!/usr/bin/env bash
# bench-migrate.sh: how long replsync-node migrate takes, beside native REPLICAOF and beside the ceiling: the very
# commands that it sends, pipelined from memory on one connection. On two million small strings and on some 500 MB of
# mixed keys; prints a table of each, and which aims were met. Three to five minutes once built; docs/performance.md
# explains and records it.
#
# usage: scripts/bench-migrate.sh [ROUNDS [FROM TO [PERCENT]]]
#   ROUNDS of all ways: 3; FROM and TO as scripts/servers.sh knows them: redis-7.4; PERCENT of the data sets: 100
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
rounds=${1:-3} from=${2:-redis-7.4} to=${3:-redis-7.4} percent=${4:-100}

scripts/tools.sh
scripts/servers.sh "$from" "$to" >&2
echo "bench-migrate.sh: building replsync-node (release)" >&2
cargo build --release --locked -q -p replsync-node -p replsync-tests --bin replsync-node --bin bench-migrate
# The servers go with the program that started them, but a moment later.
stop() {
  if [ -n "${bench:-}" ]; then kill "$bench" 2>/dev/null && wait "$bench" || true; fi
  rm -rf "$folder" 2>/dev/null || { sleep 1 && rm -rf "$folder"; }
}

folder=$(mktemp -d "${TMPDIR:-/tmp}/replsync-bench.XXXXXX")
trap stop EXIT
trap 'exit 130' INT TERM
TMPDIR=$folder target/release/bench-migrate "$from" "$to" "$rounds" "$percent" &
bench=$!
wait "$bench"
