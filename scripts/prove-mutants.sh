#!/usr/bin/env bash
# prove-mutants.sh: a proof that cannot fail proves nothing. Builds replsync-node so that rules of a capture can be
# switched off (`--features mutants`; never in a build for use), runs the test of each rule (tests/tests/capture_rules.rs)
# with the rule on and with it off, and prints a line for each. Ends with 0 when every test passed with its rule and
# failed without. Output of the runs stays in target/prove-mutants.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Each rule as REPLSYNC_MUTANT names it, and its test.
rules=(
  "recopy-dirty a_key_that_is_written_after_its_copy_is_copied_again"
  "unknown-commands a_script_that_writes_what_it_does_not_name_makes_everything_dirty"
  "first-offset a_key_that_is_written_between_its_copy_and_the_info_behind_is_copied_again"
  "stream-database writes_behind_the_cut_land_in_the_database_of_the_stream"
  "import-source keys_past_their_expiry_are_copied_under_import_mode"
  "swapdb exchanged_databases_are_exchanged_in_the_copy"
  "zremrangebyrank a_big_sorted_set_is_read_anew_after_a_removal_by_rank"
  "expiry-before-dump a_key_whose_time_is_over_between_its_expiry_and_its_value_does_not_stay"
)
logs=target/prove-mutants wrong=0

scripts/tools.sh
scripts/servers.sh redis-6.2 redis-7.4 valkey-8.1 valkey-9 >&2
mkdir -p "$logs"
# A folder of its own, or the next test would run a binary with mutants in it.
cargo build --locked -q -p replsync-node --features mutants --target-dir target/mutants
cargo test --locked -q -p replsync-tests --test capture_rules --no-run
export NODE_BIN=$PWD/target/mutants/debug/replsync-node RUST_BACKTRACE=0

passes() { # passes TEST LOG [MUTANT]
  REPLSYNC_MUTANT=${3:-} cargo test --locked -q -p replsync-tests --test capture_rules -- --exact "$1" >"$2" 2>&1
}

for rule in "${rules[@]}"; do
  read -r mutant test <<<"$rule"
  log=$logs/$mutant
  if ! passes "$test" "$log.with.log"; then
    verdict="FAILS WITH THE RULE, see $log.with.log"
  elif passes "$test" "$log.without.log" "$mutant"; then
    verdict="SURVIVES: its test passes without the rule, see $log.without.log"
  elif ! why=$(grep -m1 -A1 -E 'not exact|outlives' "$log.without.log" | tr -s '\n ' ' ' | cut -c1-160); then
    verdict="FAILS OF SOMETHING ELSE without the rule, see $log.without.log"
  else
    echo "$mutant: killed by $test: $why"
    continue
  fi
  echo "$mutant: $verdict"
  wrong=$((wrong + 1))
done

echo "$((${#rules[@]} - wrong)) of ${#rules[@]} mutants killed"
[ "$wrong" = 0 ]
