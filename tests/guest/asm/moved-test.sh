#!/bin/sh
# Clones of programs that are gone must really be moved, or asm.moved tests nothing: moved-test.sh AVANT GUEST
set -eu

avant=$1 guest=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
"$avant" run --kernel "$guest" --memory 64M --debug-exit --timeout 20 --stats "$work/stats.json" </dev/null || status=$?
[ "$status" = 43 ] || { echo "status $status, not 43"; exit 1; }
number() {
	sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" "$work/stats.json"
}
moved=$(number units_moved) cloned=$(number units_cloned)
echo "$cloned clones were made, and moved $moved times"
# 299 changes of place, 12 clones
[ "$moved" -ge 2900 ] && [ "$cloned" -le 40 ]
