#!/bin/sh
# --cache auto: a second launch is served by what the first one left. auto-test.sh AVANT. 77: skipped, no kernel.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$1
kernel=$(sh "$here/fetch-kernel.sh" linux-image-cloud-amd64) || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sh "$here/mkinitrd.sh" -o "$work/initrd.img"
export XDG_CACHE_HOME="$work/cache"

fail() {
	echo "auto-test: $*" >&2
	exit 1
}

# launch NAME [OPTION...]: until the shell prompt, then the kernel's command line has it power off
launch() {
	name=$1
	shift
	"$avant" run --kernel "$kernel" --initrd "$work/initrd.img" --timeout 120 --append 'console=ttyS0 quiet panic=-1' \
		--cache auto --stats "$work/$name.json" "$@" >"$work/$name.out" 2>"$work/$name.err" <<-END || fail "launch $name: status $?"
		poweroff -f


		poweroff -f
	END
}

# figure NAME FIELD
figure() {
	python3 -c 'import json,sys; print(int(json.load(open(sys.argv[1]))[sys.argv[2]]))' "$work/$1.json" "$2"
}

guest() {
	set -- "$XDG_CACHE_HOME"/avant/auto/*
	[ $# = 1 ] && [ -d "$1" ] || fail "not one guest, but: $*"
	echo "$1"
}

# builders wait for the lock's holder: when it can be had and no recording is left, all is translated
settle() {
	for _ in $(seq 120); do
		if [ -e "$(guest)/cache.tcache" ] && flock -n "$(guest)/lock" true && ! ls "$(guest)"/run-*.rec >/dev/null 2>&1; then
			return
		fi
		sleep 1
	done
	fail "no cache after two minutes: $(cat "$(guest)/build.log")"
}

launch first
grep -q 'no cache for this guest yet' "$work/first.err" || fail "the first launch does not say that there is no cache"
grep -q 'are being translated' "$work/first.err" || fail "the first launch does not say that it learned"
settle

# two at once
launch second &
launch third
wait
for name in second third; do
	[ "$(figure $name aot_units)" -gt 5000 ] || fail "launch $name has no cache: $(cat "$work/$name.err")"
	[ $(($(figure $name units_translated) * 10)) -lt "$(figure first units_translated)" ] ||
		fail "launch $name translated $(figure $name units_translated) units, the first $(figure first units_translated)"
	grep -q 'the cache has served all but\|are being translated' "$work/$name.err" || fail "launch $name does not say what it did"
done
settle

# a damaged cache costs a warning, and is made again
printf x | dd of="$(guest)/cache.tcache" bs=1 seek=100 conv=notrunc 2>/dev/null
launch damaged
grep -q 'warning' "$work/damaged.err" || fail "no warning about a damaged cache"
settle
launch again
[ "$(figure again aot_units)" -gt 5000 ] || fail "the damaged cache was not made again"

# all guests are forgotten where there is no room
settle
"$avant" cache build --limit 1K | grep -q '1 guests forgotten' || fail "the guest was not forgotten"
[ -z "$(ls "$XDG_CACHE_HOME/avant/auto")" ] || fail "something is left of a forgotten guest"

# a run that is killed leaves no process behind
"$avant" run --kernel "$kernel" --initrd "$work/initrd.img" --append 'console=ttyS0 quiet' --cache auto >/dev/null 2>&1 </dev/null &
run=$!
sleep 2
kill -9 $run
wait $run 2>/dev/null || true
for _ in $(seq 50); do
	pgrep -f "$work/initrd.img" >/dev/null || exit 0
	sleep 0.1
done
fail "a process is left: $(pgrep -af "$work/initrd.img")"
