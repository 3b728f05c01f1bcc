#!/bin/sh
# What `avant translate` does when something is wrong after its options were read: bad recordings, no place to write to, a
# full disk, Ctrl-C. Never is there a partial file.
#   translate-test.sh AVANT GUEST INTERRUPT    GUEST: a small assembled guest; INTERRUPT: interrupt.c as a shared object
set -eu

avant=$(readlink -f "$1") guest=$(readlink -f "$2") interrupt=$(readlink -f "$3")
export LC_ALL=C ASAN_OPTIONS=verify_asan_link_order=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/out"
failed=0

fail() {
	echo "FAILED: $*"
	failed=1
}

translate() {
	"$avant" translate --only-recorded --kernel "$guest" "$@" >"$work/stdout" 2>"$work/stderr" </dev/null
}

# refused TEXT OPTION...: exit status 1, the text in one line on stderr, no file
refused() {
	text=$1 status=0
	shift
	translate "$@" || status=$?
	[ "$status" = 1 ] || fail "$*: exit status $status"
	[ "$(wc -l <"$work/stderr")" = 1 ] || fail "$*: not one message"
	grep -q "^avant translate: .*$text" "$work/stderr" || fail "$*: not '$text' but: $(cat "$work/stderr")"
	[ -z "$(ls -A "$work/out")" ] || fail "$*: leaves $(ls -A "$work/out")"
}

status=0
"$avant" run --kernel "$guest" --memory 64M --debug-exit --timeout 20 --record "$work/guest.rec" >"$work/console" \
	2>&1 </dev/null || status=$?
[ "$status" = 43 ] || fail "the recorded run: exit status $status"
translate --profile "$work/guest.rec" --output "$work/good.tcache" || fail "translate: $(cat "$work/stderr")"
"$avant" cache verify "$work/good.tcache" >"$work/stdout" || fail "cache verify: $(cat "$work/stdout")"
"$avant" cache dump --chunk BLOG "$work/good.tcache" >"$work/stdout"
grep -q '[1-9][0-9]* planned, [1-9][0-9]* translated, .* 0 left out, 0 not valid$' "$work/stdout" ||
	fail "the build log: $(cat "$work/stdout")"

echo text >"$work/text"
head -c 5000 "$work/guest.rec" >"$work/cut.rec"
refused "nothing'.*No such file" --profile "$work/nothing" --output "$work/out/x"
refused "text'" --profile "$work/text" --output "$work/out/x"
refused "cut.rec'" --profile "$work/cut.rec" --output "$work/out/x"
refused "no recording" --profile "$work/good.tcache" --output "$work/out/x"
refused "No such file" --profile "$work/guest.rec" --output "$work/out/nowhere/x"
refused "not a regular file" --profile "$work/guest.rec" --output /dev/null
refused "" --profile "$work/guest.rec" --output "$work/out"
refused "" --profile "$work/guest.rec" --output ""
if [ "$(id -u)" != 0 ]; then
	chmod 555 "$work/out"
	refused "Permission denied" --profile "$work/guest.rec" --output "$work/out/x"
	chmod 755 "$work/out"
fi

# a full disk: a small file system in a mount namespace of our own
as_root=
[ "$(id -u)" = 0 ] || as_root=-r
if unshare $as_root -m mount -t tmpfs -o size=16k none "$work/out" 2>/dev/null; then
	# shellcheck disable=SC2016 # for the inner shell
	unshare $as_root -m sh -c '
		mount -t tmpfs -o size=16k none "$1" && cd "$1" || exit 99
		"$2" translate --only-recorded --kernel "$3" --profile "$4" --output x
		status=$?
		ls -A
		exit $status' sh "$work/out" "$avant" "$guest" "$work/guest.rec" >"$work/stdout" 2>"$work/stderr" && fail "full disk: no error"
	grep -q "^avant translate: 'x': cannot be written: No space left on device" "$work/stderr" ||
		fail "full disk: $(cat "$work/stderr")"
	[ ! -s "$work/stdout" ] || fail "full disk: leaves $(cat "$work/stdout")"
else
	echo "no mount namespace: full disk not tested"
fi

# Ctrl-C at each write, with and without O_TMPFILE
for missing in '' NO_TMPFILE=1; do
	n=1 written=no
	while [ $written = no ] && [ $n -lt 100 ]; do
		status=0
		env $missing INTERRUPT_AT=$n LD_PRELOAD="$interrupt" "$avant" translate --only-recorded --kernel "$guest" \
			--profile "$work/guest.rec" --output "$work/out/x" >"$work/stdout" 2>&1 || status=$?
		if [ $status = 0 ]; then
			written=yes
		else
			[ $status = 1 ] && grep -q "interrupted" "$work/stdout" || fail "SIGINT at write $n $missing: exit status $status: $(cat "$work/stdout")"
			[ "$(ls -A "$work/out" | grep -vx x)" = '' ] || fail "SIGINT at write $n $missing: leaves $(ls -A "$work/out")"
			[ ! -e "$work/out/x" ] || cmp "$work/good.tcache" "$work/out/x" || fail "SIGINT at write $n $missing: a partial file"
			rm -rf "$work/out" && mkdir "$work/out"
		fi
		n=$((n + 1))
	done
	[ $n -gt 3 ] && [ $written = yes ] || fail "interrupted in $n writes $missing"
	cmp "$work/good.tcache" "$work/out/x" || fail "not interrupted, but not the same file"
	rm -f "$work/out/x"
done
exit $failed
