#!/usr/bin/env bash
# fuzz.sh: runs the fuzz targets and prints how many inputs each was given.
# Ends with 1 when one of them found something; the input is then in fuzz/artifacts/TARGET.
#
# usage: scripts/fuzz.sh [TARGET…] [--seconds N | --executions N] [--log FILE] [--minimise]
#   --seconds N      each target for so long; 60 unless told otherwise
#   --executions N   each target until it was given so many inputs
#   --log FILE       append the command and the table to FILE too
#   --minimise       afterwards keep, in fuzz/seeds/TARGET.hex, the fewest inputs that cover what the corpus covers
#
# FUZZ_JOBS=N runs N targets at once. FUZZ_SANITIZER=none fuzzes without AddressSanitizer, about twice as fast: the
# library has no unsafe code. A run that takes more than 10 s for an input, or more than 512 MiB of memory (2 GiB with
# AddressSanitizer), has found something.
# The corpus grows in fuzz/corpus/TARGET, from the seeds in fuzz/seeds and the values of the servers' RDB files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
sanitizer=${FUZZ_SANITIZER:-address}
until=(-max_total_time=60)
targets=()
log=/dev/null
minimise=no
command="scripts/fuzz.sh $*"

main() {
  while [ $# -gt 0 ]; do
    case $1 in
      --seconds) until=(-max_total_time="${2:?seconds}"); shift ;;
      --executions) until=(-runs="${2:?executions}"); shift ;;
      --log) log=${2:?a file}; shift ;;
      --minimise) minimise=yes ;;
      -*) echo "fuzz.sh: $1 is no option" >&2; exit 2 ;;
      *) targets+=("$1") ;;
    esac
    shift
  done
  if [ ${#targets[@]} = 0 ]; then
    mapfile -t targets < <(sed -n 's|^path = "targets/\(.*\)\.rs"|\1|p' fuzz/Cargo.toml)
  fi
  build
  local target running=0 failed=0
  logs=$(mktemp -d "${TMPDIR:-/tmp}/replsync-fuzz.XXXXXX")
  trap 'rm -rf "$logs"' EXIT
  for target in "${targets[@]}"; do
    if [ "$running" -ge "${FUZZ_JOBS:-1}" ]; then wait -n || failed=1; running=$((running - 1)); fi
    fuzz "$target" &
    running=$((running + 1))
  done
  while [ $running -gt 0 ]; do wait -n || failed=1; running=$((running - 1)); done
  {
    echo "\$ FUZZ_SANITIZER=$sanitizer $command"
    printf '%-16s %12s %8s %10s %10s  %s\n' target executions seconds coverage corpus result
    for target in "${targets[@]}"; do summary "$target"; done
  } | tee -a "$log"
  if [ $minimise = yes ]; then for target in "${targets[@]}"; do minimised "$target"; done; fi
  return $failed
}

build() {
  export RUSTC_BOOTSTRAP=1 # AddressSanitizer is not for stable compilers to switch on
  if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz.sh: installing cargo-fuzz" >&2
    cargo install --quiet --locked cargo-fuzz >&2
  fi
  local only=()
  [ ${#targets[@]} != 1 ] || only=("${targets[0]}")
  cargo fuzz build --sanitizer "$sanitizer" "${only[@]}" >&2
  env -u RUSTC_BOOTSTRAP cargo test -q --locked -p replsync --test fuzz_seeds -- --ignored --exact write_seeds >&2
}

# The folders that a target starts from, the one that grows first.
folders() { # folders TARGET
  mkdir -p "fuzz/corpus/$1" "fuzz/artifacts/$1"
  unpack "$1"
  echo "fuzz/corpus/$1"
  if [ -d "fuzz/seeds/$1" ]; then echo "fuzz/seeds/$1"; fi
}

# Inputs that are kept as lines, as files again.
unpack() { # unpack TARGET
  local kept=fuzz/seeds/$1.hex line number=0
  [ -f "$kept" ] || return 0
  while read -r line; do
    number=$((number + 1))
    printf %b "$(sed 's/../\\x&/g' <<<"$line")" >"fuzz/corpus/$1/kept-$number"
  done <"$kept"
}

# Values are short and files of a few values long enough: what is short is fast.
max_len() { # max_len TARGET
  case $1 in
    listpack | ziplist | intset | lzf) echo 512 ;;
    rdb_* | dump_payload) echo 1024 ;;
    *) echo 4096 ;;
  esac
}

run() { # run TARGET ARGS…
  local memory=2048
  [ "$sanitizer" != none ] || memory=512
  # memory stays with the process: to get it anew for every input takes longer than the input
  MALLOC_MMAP_THRESHOLD_=67108864 MALLOC_TRIM_THRESHOLD_=268435456 \
    fuzz/target/x86_64-unknown-linux-gnu/release/"$1" -max_len="$(max_len "$1")" -timeout=10 -rss_limit_mb=$memory "${@:2}"
}

fuzz() { # fuzz TARGET: its output goes to a log
  local from
  mapfile -t from < <(folders "$1")
  run "$1" "${until[@]}" -print_final_stats=1 -artifact_prefix="fuzz/artifacts/$1/" "${from[@]}" >"$logs/$1" 2>&1
}

summary() { # summary TARGET: a line of the table, and what was found
  local output=$logs/$1 executions seconds coverage corpus result=ok
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$output")
  seconds=$(sed -n 's/^Done [0-9]* runs in \([0-9]*\) second.*/\1/p' "$output")
  coverage=$(grep -o ' cov: [0-9]*' "$output" | tail -1 | tr -dc 0-9 || true)
  corpus=$(grep -o ' corp: [0-9]*' "$output" | tail -1 | tr -dc 0-9 || true)
  if grep -q 'SUMMARY: libFuzzer\|SUMMARY: AddressSanitizer\|^==.*ERROR' "$output"; then
    result=$(sed -n 's/.*panicked at /panicked at /p; s/^SUMMARY: //p' "$output" | head -1 || true)
    sed -n '/panicked at/,$p' "$output" | head -40 >&2 || true
  fi
  printf '%-16s %12s %8s %10s %10s  %s\n' "$1" "${executions:-?}" "${seconds:-?}" "${coverage:-?}" "${corpus:-?}" "$result"
}

minimised() { # minimised TARGET: its corpus, the fewest inputs of it, as lines
  local few=$logs/few-$1 from file
  mapfile -t from < <(folders "$1")
  mkdir "$few"
  # by edges alone: how often each was taken would keep four times as many
  run "$1" -merge=1 -use_counters=0 "$few" "${from[@]}" >/dev/null 2>&1
  for file in "$few"/*; do od -An -v -tx1 "$file" | tr -d ' \n' && echo; done | LC_ALL=C sort >"fuzz/seeds/$1.hex"
  echo "$1: $(wc -l <"fuzz/seeds/$1.hex") inputs kept, $(wc -c <"fuzz/seeds/$1.hex") bytes as lines" | tee -a "$log"
}

main "$@"
