#!/usr/bin/env bash
# tools.sh: sees to what a build needs beyond a Rust toolchain: a C compiler and linker. Installs it where it is
# missing and this is root on Debian, else says what to install. Says nothing when all is there.
set -euo pipefail

command -v cargo >/dev/null || { echo "tools.sh: no cargo on the PATH: install Rust (https://rustup.rs)" >&2; exit 1; }
missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
[ ${#missing[@]} -gt 0 ] || exit 0
[ "$(id -u)" = 0 ] || { echo "tools.sh: needed: apt-get install ${missing[*]}" >&2; exit 1; }
echo "tools.sh: installing ${missing[*]}" >&2
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
