#!/bin/sh
# Runs one test of the command line: run-test.sh AVANT FILE.test [MAKE_GOLDEN]. The file:
#
#   # comments
#   command: a line for sh, in an empty directory, where `avant` is the command under test, and `make_golden` makes
#            caches (tests/cache)
#   status: the exit status expected
#   --- stdout
#   exactly what is expected there
#   --- stderr
#   and there
#
# A missing section means: nothing. With UPDATE=1 the file is rewritten with what came.
set -eu

avant=$(readlink -f "$1")
file=$(readlink -f "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/cwd"
ln -s "$avant" "$work/bin/avant"
[ $# -lt 3 ] || ln -s "$(readlink -f "$3")" "$work/bin/make_golden"
export PATH="$work/bin:$PATH" LC_ALL=C

command=$(sed -n 's/^command: //p' "$file")
expected_status=$(sed -n 's/^status: //p' "$file")
for stream in stdout stderr; do
	awk -v want="--- $stream" '/^--- (stdout|stderr)$/ { on = $0 == want; next } on' "$file" >"$work/expected-$stream"
done

status=0
(cd "$work/cwd" && sh -c "$command") >"$work/stdout" 2>"$work/stderr" </dev/null || status=$?

if [ "${UPDATE:-0}" = 1 ]; then
	{
		sed -n '/^#/p' "$file"
		printf 'command: %s\nstatus: %s\n' "$command" "$status"
		for stream in stdout stderr; do
			[ ! -s "$work/$stream" ] || { echo "--- $stream"; cat "$work/$stream"; }
		done
	} >"$work/new"
	cat "$work/new" >"$file"
	exit 0
fi

failed=0
for stream in stdout stderr; do
	diff -u --label "expected $stream" --label "$stream" "$work/expected-$stream" "$work/$stream" || failed=1
done
if [ "$status" != "$expected_status" ]; then
	echo "exit status $status, expected $expected_status"
	failed=1
fi
exit "$failed"
