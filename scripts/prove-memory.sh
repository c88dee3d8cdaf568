#!/usr/bin/env bash
# prove-memory.sh [KEYS]: what a backup holds in memory while half of KEYS (5 million) are written during the capture. Two
# backups of one server, one without writers and one under them, at the same rate; prints the peak of each (VmHWM), the
# most keys that were dirty at once, and the difference for each of these. Ends with 1 if that is more than 40 bytes and
# 32 MiB of buffers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

keys=${1:-5000000} rate=$((${1:-5000000} / 25))
scripts/servers.sh redis-7.4 >&2
cargo build --release --locked -q -p replsync-node
servers=${REPLSYNC_SERVERS:-$PWD/target/servers} node=$PWD/target/release/replsync-node
dir=$(mktemp -d) port=$((20000 + RANDOM % 10000))
cleanup() { kill "$server" ${writer:+"$writer"} 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$dir"; }
trap cleanup EXIT
"$servers/redis-7.4/server" --port "$port" --bind 127.0.0.1 --dir "$dir" --save '' --logfile "$dir/log" &
server=$!
cli=("$servers/redis-7.4/cli" -p "$port")
until "${cli[@]}" ping >/dev/null 2>&1; do sleep 0.1; done
for ((from = 0; from < keys; from += 100000)); do
  "${cli[@]}" eval "for i=$from,$((from + 99999)) do redis.call('SET','key:'..i,i) end" 0 >/dev/null
done

measure() { # measure NAME: runs a backup and says its peak in KiB and the most dirty keys that it told of
  mkdir "$dir/$1"
  "$node" backup "redis://127.0.0.1:$port" --to "$dir/$1" --spool "$dir" --max-keys-per-second "$rate" --json \
    >"$dir/$1.json" 2>"$dir/$1.progress" &
  local node_pid=$! peak=0 now
  while now=$(awk '/VmHWM/ { print $2 }' "/proc/$node_pid/status" 2>/dev/null) && [ -n "$now" ]; do
    peak=$now
    sleep 0.2
  done
  wait "$node_pid"
  echo "$peak"
}

quiet_kib=$(measure quiet)
# Every second key, from the first to the last and again, as fast as a capture at that rate takes.
python3 - "$port" "$keys" "$rate" <<'PY' &
import socket, sys, time
port, keys, rate = map(int, sys.argv[1:])
link = socket.create_connection(("127.0.0.1", port))
began, sent = time.time(), 0
while True:
    for start in range(0, keys, 2000):
        link.sendall(b"".join(b"INCR key:%d\r\n" % key for key in range(start, start + 2000, 2)))
        left = 1000
        while left > 0:
            left -= link.recv(1 << 16).count(b"\n")
        sent += 1000
        time.sleep(max(0, began + sent / (rate / 2) - time.time()))
PY
writer=$!
written_kib=$(measure written)
dirty=$(grep -oE '[0-9,]+ dirty' "$dir/written.progress" | tr -d ', dirty' | sort -n | tail -1)
echo "without writers: peak $quiet_kib KiB"
echo "$((keys / 2)) of $keys keys written meanwhile: peak $written_kib KiB, up to $dirty keys dirty"
extra=$(((written_kib - quiet_kib) * 1024))
echo "$((extra / (dirty > 0 ? dirty : 1))) bytes more for each dirty key ($extra bytes)"
python3 -c 'import json,sys; r=json.load(open(sys.argv[1])); print("exact:", r["exact"], "keys:", r["keys"], "pause_ms:", r["pause_ms"])' "$dir/written.json"
[ "$extra" -le $((dirty * 40 + (32 << 20))) ]
