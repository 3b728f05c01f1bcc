#!/bin/sh
# Runs a small guest on every engine:
#   run-guest.sh AVANT GUEST STATUS [SECONDS]
# STATUS is the exit status that it must end with (43: it passed), SECONDS the time limit of each run (default 20).
set -u

avant=$1 guest=$2 want=$3 seconds=${4:-20}
output=$(mktemp)
trap 'rm -f "$output"' EXIT
failed=0
for options in '--engine interp' '--engine live --returns host' '--engine live --returns table' \
	'--engine live --code-cache 2M'; do
	status=0
	# the outer limit is for a VMM that does not obey its own
	# shellcheck disable=SC2086 # options are words
	timeout -s KILL $((${seconds%.*} + 15)) "$avant" run --kernel "$guest" --memory 64M --debug-exit \
		--timeout "$seconds" $options </dev/null >"$output" 2>&1 || status=$?
	[ "$status" = "$want" ] && continue
	echo "$(basename "$guest") with $options: status $status, not $want"
	tail -n 5 "$output"
	failed=1
done
exit $failed
