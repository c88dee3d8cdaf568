#!/usr/bin/env bash
# tools.sh [fmt] [clippy]: sees to what a build needs: a linker, certificates, and the named parts of the Rust toolchain.
# Installs what is missing where it can (root on Debian, rustup), else says what to install. Says nothing when all is there.
set -euo pipefail

command -v cargo >/dev/null || { echo "tools.sh: no cargo on the PATH: install Rust (https://rustup.rs)" >&2; exit 1; }

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
if [ ${#missing[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || { echo "tools.sh: needed: apt-get install ${missing[*]}" >&2; exit 1; }
  echo "tools.sh: installing ${missing[*]}" >&2
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
fi

for part; do
  if ! cargo "$part" --version >/dev/null 2>&1; then
    component=$part
    [ "$part" != fmt ] || component=rustfmt
    echo "tools.sh: adding $component to the toolchain" >&2
    rustup component add "$component"
  fi
done
