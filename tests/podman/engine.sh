#!/bin/bash
# PID 1 of one test engine. It builds the engine's private view of the machine, says "ready", and waits for its standard
# input to close; the kernel then kills whatever is left. Its arguments: BASE (the test's directory, seen at the same path
# inside and outside), ROOT (/ or the directory of another distribution), UID and HOME of the engine's user.
#
# Nothing here reaches the machine: every mount is in a private namespace, and files of /etc are covered, not edited.
set -euo pipefail
base=$1 root=$2 uid=$3 home=$4

mount --make-rprivate /
if [ "$root" != / ]; then
  # Copy-on-write over the other distribution, so that concurrent engines share it unchanged. pivot_root instead of
  # chroot: a process whose root is a chroot may not create user namespaces.
  mount -t tmpfs -o mode=755 tmpfs "$base/root"
  mkdir "$base"/root/{upper,work,top}
  mount -t overlay -o "lowerdir=$root,upperdir=$base/root/upper,workdir=$base/root/work" overlay "$base/root/top"
  top=$base/root/top
  mount --rbind /sys "$top/sys"
  mount --rbind /dev "$top/dev"
  mkdir -p "$top$base"
  mount --bind "$base" "$top$base"
  if [ -e "$base/bin/sbx" ]; then mount --bind "$base/bin/sbx" "$top$base/bin/sbx"; fi
  cd "$top"
  pivot_root . mnt
  mount -t proc proc /proc
  umount -l /mnt
else
  mount -t proc proc /proc
fi
cd /
mount --bind "$base/run" /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755,size=6g tmpfs "$base/storage"
mkdir "$base"/storage/{graph,run,tmp}

if [ "$uid" != 0 ]; then
  chown "$uid:$uid" "$base"/storage/{graph,run,tmp}
  for file in passwd group subuid subgid; do
    [ -e "/etc/$file" ] || : >"/etc/$file"
    cp "/etc/$file" "$base/etc/$file"
  done
  echo "sbx-tester:x:$uid:$uid::$home:/bin/sh" >>"$base/etc/passwd"
  echo "sbx-tester:x:$uid:" >>"$base/etc/group"
  echo "sbx-tester:100000:65536" | tee -a "$base/etc/subuid" >>"$base/etc/subgid"
  for file in passwd group subuid subgid; do mount --bind "$base/etc/$file" "/etc/$file"; done
  # slirp4netns, pasta and fuse-overlayfs want these open to the user, whatever the machine's own say.
  for device in net/tun:200 fuse:229; do
    [ -e "/dev/${device%:*}" ] || continue
    node=$base/storage/$(basename "${device%:*}")
    mknod -m 666 "$node" c 10 "${device#*:}"
    mount --bind "$node" "/dev/${device%:*}"
  done
fi

# A default route of our own, so that networks with a way out can be told from those without. Its far end is in a network
# namespace of its own, where a test can serve: to this one that is another machine.
ip link set lo up
ip link add uplink type veth peer name outside
: >"$base/outside"
unshare --net="$base/outside" true
ip link set outside netns "$base/outside"
nsenter --net="$base/outside" sh -c '
  ip link set lo up
  ip address add 198.51.100.1/24 dev outside
  ip link set outside up
'
ip address add 198.51.100.2/24 dev uplink
ip link set uplink up
ip route add default via 198.51.100.1 dev uplink
# No name resolves unless a test serves names there; the machine's resolver would be waited for in vain.
echo nameserver 198.51.100.1 >"$base/etc/resolv.conf"
mount --bind "$base/etc/resolv.conf" /etc/resolv.conf

echo ready
read -r _ || true

# Control groups live in no namespace of ours: remove those of containers that still exist.
ids=$(grep -rhoE '"id":"[0-9a-f]{64}"' "$base"/storage/graph/*-containers/*.json 2>/dev/null | cut -d'"' -f4 | sort -u || true)
kill -KILL -1 2>/dev/null || true
for id in $ids; do
  for group in /sys/fs/cgroup/{,*/}libpod_parent/libpod-{,conmon-}"$id"; do
    for _ in {1..50}; do
      [ -d "$group" ] || break
      find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
      read -rt 0.01 _ <> <(:) || true
    done
  done
done
