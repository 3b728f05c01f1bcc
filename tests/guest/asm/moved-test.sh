#!/bin/sh
# Clones of programs that are gone must really be moved, or asm.moved tests nothing: moved-test.sh AVANT GUEST
set -eu

avant=$1 guest=$2
. "$(dirname "$0")/passing.sh"

run "$guest" --stats "$work/stats.json"
moved=$(number units_moved) cloned=$(number units_cloned)
echo "$cloned clones were made, and moved $moved times"
# 299 changes of place, 12 clones
[ "$moved" -ge 2900 ] && [ "$cloned" -le 40 ]
