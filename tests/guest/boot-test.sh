#!/bin/sh
# Boots a Debian kernel with a busybox initramfs under Avant, runs a command in it and powers it off:
#   boot-test.sh AVANT [PACKAGE [AVANT-OPTION...]]
# Exit status 77 (skipped) if the kernel can neither be found nor fetched.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$1
package=${2:-linux-image-cloud-amd64}
shift $(($# > 2 ? 2 : $#))

kernel=$(sh "$here/fetch-kernel.sh" "$package") || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sh "$here/mkinitrd.sh" -o "$work/initrd.img"

# Complaints of the kernel about its machine are failures too.
complaints='WARNING|BUG:|Oops|Call Trace|soft lockup|clocksource.*unstable|alg: .* failed|Problem loading'
status=0
"$avant" run --kernel "$kernel" --initrd "$work/initrd.img" --timeout 200 --stats "$work/stats.json" \
	--mark AVANT-SHELL-READY "$@" \
	--append "console=ttyS0 panic=-1 avant.run=\"echo sum=\$((6*7)); cat /proc/version; dmesg | grep -v 'ommand line:' | grep -E '$complaints'; [ \$? = 1 ]\"" \
	</dev/null >"$work/console" || status=$?

expect() {
	grep -q "$1" "$work/console" || { echo "not on the console: $1"; status=1; }
}
expect AVANT-SHELL-READY
expect '^sum=42'
expect '^Linux version'
expect '^AVANT-STATUS 0'
if [ "$status" != 0 ]; then
	echo "avant's exit status or this test's: $status; end of the console:"
	tail -n 40 "$work/console"
	exit 1
fi
grep -E '"(exit_reason|wall_ms|cpu_ms|mark_ms)"' "$work/stats.json"
