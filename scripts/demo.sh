#!/usr/bin/env bash
# demo.sh: the main job on two real servers. Redis 8.6 (legacy) is filled and written to all the time; replsync-node
# moves it to Redis 7.4 (v2), which could not replicate from it; then both sides are compared by ordinary commands.
# Everything it needs it gets itself, into target/. Ends with 0 when nothing differs.
#
# With `backup`: an exact backup of a server that is written to all the time, without a fork; a replica that starts on it
# continues from there, and is compared with the master.
#
# usage: scripts/demo.sh [LEGACY V2]     names as scripts/servers.sh knows them
#        scripts/demo.sh backup [SERVER]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
demo=demo servers=("${1:-redis-8.6}" "${2:-redis-7.4}")
if [ "${1:-}" = backup ]; then
  demo=demo-backup servers=("${2:-redis-8.6}")
fi

main() {
  scripts/tools.sh
  for n in "${!servers[@]}"; do servers[n]=$(server "${servers[n]}"); done
  echo "demo.sh: building replsync-node (release)" >&2
  cargo build --release --locked -q -p replsync-node -p replsync-tests --bin replsync-node --bin "$demo"
  folder=$(mktemp -d "${TMPDIR:-/tmp}/replsync-demo.XXXXXX")
  trap 'stop; rm -rf "$folder"' EXIT
  trap 'exit 130' INT TERM
  TMPDIR=$folder "target/release/$demo" "${servers[@]}" &
  running=$!
  wait "$running"
}

# The name of a server that is there now, or where it cannot be had, the redis-server on the PATH.
server() {
  local program
  if scripts/servers.sh "$1" >&2; then
    echo "$1"
  elif program=$(command -v redis-server); then
    echo "demo.sh: $1 could not be had; $program ($("$program" --version)) takes its place" >&2
    echo "$program"
  else
    echo "demo.sh: $1 could not be had, and there is no redis-server on the PATH" >&2
    return 1
  fi
}

# Ends the demo if it still runs; the servers that it started go with it.
stop() { [ -z "${running:-}" ] || kill "$running" 2>/dev/null || true; }

main
