# shellcheck shell=dash
# Stage two, process 1 of the guest: say that it is ready, run the command, send its exit code.
# MARK, which the command cannot guess, is set by the line that initramfs.py puts in front.
bb=/run/pmtutrace/busybox
cd /run/pmtutrace
$bb ifconfig lo up
$bb hostname guest
read -r control stdout stderr <ports

# A port can be opened once, but /dev/stdout must open again and again: so the command writes into
# pipes. Both ends stay open here, and the mark goes the way of the output, hence comes after it.
$bb mkfifo stdout stderr
exec 5<>stdout 6<>stderr
$bb cat <stdout >"$stdout" &
$bb cat <stderr >"$stderr" &
read -r uptime rest </proc/uptime
echo "ready $uptime" >"$control"
$bb sh command </dev/null >&5 2>&6 5>&- 6>&-
code=$?
$bb sync
printf '\000%s %d\n' "$MARK" $code >&5
printf '\000%s %d\n' "$MARK" $code >&6
# The host ends the guest when it has read both marks. Process 1 must not end before.
while :; do
	wait
	$bb sleep 1
done
