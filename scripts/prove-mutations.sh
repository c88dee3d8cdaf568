#!/usr/bin/env bash
# prove-mutations.sh: damaged files and values, more of them than the tests have: every byte of every fixture flipped,
# and values with a byte or two changed, our verdict beside the servers' own. Prints how many of what there were.
#
# usage: scripts/prove-mutations.sh [SEED [N]]     N values for each server: 200,000 unless told otherwise; N / 1000 files
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/tools.sh
scripts/servers.sh redis-7.0 redis-7.4 redis-8.6 valkey-9 >/dev/null
cargo build --locked -q -p replsync-node
export REPLSYNC_SEED=${1:-1} REPLSYNC_MUTATIONS=${2:-200000}
echo "\$ scripts/prove-mutations.sh $REPLSYNC_SEED $REPLSYNC_MUTATIONS"
cargo test --release --locked -q -p replsync-tests --test mutations -- --nocapture --test-threads=1
