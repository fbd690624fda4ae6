#!/bin/bash
# Installs what `just bench` measures beside `sbx`, once, into DIR/bin (default: target/peers/bin):
# podup from crates.io, built as its authors say, and docker-compose from Debian 13. Neither touches the machine.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
dir=${1:-${CARGO_TARGET_DIR:-$here/target}/peers}
mkdir -p "$dir/bin"

[ -x "$dir/bin/podup" ] || {
  echo "installing podup (some minutes) ..." >&2
  # Without its self-update and file watcher, neither of which `up` uses: half the dependencies.
  cargo install --locked --no-default-features --root "$dir" podup@5.4.0
}

[ -x "$dir/bin/docker-compose" ] || {
  echo "fetching docker-compose of Debian 13 ..." >&2
  apt=$dir/apt
  rm -rf "$apt"
  mkdir -p "$apt"/{lists/partial,cache/archives/partial}
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [signed-by=$keyring] ${SBX_TEST_MIRROR:-http://deb.debian.org/debian} trixie main" >"$apt/sources.list"
  options=(-q -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update >&2
  (cd "$apt" && apt-get "${options[@]}" download docker-compose >&2)
  dpkg-deb -x "$apt"/docker-compose_*.deb "$apt/root"
  mv "$apt/root/usr/libexec/docker/cli-plugins/docker-compose" "$dir/bin/docker-compose"
  rm -rf "$apt"
}
