#!/usr/bin/env bash
# bench-files.sh: how long RDB files of some 450 MB take: a plain read, redis-check-rdb, the rdb and librdb crates,
# and replsync: boundaries, verify on one core and on two, digest. Prints a table for each file, and which aims were met.
# docs/performance.md explains and records it.
#
# usage: scripts/bench-files.sh [ROUNDS [FILE…]]     3 rounds of small-keys, mixed and big-collections unless told
#
# The files are made with a real server at the first run (about three minutes, and 2 GB of memory) and kept in
# target/bench-files. A run of all takes some two minutes a round.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
rounds=${1:-3}

scripts/tools.sh
scripts/servers.sh redis-7.4 >&2
echo "bench-files.sh: building (release)" >&2
cargo build --release --locked -q -p replsync-node -p replsync-benches --bins
exec target/release/bench-files target/bench-files "$rounds" "${@:2}"
