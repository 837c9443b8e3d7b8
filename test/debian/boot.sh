#!/bin/bash
# Boots the systemd of a Debian root, as PID 1 of namespaces of its own: network, mounts, processes, cgroups.
#   unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child bash boot.sh ROOT
set -e
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -p "$root/dev/net" "$root/dev/pts" "$root/dev/shm" "$root/old"
mknod -m 666 "$root/dev/net/tun" c 10 200 # as udev makes it
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
cd "$root"
pivot_root . old
umount -l /old
mount --make-rshared / # as at a real boot: what systemd mounts for a service must reach it
export container=test
exec /lib/systemd/systemd --system --log-target=journal --show-status=no
