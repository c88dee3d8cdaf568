#!/usr/bin/env bash
# prove-nothing-lost.sh [ROUNDS] [SEED]: the proofs that a migration loses nothing, longer than scripts/test.sh has them:
# the target lags for 30 s (REPLSYNC_LAG_SECONDS), 20 runs are verified (REPLSYNC_RUNS), each round has another seed, from
# SEED on. Prints a line for each part of a round and a sum; the output of a part that failed stays in
# target/prove-nothing-lost/PART-SEED.log. A round takes some six minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${1:-1} first=${2:-$((RANDOM * 32768 + RANDOM))}
parts=(cuts expiries verify targets)
logs=target/prove-nothing-lost failed=() passed=0
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-4}
export REPLSYNC_LAG_SECONDS=${REPLSYNC_LAG_SECONDS:-30} REPLSYNC_RUNS=${REPLSYNC_RUNS:-20}

mkdir -p "$logs"
scripts/tools.sh
scripts/servers.sh redis-5.0 redis-6.2 redis-7.0 redis-7.2 redis-7.4 redis-8.0 redis-8.6 valkey-8.1 valkey-9 >/dev/null
cargo build --locked -q -p replsync-node
tests=("${parts[@]/#/--test=}")
cargo test --locked -q -p replsync-tests "${tests[@]}" --no-run

for ((round = 0; round < rounds; round++)); do
  seed=$((first + round))
  for part in "${parts[@]}"; do
    begun=$SECONDS log=$logs/$part-$seed.log
    if REPLSYNC_SEED=$seed cargo test --locked -p replsync-tests --test "$part" -- --nocapture >"$log" 2>&1; then
      verdict="$(awk '/^test result:/ { print $4 }' "$log") passed"
      passed=$((passed + 1))
      rm "$log"
    else
      verdict="FAILED ($(awk '/^test result:/ { print $6 }' "$log")), see $log"
      failed+=("$part-$seed")
    fi
    echo "round $((round + 1)) of $rounds, seed $seed, $part: $verdict, $((SECONDS - begun)) s"
  done
done

echo "$passed of $((rounds * ${#parts[@]})) parts passed${failed[*]:+; failed: ${failed[*]}}"
[ ${#failed[@]} = 0 ]
