#!/bin/sh
# Boot a systemd of one's own on a copy of this machine's root that is gone when it ends.
# Run as root: boot.sh SCRATCH CLONE GROUP…
set -eu
scratch=$1 clone=$2
shift 2

# The groups that it is put into first are all that this systemd sees of theirs, and manages.
if [ $# != 0 ]; then
	for group; do
		echo $$ >"$group/cgroup.procs"
	done
	exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child sh "$0" "$scratch" "$clone"
fi

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$scratch/root"
cd "$scratch/root"

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
# The kernel is shared: its settings are not to be changed from here.
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

# None of the services that this machine has enabled.
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
# As on a host: a credential is mounted by a process of its own, and has to be seen by the others.
mount --make-rshared /
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec env -i container=test PATH="$PATH" "$(readlink -f /lib/systemd/systemd)" --unit=booted.target --show-status=no
