#!/bin/sh
# Boots a Debian kernel on two engines on the instruction clock and compares their state traces:
#   trace-equal.sh AVANT [INSTRUCTIONS [INTERVAL]]      (default: 20000000 1000000; the gate: 200000000)
# Registers and vector registers at every interval, RAM at every 16th. Exit status 77 if no kernel can be fetched.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$1
instructions=${2:-20000000}
interval=${3:-1000000}

kernel=$(sh "$here/fetch-kernel.sh" linux-image-cloud-amd64) || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sh "$here/mkinitrd.sh" -o "$work/initrd.img"
for engine in interp live; do
	status=0
	"$avant" run --kernel "$kernel" --initrd "$work/initrd.img" --append "console=ttyS0" --memory 256M \
		--clock instructions --engine "$engine" --stop-after "$instructions" \
		--trace-state "$work/$engine,interval=$interval,ram=16" </dev/null >"$work/console" 2>&1 || status=$?
	[ "$status" = 4 ] || { echo "$engine: exit status $status, not 4"; tail -n 5 "$work/console"; exit 1; }
done
lines=$(grep -c rip= "$work/interp")
[ "$lines" -ge $((instructions / interval)) ] || { echo "only $lines lines of trace"; exit 1; }
if ! cmp "$work/interp" "$work/live"; then
	diff "$work/interp" "$work/live" | head -n 4
	exit 1
fi
echo "$lines states are equal"
