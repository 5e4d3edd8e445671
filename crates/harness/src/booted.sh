#!/bin/bash
# Boots this machine's own root once more, over a throw-away overlay, with a real systemd and journald as PID 1.
# Is started by booted.rs in a mount namespace of its own, and becomes systemd-nspawn.
#
#   booted.sh CGROUP NAME [DIRECTORY...]      directories that are the same inside
set -eu
cgroup=$1 name=$2
shift 2
echo $$ >"$cgroup/cgroup.procs"

# All that is written goes here, and is gone with this mount namespace.
place=/mnt
mount -t tmpfs -o mode=755 tmpfs "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" "$place/root"
root=$place/root

# A machine of its own, with nothing of what is installed here started unasked.
echo "$name" >"$root/etc/hostname"
rm -f "$root/etc/machine-id"
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
rm -rf "$root"/etc/systemd/system/*.wants "$root"/var/log/journal "$root"/usr/sbin/policy-rc.d
mkdir -p "$root/var/log/journal" "$root/etc/systemd/system"

# systemd wants the second kind of control groups alone, and nspawn keeps its own state on a tmpfs.
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd
mount -t tmpfs -o mode=755 tmpfs /run/systemd

binds=()
for directory; do
    mkdir -p "$root$directory"
    binds+=("--bind=$directory")
done
exec systemd-nspawn --quiet --directory="$root" --machine="$name" --boot --register=no --keep-unit --console=pipe \
    --private-network --resolv-conf=off --timezone=off --link-journal=no "${binds[@]}" \
    systemd.unit=basic.target systemd.show_status=0
