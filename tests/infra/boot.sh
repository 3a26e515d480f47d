#!/bin/sh
# Boot systemd on a temporary overlay over the root of this machine.
# Run as root: boot.sh SCRATCH CLONE GROUP, where GROUP is a control group (version 2) for it.
set -eu
scratch=$1 clone=$2 group=${3:-}
lower=${AUP_HOST_ROOT:-/}

# The cgroup namespace starts at this group, so systemd sees and manages only this group.
if [ -n "$group" ]; then
	echo $$ >"$group/cgroup.procs"
	exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child sh "$0" "$scratch" "$clone"
fi

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$scratch/root"
cd "$scratch/root"

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
# The kernel is shared, so its settings are read-only.
mount -o bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t tmpfs -o mode=755,nosuid tmpfs dev
for each in null zero full random urandom tty; do
	: >"dev/$each"
	mount -o bind "/dev/$each" "dev/$each"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755,nosuid tmpfs run
mount -t tmpfs -o mode=1777,nosuid tmpfs tmp
mkdir -p mnt/clone
mount -o bind,ro "$clone" mnt/clone

# Disable the services that are enabled on this machine.
mount -t tmpfs -o mode=755 tmpfs etc/systemd/system
for each in modules-load networkd resolved timesyncd udevd remount-fs; do
	ln -s /dev/null "etc/systemd/system/systemd-$each.service"
done
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\n' >etc/systemd/system/booted.target
: >etc/fstab
echo 0123456789abcdef0123456789abcdef >etc/machine-id

mkdir old
pivot_root . old
umount -l /old
rmdir /old
# Shared as on a host, because systemd mounts credentials in a separate process.
mount --make-rshared /
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec env -i container=test PATH="$PATH" "$(readlink -f /lib/systemd/systemd)" --unit=booted.target --show-status=no
