#!/usr/bin/env bash
# bench.sh: runs the benchmarks of functions, each beside its named peer in the same run, and prints one table.
# Short on purpose: a minute or two, once built. Speeds are this machine's and of the fastest sample; the ratio is by
# how much replsync is faster than its peer.
#
# usage: scripts/bench.sh [TARGET…]     checksum, stream, lzf, rdb, apply, spool: all unless named
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/tools.sh
targets=()
for target; do targets+=(--bench "$target"); done
[ ${#targets[@]} -gt 0 ] || targets=(--benches)
export CRITERION_HOME=$PWD/target/bench.sh
rm -rf "$CRITERION_HOME"
cargo bench --locked -q -p replsync-benches "${targets[@]}" -- \
  --noplot --quiet --warm-up-time 0.3 --measurement-time 1.5 --sample-size 10 >&2
cargo run --release --locked -q -p replsync-benches --bin bench-table -- "$CRITERION_HOME"
