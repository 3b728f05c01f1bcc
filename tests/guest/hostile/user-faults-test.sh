#!/bin/sh
# Runs user_faults (a static program, PROGRAM) as init of Debian's kernel, also from a cache made from that very run:
#   user-faults-test.sh AVANT PROGRAM
# Exit status 77 (skipped) if the kernel can neither be found nor fetched.
set -eu

guest=$(cd "$(dirname "$0")/.." && pwd)
avant=$1 program=$2
kernel=$(sh "$guest/fetch-kernel.sh" linux-image-cloud-amd64) || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sh "$guest/mkinitrd.sh" -o "$work/initrd.img" --init "$program"
failed=0

# run OPTION...
run() {
	status=0
	timeout -s KILL 120 "$avant" run --kernel "$kernel" --initrd "$work/initrd.img" --memory 256M --timeout 60 \
		--append 'console=ttyS0 panic=-1 quiet' "$@" </dev/null >"$work/console" || status=$?
	[ "$status" = 0 ] && grep -q '^HOSTILE ok' "$work/console" && return
	echo "with $*: status $status"
	tail -n 15 "$work/console"
	failed=1
}

for options in '--returns host' '--returns table' '--code-cache 2M'; do
	# shellcheck disable=SC2086 # options are words
	run $options
done
run --record "$work/run.rec"
"$avant" translate --kernel "$kernel" --profile "$work/run.rec" --only-recorded --output "$work/run.tcache" || failed=1
for options in '' '--code-cache 2M'; do
	# shellcheck disable=SC2086 # options are words
	run --engine aot --cache "$work/run.tcache" --stats "$work/stats.json" $options
done
grep -q '"aot_bound": [1-9][0-9][0-9][0-9][0-9]' "$work/stats.json" || {
	echo 'hardly anything was bound:'
	grep aot "$work/stats.json"
	failed=1
}
exit $failed
