#!/bin/sh
# Runs a guest with two caches, made from recorded runs of two other guests that have half of its code each:
#   two-caches-test.sh AVANT GUEST HALF HALF
set -u

avant=$1 guest=$2 first=$3 second=$4
. "$(dirname "$0")/passing.sh"

run "$first" --record "$work/0.rec"
run "$second" --record "$work/1.rec"
for place in 0 1; do
	"$avant" translate --kernel "$guest" --profile "$work/$place.rec" --only-recorded --place $place \
		--output "$work/$place.tcache" >/dev/null || exit 1
done
run "$guest" --engine aot --cache "$work/0.tcache" --cache "$work/1.tcache" --stats "$work/stats.json"
run "$guest" --engine aot --cache "$work/1.tcache" --cache "$work/0.tcache" --stats "$work/stats.json"
grep -q '"units_translated": 0,' "$work/stats.json" || {
	echo "not all code came from the caches:"
	cat "$work/stats.json"
	exit 1
}
