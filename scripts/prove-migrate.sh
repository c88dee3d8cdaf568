#!/usr/bin/env bash
# prove-migrate.sh [ROUNDS] [SEED]: the migration matrix again and again, each round with another seed, from SEED on.
# Prints a line for each round and a sum; a failed round's output stays in target/prove-migrate/SEED.log.
# One round is part of scripts/test.sh (seed 1). REPLSYNC_KEYS changes the size (6000 keys).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${1:-10} first=${2:-$((RANDOM * 32768 + RANDOM))}
logs=target/prove-migrate failed=()
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-4}

mkdir -p "$logs"
scripts/tools.sh
scripts/servers.sh redis-5.0 redis-6.2 redis-7.0 redis-7.2 redis-7.4 redis-8.0 redis-8.6 valkey-8.1 valkey-9 >/dev/null
cargo build --locked -q -p replsync-node
cargo test --locked -q -p replsync-tests --test migrate --no-run

for ((round = 0; round < rounds; round++)); do
  seed=$((first + round)) begun=$SECONDS log=$logs/$((first + round)).log
  if REPLSYNC_SEED=$seed cargo test --locked -p replsync-tests --test migrate -- --nocapture _to_ >"$log" 2>&1; then
    verdict="equal ($(grep -c '^test .* \.\.\. ok$' "$log") pairs)"
    rm "$log"
  else
    verdict="FAILED, see $log"
    failed+=("$seed")
  fi
  echo "round $((round + 1)) of $rounds, seed $seed: $verdict, $((SECONDS - begun)) s"
done

echo "$((rounds - ${#failed[@]})) of $rounds rounds equal${failed[*]:+; failed seeds: ${failed[*]}}"
[ ${#failed[@]} = 0 ]
