#!/usr/bin/env bash
# prove-nfs.sh: verify over a real kernel's NFS, and what it says when the server takes the file away under it.
#
# A Linux kernel runs as a process (user-mode Linux): in it an NFS server in a network namespace of its own, a mount of
# it, and replsync-node. Shown are: a sound file over NFS 4.2 and 3; a file that the server cuts while it is read; one that
# it removes while it is read (ESTALE on NFS 3). Nothing of it touches this machine's kernel or network.
#
# usage: scripts/prove-nfs.sh     as root on Debian; installs user-mode-linux, nfs-kernel-server, rpcbind, kmod,
#                                 busybox-static and iproute2 where they are missing
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

missing=()
for package in user-mode-linux nfs-kernel-server nfs-common rpcbind kmod busybox-static iproute2; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "prove-nfs.sh: installing ${missing[*]}" >&2
    apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
fi
node=${NODE_BIN:-target/debug/replsync-node}
[ -n "${NODE_BIN:-}" ] || cargo build --locked -q -p replsync-node

share=$(mktemp -d)
trap 'rm -rf "$share"' EXIT
cp "$node" "$share/replsync-node"

cat >"$share/init.sh" <<'INIT'
#!/bin/bash
# Process 1 in the kernel; / is this machine's, read-only.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /mnt
mount -t tmpfs tmpfs /var/lib/nfs
ip link set lo up
share=$(sed -n 's/.*share=\([^ ]*\).*/\1/p' /proc/cmdline)
mkdir -p /mnt/share /mnt/export /mnt/nfs /run/lock /var/lib/nfs/v4recovery
mount -t hostfs none /mnt/share -o "$share"
bash /mnt/share/inside.sh 2>&1
echo "ended with $?" >/mnt/share/ended
sync
halt -f 2>/dev/null || busybox poweroff -f
INIT

cat >"$share/inside.sh" <<'INSIDE'
set -eu
node=/mnt/share/replsync-node
modules=$(echo /usr/lib/uml/modules/*/kernel)
for module in net/sunrpc/sunrpc fs/nfs_common/grace fs/lockd/lockd fs/netfs/netfs fs/fscache/fscache \
    fs/nfs_common/nfs_acl fs/nfs/nfs fs/nfs/nfsv3 net/dns_resolver/dns_resolver fs/nfs/nfsv4 lib/oid_registry \
    net/sunrpc/auth_gss/auth_rpcgss fs/nfsd/nfsd drivers/net/veth; do
    insmod "$modules/$module.ko" || echo "no module $module"
done
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
mount -t tmpfs -o size=200m tmpfs /mnt/export
ip netns add srv
ip link add c0 type veth peer name s0
ip link set s0 netns srv
ip addr add 10.9.0.2/24 dev c0
ip link set c0 up
ip netns exec srv ip addr add 10.9.0.1/24 dev s0
ip netns exec srv ip link set s0 up
ip netns exec srv ip link set lo up
ip netns exec srv rpcbind
sleep 0.3
ip netns exec srv bash -c '
    mount -t nfsd nfsd /proc/fs/nfsd
    echo 10 >/proc/fs/nfsd/nfsv4leasetime
    echo 10 >/proc/fs/nfsd/nfsv4gracetime
    rpc.mountd --no-udp -p 20048 2>/dev/null
    exportfs -i -o rw,no_root_squash,fsid=0,insecure,sync,no_subtree_check 10.9.0.2:/mnt/export
    rpc.nfsd --no-udp 2
    echo Y >/proc/fs/nfsd/v4_end_grace || true'

# An RDB of 100 MB, of one string after another.
make() {
    { printf 'REDIS0004\376\000'
      for key in $(seq 1000 1099); do
          printf '\000\004%s\200\000\020\000\000' "$key"
          head -c 1048576 /dev/zero
      done
      printf '\377'; } >"$1"
}
mount_version() {
    umount /mnt/nfs 2>/dev/null || true
    case $1 in
    3) mount -t nfs -o vers=3,soft,timeo=10,retrans=2,retry=0,nolock,proto=tcp,port=2049,mountport=20048,mountproto=tcp \
        10.9.0.1:/mnt/export /mnt/nfs ;;
    4) mount -t nfs4 -o vers=4.2,soft,timeo=10,retrans=2,retry=0 10.9.0.1:/ /mnt/nfs ;;
    esac
    case $(stat -f -c %T /mnt/nfs) in nfs*) ;; *) echo "not mounted"; exit 1 ;; esac
}
drop_caches() { echo 3 >/proc/sys/vm/drop_caches; }
# The node is stopped once it has begun to read: so there is a middle.
in_the_middle() {
    until stopped_in_the_middle; do echo "(it was faster than we; again)"; done
    eval "$1"
    sleep 4   # attributes are cached for 3 s
    drop_caches
    kill -CONT $pid
    code=0
    wait $pid || code=$?
    cat /mnt/said
    echo "=> exit code $code"
}
stopped_in_the_middle() {
    drop_caches
    $node verify /mnt/nfs/dump.rdb --jobs 1 --no-progress >/mnt/said & pid=$!
    while [ "$(bytes_read)" -lt 4000000 ]; do :; done
    kill -STOP $pid 2>/dev/null && [ "$(bytes_read)" -lt 90000000 ]
}
# Bytes that the node has read; very many once it has ended.
bytes_read() {
    local name value
    { read -r name value </proc/$pid/io; } 2>/dev/null || value=99999999
    echo "${value:-99999999}"
}

make /mnt/export/dump.rdb
for version in 4 3; do
    mount_version $version
    echo "-- NFS $version: a sound file"
    code=0
    $node verify /mnt/nfs/dump.rdb --no-progress || code=$?
    echo "=> exit code $code"
    echo "-- NFS $version: the server cuts it to 20,000,000 bytes while it is read"
    in_the_middle 'truncate -s 20000000 /mnt/export/dump.rdb'
    make /mnt/export/dump.rdb
    echo "-- NFS $version: the server removes it while it is read"
    in_the_middle 'rm /mnt/export/dump.rdb'
    make /mnt/export/dump.rdb
done
INSIDE

chmod +x "$share/init.sh"
export TMPDIR=/dev/shm
timeout -k 5 300 linux.uml mem=768M umid="replsync$$" root=/dev/root rootfstype=hostfs rootflags=/ ro \
    init="$share/init.sh" con=null con0=null,fd:1 quiet panic=1 share="$share" </dev/null | tee "$share/log" || true
[ "$(cat "$share/ended" 2>/dev/null)" = "ended with 0" ] || { echo "prove-nfs.sh: it did not end well" >&2; exit 1; }

# What must have been seen: sound twice, a cut and a removal said to be such with their offsets, and no signal (> 128).
seen() { [ "$(grep -c -- "$1" "$share/log")" -ge "$2" ] || { echo "prove-nfs.sh: not seen $2 times: $1" >&2; exit 1; }; }
seen '^ok  .* on NFS' 2
seen 'was cut to 20000000 bytes while being read' 2
seen 'tale file handle' 1
seen '=> exit code 3' 3
if grep -qE '=> exit code 1[0-9][0-9]' "$share/log"; then echo "prove-nfs.sh: killed by a signal" >&2; exit 1; fi
echo "prove-nfs.sh: all as it should be"
