#!/bin/sh
# Boots both of Debian 12's kernels again and again with several memory sizes; every launch must reach the shell, run a
# command without complaints in dmesg, and power off:
#   many-boots.sh AVANT [LAUNCHES [AVANT-OPTION...]]    (default: 20 of each kernel)
# Not part of the tests that CI runs: 40 launches take a minute or two.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$1
launches=${2:-20}
shift $(($# > 1 ? 2 : 1))
failed=0
for package in linux-image-cloud-amd64 linux-image-amd64; do
	passed=0 launch=0
	while [ $launch -lt "$launches" ]; do
		case $((launch % 4)) in
		0) memory=256M ;;
		1) memory=4G ;;
		*) memory=512M ;;
		esac
		launch=$((launch + 1))
		if sh "$here/boot-test.sh" "$avant" "$package" --memory $memory "$@" >/dev/null 2>&1; then
			passed=$((passed + 1))
		else
			echo "$package, launch $launch ($memory): failed"
			failed=1
		fi
	done
	echo "$package: $passed of $launches"
done
exit $failed
