#!/bin/sh
# Runs user_faults (a static program, PROGRAM) as init of Debian's kernel: user-faults-test.sh AVANT PROGRAM
# Exit status 77 (skipped) if the kernel can neither be found nor fetched.
set -eu

guest=$(cd "$(dirname "$0")/.." && pwd)
avant=$1 program=$2
kernel=$(sh "$guest/fetch-kernel.sh" linux-image-cloud-amd64) || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sh "$guest/mkinitrd.sh" -o "$work/initrd.img" --init "$program"
failed=0
for options in '--returns host' '--returns table' '--code-cache 2M'; do
	status=0
	# shellcheck disable=SC2086 # options are words
	timeout -s KILL 120 "$avant" run --kernel "$kernel" --initrd "$work/initrd.img" --memory 256M --timeout 60 \
		--append 'console=ttyS0 panic=-1 quiet' $options </dev/null >"$work/console" || status=$?
	[ "$status" = 0 ] && grep -q '^HOSTILE ok' "$work/console" && continue
	echo "with $options: status $status"
	tail -n 15 "$work/console"
	failed=1
done
exit $failed
