#!/bin/busybox sh
# shellcheck shell=dash
# Stage one, in the initramfs: make the host's tree, under a tmpfs, this guest's root.
# /job/settings holds shell variables, made by initramfs.py: TRIAL, CACHE, OUT, MODULES.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
read -r release </proc/sys/kernel/osrelease
. /job/settings

fail() {
	echo "guest: $*" >/dev/console
	poweroff -f
}

while read -r module; do
	insmod "/modules/$module" || fail "cannot load $module"
done </modules/order

# Print the device of a virtio-serial port. It appears when the host's answer has arrived, which
# nothing here can wait for: there is no udev.
port() {
	while :; do
		for name in /sys/class/virtio-ports/*/name; do
			[ -e "$name" ] || continue
			read -r found <"$name"
			folder=${name%/name}
			[ "$found" = "$1" ] && [ -c "/dev/${folder##*/}" ] && echo "/dev/${folder##*/}" && return
		done
		usleep 20000
	done
}

control=$(port control)
stdout=$(port stdout)
stderr=$(port stderr)
if [ "$TRIAL" = yes ]; then
	echo ready >"$control"
	poweroff -f
fi

mount -t tmpfs -o size=75% upper /upper && mkdir /upper/data /upper/work || fail "no tmpfs"
mount -t virtiofs host /host || fail "no virtiofs for the host's tree; is it a module? see --modules"
mount -t overlay -o lowerdir=/host,upperdir=/upper/data,workdir=/upper/work guest /root ||
	fail "no overlay over the host's tree; is overlayfs a module? see --modules"

for folder in proc sys dev; do
	mkdir -p "/root/$folder"
	mount --move "/$folder" "/root/$folder"
done
cd /root || fail "no root"
mkdir -p dev/pts dev/shm run
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t devpts -o mode=620,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t tmpfs -o mode=755 run run
mkdir -p run/netns run/lock
mount -t tracefs tracefs sys/kernel/tracing
mount -t debugfs debugfs sys/kernel/debug
mount -t bpf -o mode=700 bpf sys/fs/bpf
mount -t cgroup2 cgroup2 sys/fs/cgroup

# Show a folder of the host, as it is, at a path of the guest.
share() {
	mkdir -p "/root$2" && mount --bind "/host$1" "/root$2" || fail "cannot share $1"
}
lib=/usr/lib
[ -L /root/lib ] || lib=/lib
[ -z "$MODULES" ] || share "$MODULES" "$lib/modules/$release"
[ -z "$CACHE" ] || share "$CACHE" "$CACHE"
[ -z "$OUT" ] || share "$OUT" "$OUT"

mkdir -p run/pmtutrace/out
cp /bin/busybox /job/main /job/command run/pmtutrace/
echo "$control $stdout $stderr" >run/pmtutrace/ports
exec switch_root /root /run/pmtutrace/busybox sh /run/pmtutrace/main
