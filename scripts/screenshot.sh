#!/usr/bin/env bash
# screenshot.sh PAGE.html [FOLDER]: what a browser makes of a page: light, dark and on a telephone's width. Prints the PNGs.
#
# The browser is Debian's chromium-headless-shell: the one on the PATH, else it is downloaded with those of its libraries
# that the machine lacks into target/chromium, without installing anything and without root. FOLDER is target/screenshots
# unless named. HEIGHT (in CSS pixels, 2400) is how much of the page is taken, NARROW_HEIGHT (4600) on the narrow one.
# The page is opened without a network: what it would fetch is missing in the picture.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=$root/target/chromium
package=chromium-headless-shell

main() {
  [ $# -ge 1 ] || die "usage: scripts/screenshot.sh PAGE.html [FOLDER]"
  local page folder=${2:-$root/target/screenshots}
  page=$(realpath "$1")
  [ -e "$page" ] || die "there is no $page"
  mkdir -p "$folder"
  folder=$(realpath "$folder")
  local name
  name=$(basename "$page" .html)
  local height=${HEIGHT:-2400}
  set_up
  # Blink's number for what `prefers-color-scheme` asks: 0 is dark, 1 light.
  picture "$page" "$folder/$name-light.png" "1200,$height" 1
  picture "$page" "$folder/$name-dark.png" "1200,$height" 0
  picture "$page" "$folder/$name-narrow.png" "400,${NARROW_HEIGHT:-4600}" 1
}

picture() { # picture PAGE PNG WIDTH,HEIGHT SCHEME
  local profile
  profile=$(mktemp -d)
  rm -f "$2"
  if ! timeout 120 "$browser" --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$profile" \
    --host-resolver-rules='MAP * ~NOTFOUND' --window-size="$3" --blink-settings=preferredColorScheme="$4" \
    --screenshot="$2" "file://$1" >"$profile/log" 2>&1 || [ ! -s "$2" ]; then
    cat "$profile/log" >&2
    rm -rf "$profile"
    die "the browser took no picture"
  fi
  rm -rf "$profile"
  echo "$2"
}

set_up() {
  browser=$(command -v $package || true)
  [ -z "$browser" ] || return 0
  fetch >&2
  browser=$home/browser
}

# Under a lock, and renamed when it has been seen to run: a second call waits and finds it done.
fetch() {
  [ ! -x "$home/browser" ] || return 0
  mkdir -p "$home/lists/partial" "$home/download/partial"
  exec 9>"$home/lock"
  flock 9
  [ ! -x "$home/browser" ] || return 0
  echo "screenshot.sh: fetching $package into $home"
  # The machine's own sources and its own list of what is installed, but folders that need no root.
  local apt_get=(apt-get -qq -o Dir::State::lists="$home/lists" -o Dir::Cache::archives="$home/download"
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Acquire::Languages=none -o APT::Sandbox::User="$(id -un)"
    -o Debug::NoLocking=1)
  "${apt_get[@]}" update
  "${apt_get[@]}" -y --no-install-recommends --download-only install $package fonts-dejavu-core >/dev/null
  rm -rf "$home/root"
  mkdir "$home/root"
  local deb
  for deb in "$home"/download/*.deb; do dpkg -x "$deb" "$home/root"; done
  {
    echo '#!/bin/sh'
    echo 'here=$(dirname "$(readlink -f "$0")")'
    echo 'libraries=$here/root/usr/lib/x86_64-linux-gnu:$here/root/lib/x86_64-linux-gnu:$here/root/usr/lib/x86_64-linux-gnu/pulseaudio'
    echo 'export LD_LIBRARY_PATH="$libraries"'
    echo "exec \"\$here/root/usr/lib/chromium/$package\" \"\$@\""
  } >"$home/browser.new"
  chmod +x "$home/browser.new"
  "$home/browser.new" --version || die "the browser does not run here"
  mv "$home/browser.new" "$home/browser"
  rm -rf "$home/download" "$home/lists"
}

die() {
  echo "screenshot.sh: $*" >&2
  exit 1
}

main "$@"
