#!/usr/bin/env bash
# prove-captures.sh [CAPTURES] [SEED]: backups of masters under mixed random writers, each proved from outside: a stock
# server of the same version is started on the RDB as a replica, continues by a partial sync, and once the writers have
# stopped both hold the same. CAPTURES (200) over Redis 6.2 to 8.6 and Valkey 8.0 to 9; on Redis 5.0 and 6.0, which come
# in between and are not counted, a capture is exact or refused. Prints the seed, a line for each capture, and a sum.
# Ends with 1 at the first that is not equal; its RDB, and the dumps of the keys that differ, stay in
# target/prove-captures/SERVER-SEED. One capture on each server is part of scripts/test.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

captures=${1:-200} seed=${2:-$((RANDOM * 32768 + RANDOM))}
servers=(redis-5.0 redis-6.0 redis-6.2 redis-7.0 redis-7.2 redis-7.4 redis-8.0 redis-8.6 valkey-8.0 valkey-8.1 valkey-9)

scripts/tools.sh
scripts/servers.sh "${servers[@]}" >&2
cargo build --release --locked -q -p replsync-node -p replsync-tests --bin replsync-node --bin prove-captures
mkdir -p target/prove-captures
target/release/prove-captures "$captures" "$seed" | tee "target/prove-captures/$seed.log"
