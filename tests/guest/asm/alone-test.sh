#!/bin/sh
# A guest with the cache of another that has patched its code otherwise: alone-test.sh AVANT GUEST OTHER
# GUEST is the one that the cache is made from.
set -u

avant=$1 guest=$2 other=$3
. "$(dirname "$0")/passing.sh"

run "$guest" --record "$work/rec"
"$avant" translate --kernel "$guest" --profile "$work/rec" --only-recorded --output "$work/tcache" >/dev/null || exit 1
"$avant" cache verify "$work/tcache" >/dev/null || exit 1
run "$other" --engine aot --cache "$work/tcache" --stats "$work/stats.json"
alone=$(number aot_bound_alone) translated=$(number units_translated)
echo "$alone units were bound alone, $translated translated"
# what is patched is translated whenever it is new, and little else is
[ "$alone" -ge 4 ] && [ "$translated" -le 40 ] || exit 1
run "$guest" --engine aot --cache "$work/tcache" --stats "$work/stats.json"
translated=$(number units_translated)
echo "with its own cache: $translated translated"
[ "$translated" = 0 ]
