#!/bin/sh
# A guest does what a user's day is made of (day.sh), without a cache and with one from a recorded plain boot:
#   day-test.sh AVANT [SLEEP [PACKAGE]]    (default: sleeps of 3 seconds; the issue's figure: 10)
# The guest's sleep must take as long by the host's clock, within 1 %. Exit status 77 if no kernel can be fetched.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$1
seconds=${2:-3}
kernel=$(sh "$here/fetch-kernel.sh" "${3:-linux-image-cloud-amd64}") || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
sh "$here/mkinitrd.sh" -o "$work/initrd.img" --add cat --file "$here/day.sh:/day.sh"
failed=0

fail() {
	echo "FAILED: $*"
	failed=1
}

# boot COMMAND OPTION...
boot() {
	command=$1
	shift
	"$avant" run --kernel "$kernel" --initrd "$work/initrd.img" --timeout 120 "$@" \
		--append "console=ttyS0 quiet panic=-1 avant.run=\"$command\"" </dev/null
}

# Puts the host's clock before each line of its input, and leaves out carriage returns.
stamp() {
	python3 -c 'import sys, time
for line in iter(sys.stdin.buffer.readline, b""):
    print(f"{time.monotonic():.4f}", line.decode(errors="replace").strip(), flush=True)'
}

# Of the two sleeps the one closest to its length counts: a busy host delays one, a wrong clock is wrong in both.
check_sleep() {
	awk -v want="$seconds" '
		/ DAY sleep begins$/ { begun = $1 }
		/ DAY sleep ends$/ { off = $1 - begun - want; if (off < 0) off = -off; if (!n++ || off < best) best = off }
		END { printf "sleep %s: %.4f s off\n", want, best; exit !(n == 2 && best <= want / 100) }' "$1"
}

# day NAME OPTION...
day() {
	name=$1
	shift
	{ boot "sh /day.sh $seconds" "$@" 2>"$work/$name.err" || echo "exit status $?"; } | stamp >"$work/$name"
	grep -q ' AVANT-STATUS 0$' "$work/$name" && grep -q ' DAY done$' "$work/$name" && [ ! -s "$work/$name.err" ] &&
		! grep -q ' exit status ' "$work/$name" || fail "$name: the guest did not come to its end"
	for part in gzip dd ps fork dynamic mitigations dmesg; do
		grep -q " DAY $part ok\$" "$work/$name" || fail "$name: $part"
	done
	grep -q " DAY sum $sum\$" "$work/$name" || fail "$name: sha256sum of 100 MB"
	check_sleep "$work/$name" || fail "$name: a sleep of $seconds s is not as long"
	[ $failed = 0 ] || { cat "$work/$name" "$work/$name.err"; exit 1; }
}

day=host # tells it so; see there
. "$here/day.sh"
hundred_megabytes "$work/data"
sum=$(sha256sum <"$work/data")
rm "$work/data"

boot true --record "$work/boot.rec" >"$work/console"
"$avant" translate --kernel "$kernel" --profile "$work/boot.rec" --output "$work/boot.tcache" >"$work/console"
day live
day aot --engine aot --cache "$work/boot.tcache"
