#!/bin/bash
# Runs quickstart.yaml on this machine's Podman: plan, apply, a second plan that is empty, a look inside, destroy.
#
# The engine gets storage, networks and processes of its own, in namespaces that end with this script: no container,
# network or file of yours is seen or touched. No API service runs, so `sbx` starts one for each run, as it does anywhere.
# Its argument: the `sbx` to run.
set -euo pipefail
sbx=$(realpath "${1:?path of sbx}")
here=$(dirname "$(realpath "$0")")

if [ -z "${QUICKSTART_BASE:-}" ]; then
  base=$(mktemp -d)
  as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
  trap 'as_root rm -rf "$base"' EXIT
  as_root env QUICKSTART_BASE="$base" PATH="/usr/sbin:/sbin:$PATH" \
    unshare --mount --net --pid --fork --kill-child bash "$0" "$sbx"
  exit
fi

base=$QUICKSTART_BASE
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs "$base"
mkdir "$base"/{home,graph,run,networks,tmp}
ip link set lo up

# Some hosts mix control group versions, and some refuse to raise limits: what works on all of them.
cat >"$base/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "$base/tmp"
[network]
network_config_dir = "$base/networks"
CONF
cat >"$base/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$base/graph"
runroot = "$base/run"
CONF
export CONTAINERS_CONF=$base/containers.conf CONTAINERS_STORAGE_CONF=$base/storage.conf HOME=$base/home
unset CONTAINER_HOST SUDO_UID SUDO_GID SUDO_USER XDG_RUNTIME_DIR

sbx() {
  printf '\n$ sbx %s\n' "$*"
  "$sbx" -f "$here/quickstart.yaml" "$@"
}
# Its server may still be starting: tries until it answers, for ten seconds at most.
fetch='curl --silent --retry 20 --retry-delay 0 --retry-max-time 10 --retry-all-errors --output /dev/null \
  --write-out "web answers %{http_code}\n" http://web:8000/'

sbx plan
sbx apply --auto-approve --quiet
sbx plan --detailed-exitcode
sbx status
sbx exec dev -- sh -c "$fetch"
sbx destroy --auto-approve --quiet --volumes --accept-loss container/dev --accept-loss container/web
