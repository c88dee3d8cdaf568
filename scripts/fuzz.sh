#!/usr/bin/env bash
# fuzz.sh: runs the fuzz targets, each for so many seconds, and prints how many inputs each was given.
# Ends with 1 when one of them found something; the input is then in fuzz/artifacts/TARGET.
#
# usage: scripts/fuzz.sh [TARGET…] [-- SECONDS]     all targets for 60 seconds each, unless told otherwise
#
# FUZZ_JOBS=N runs N targets at once. FUZZ_SANITIZER=none fuzzes without AddressSanitizer, about twice as fast.
# The corpus grows in fuzz/corpus/TARGET, from the seeds in fuzz/seeds/TARGET and the servers' RDB files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
data=crates/replsync/tests/data
sanitizer=${FUZZ_SANITIZER:-address}
seconds=60
targets=()

main() {
  while [ $# -gt 0 ]; do
    if [ "$1" = -- ]; then seconds=${2:?seconds}; break; fi
    targets+=("$1")
    shift
  done
  if [ ${#targets[@]} = 0 ]; then
    local bin
    for bin in $(sed -n 's|^path = "targets/\(.*\)\.rs"|\1|p' fuzz/Cargo.toml); do targets+=("$bin"); done
  fi
  export RUSTC_BOOTSTRAP=1 # AddressSanitizer is not for stable compilers to switch on
  cargo_fuzz
  cargo fuzz build --sanitizer "$sanitizer" "${build_only[@]}" >&2
  local target running=0 failed=0
  logs=$(mktemp -d "${TMPDIR:-/tmp}/replsync-fuzz.XXXXXX")
  trap 'rm -rf "$logs"' EXIT
  for target in "${targets[@]}"; do
    if [ "$running" -ge "${FUZZ_JOBS:-1}" ]; then wait -n || failed=1; running=$((running - 1)); fi
    run "$target" &
    running=$((running + 1))
  done
  while [ $running -gt 0 ]; do wait -n || failed=1; running=$((running - 1)); done
  printf '%-16s %12s %10s %10s  %s\n' target executions coverage corpus result
  for target in "${targets[@]}"; do summary "$target"; done
  return $failed
}

# Installed where cargo installs, if it is not there.
cargo_fuzz() {
  build_only=()
  [ ${#targets[@]} != 1 ] || build_only=("${targets[0]}")
  cargo fuzz --version >/dev/null 2>&1 && return
  echo "fuzz.sh: installing cargo-fuzz" >&2
  cargo install --quiet --locked cargo-fuzz >&2
}

run() { # run TARGET: its output goes to a log
  local target=$1 folder args=()
  mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
  for folder in "fuzz/corpus/$target" "fuzz/seeds/$target"; do
    if [ -d "$folder" ]; then args+=("$folder"); fi
  done
  if [ "$target" = rdb ]; then args+=("$data"); fi
  fuzz/target/x86_64-unknown-linux-gnu/release/"$target" "${args[@]}" -artifact_prefix="fuzz/artifacts/$target/" \
    -max_total_time="$seconds" -max_len=65536 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 >"$logs/$target" 2>&1
}

summary() { # summary TARGET: a line of the table, and what was found
  local log=$logs/$1 executions coverage corpus result=ok
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  coverage=$(grep -o ' cov: [0-9]*' "$log" | tail -1 | tr -dc 0-9)
  corpus=$(grep -o ' corp: [0-9]*' "$log" | tail -1 | tr -dc 0-9)
  if grep -q 'SUMMARY: libFuzzer\|SUMMARY: AddressSanitizer\|^==.*ERROR' "$log"; then
    result=$(sed -n 's/.*panicked at /panicked at /p; s/^SUMMARY: //p' "$log" | head -1)
    sed -n '/panicked at/,$p' "$log" | head -40 >&2
  fi
  printf '%-16s %12s %10s %10s  %s\n' "$1" "${executions:-?}" "${coverage:-?}" "${corpus:-?}" "$result"
}

main "$@"
