#!/bin/bash
# Builds the root directory of the Podman 5 engines, once: a Debian trixie with Podman and what its containers need.
# Prints the directory. Another recipe gets another directory, so that none changes under a running test.
# SBX_TEST_CACHE moves the cache.
set -euo pipefail
packages=podman,crun,runc,netavark,aardvark-dns,nftables,passt,slirp4netns,fuse-overlayfs,uidmap,iproute2,git,ca-certificates,openssh-client,openssh-server,python3
mirror=${SBX_TEST_MIRROR:-}

cache=${SBX_TEST_CACHE:-/var/cache/sbx-test}
key=$(sha256sum <"$0" | cut -c1-12)
target=$cache/trixie-$key
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ ! -d "$target" ]; then
  [ "$(id -u)" = 0 ] || { echo "building $target takes root: run it once with sudo" >&2; exit 1; }
  echo "building a Debian trixie in $target (about a minute) ..." >&2
  rm -rf "$target.new"
  debootstrap --variant=minbase --include="$packages" trixie "$target.new" $mirror >"$cache/trixie.log" 2>&1 ||
    { tail -20 "$cache/trixie.log" >&2; exit 1; }
  rm -rf "$target.new"/var/cache/apt/archives/*.deb "$target.new"/var/lib/apt/lists/*
  mv "$target.new" "$target"
fi
echo "$target"
