# shellcheck shell=sh
# Make the namespaces of tests/live/init.py, step by step, and become systemd in them.
# Arguments: a folder for our use, with units/ in it; this tree, and where it is to be inside; a name for
# the control group; the step.
set -eu
folder=$1 tree=$2 inside=$3 group=$4
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
again() {
	step=$1
	shift
	exec "$@" sh "$0" "$folder" "$tree" "$inside" "$group" "$step"
}

thrown_away() {
	mkdir -p "upper$1" "work$1"
	mount -t overlay -o "lowerdir=$1,upperdir=$PWD/upper$1,workdir=$PWD/work$1" none "$1"
}

case ${5:-} in
'')
	again group unshare --mount --propagation slave --pid --ipc --uts --fork --kill-child
	;;
group)
	mount -t proc proc /proc
	mount -t cgroup2 none /sys/fs/cgroup
	mkdir -p "/sys/fs/cgroup/$group"
	echo 0 >"/sys/fs/cgroup/$group/cgroup.procs"
	umount /sys/fs/cgroup
	again root unshare --cgroup
	;;
esac

mount -t cgroup2 none /sys/fs/cgroup
# Nothing of the host's is to be set by this systemd.
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys

mkdir "$folder/mine"
mount -t tmpfs none "$folder/mine"
cd "$folder/mine"
mkdir dev run
mount -t tmpfs -o mode=755 none dev
mkdir dev/pts dev/shm
for name in null zero full random urandom tty; do
	: >"dev/$name"
	mount --bind "/dev/$name" "dev/$name"
done
: >dev/console
mount --bind /dev/null dev/console
ln -s /proc/self/fd dev/fd
mount -t devpts -o newinstance,mode=620,ptmxmode=666 none dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 none run
mkdir -p run/lock run/netns /run/netns
mount --rbind /run/netns run/netns
cp -r "$folder/units" run/units
for path in /etc /opt /usr/local /var; do
	thrown_away "$path"
done
# SQLite would be misled by a path through /proc, so this one is in our folder.
mkdir -p -m 700 "$folder/state" /var/lib/private
mount --bind "$folder/state" /var/lib/private
mkdir -p "$inside" /usr/local/bin
mount --rbind "$tree" "$inside"
cat >/usr/local/bin/pmtutrace <<END
#!/bin/sh
PYTHONPATH=$inside/src exec $inside/.venv/bin/python -m pmtutrace.cli.main "\$@"
END
chmod 755 /usr/local/bin/pmtutrace
mount -n --move dev /dev
mount -n --move run /run
cd /
exec env -i PATH="$PATH" container=pmtutrace SYSTEMD_UNIT_PATH=/run/units \
	/usr/lib/systemd/systemd --system --unit=test.target --log-target=journal --show-status=no
