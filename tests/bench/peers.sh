#!/bin/bash
# Installs what `just bench` measures beside `sbx`, once, into DIR/bin (default: target/peers/bin):
# podup from crates.io, without its self-update and file watcher, and docker-compose from Debian 13. Neither touches the machine.
# The servers it is measured beside, HAProxy, dnsmasq and Squid, are Debian packages; none is started by its package.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
dir=${1:-${CARGO_TARGET_DIR:-$here/target}/peers}
mkdir -p "$dir/bin"

[ -x "$dir/bin/podup" ] || {
  echo "installing podup (some minutes) ..." >&2
  # `up` uses neither of what is left out: half the dependencies.
  cargo install --locked --no-default-features --root "$dir" podup@5.4.0
}

[ -x "$dir/bin/docker-compose" ] || {
  echo "fetching docker-compose of Debian 13 ..." >&2
  apt=$dir/apt
  rm -rf "$apt"
  mkdir -p "$apt"/{lists/partial,cache/archives/partial}
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  # The mirror this machine already uses; security updates live elsewhere.
  mirror=${SBX_TEST_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' | grep -v security | sort -u | sed -n 1p)}
  echo "deb [signed-by=$keyring] $mirror trixie main" >"$apt/sources.list"
  options=(-q -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update >&2
  (cd "$apt" && apt-get "${options[@]}" download docker-compose >&2)
  dpkg-deb -x "$apt"/docker-compose_*.deb "$apt/root"
  mv "$apt/root/usr/libexec/docker/cli-plugins/docker-compose" "$dir/bin/docker-compose"
  rm -rf "$apt"
}

packages=()
for pair in haproxy:haproxy dnsmasq:dnsmasq-base squid:squid-openssl; do
  [ -x "/usr/sbin/${pair%%:*}" ] || packages+=("${pair#*:}")
done
if [ ${#packages[@]} -gt 0 ]; then
  echo "installing Debian packages: ${packages[*]} ..." >&2
  refusal=/usr/sbin/policy-rc.d
  if [ ! -e "$refusal" ]; then
    trap 'rm -f "$refusal"' EXIT
    install -m 755 /dev/stdin "$refusal" <<<$'#!/bin/sh\nexit 101'
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends "${packages[@]}" >&2
fi
