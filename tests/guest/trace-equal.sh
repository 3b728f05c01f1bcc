#!/bin/sh
# Boots a Debian kernel on three engines on the instruction clock and compares their state traces:
#   trace-equal.sh AVANT [INSTRUCTIONS [INTERVAL]]      (default: 20000000 1000000; the gate: 200000000)
# Registers and vector registers at every interval, RAM at every 16th. The cache for aot comes from a recorded run of the
# same boot. Exit status 77 if no kernel can be fetched.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$1
instructions=${2:-20000000}
interval=${3:-1000000}

kernel=$(sh "$here/fetch-kernel.sh" linux-image-cloud-amd64) || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sh "$here/mkinitrd.sh" -o "$work/initrd.img"

# boot OPTION...: must end at the wanted instruction
boot() {
	status=0
	"$avant" run --kernel "$kernel" --initrd "$work/initrd.img" --append "console=ttyS0" --memory 256M \
		--clock instructions --stop-after "$instructions" "$@" </dev/null >"$work/console" 2>&1 || status=$?
	[ "$status" = 4 ] || { echo "$*: exit status $status, not 4"; tail -n 5 "$work/console"; exit 1; }
}

# traced ENGINE OPTION...: a boot with its trace in the file ENGINE
traced() {
	engine=$1
	shift
	boot --engine "$engine" --trace-state "$work/$engine,interval=$interval,ram=16" "$@"
}

boot --record "$work/boot.rec"
"$avant" translate --kernel "$kernel" --profile "$work/boot.rec" --counted --exact-flags --output "$work/boot.tcache" \
	>"$work/console"
traced interp
traced live
traced aot --cache "$work/boot.tcache" --count --stats "$work/stats.json"
lines=$(grep -c rip= "$work/interp")
[ "$lines" -ge $((instructions / interval)) ] || { echo "only $lines lines of trace"; exit 1; }
failed=0
for engine in live aot; do
	cmp "$work/interp" "$work/$engine" && continue
	diff "$work/interp" "$work/$engine" | head -n 4
	failed=1
done
# a comparison with a cache that serves nothing would say nothing; 6.12 has bound 393 units by 20000000 instructions
bound=$(sed -n 's/.*"aot_bound": \([0-9]*\).*/\1/p' "$work/stats.json")
[ "$bound" -ge 200 ] || { echo "only $bound units came from the cache"; failed=1; }
[ $failed = 0 ] && echo "$lines states are equal; $bound units came from the cache"
exit $failed
