#!/bin/sh
# Boots both of Debian 12's kernels again and again with several memory sizes; every launch must reach the shell, run a
# command without complaints in dmesg, and power off:
#   many-boots.sh [--with-cache] AVANT [LAUNCHES [AVANT-OPTION...]]    (default: 20 of each kernel)
# With --with-cache each kernel is recorded once and translated, and every launch is made with that cache as well.
# Not part of the tests that CI runs: 40 launches take a minute or two.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
with_cache=no
if [ "${1:-}" = --with-cache ]; then
	with_cache=yes
	shift
fi
[ $# -gt 0 ] || { echo "Usage: many-boots.sh [--with-cache] AVANT [LAUNCHES [AVANT-OPTION...]]" >&2; exit 2; }
avant=$1
launches=${2:-20}
shift $(($# > 1 ? 2 : 1))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
failed=0

# make_cache PACKAGE AVANT-OPTION...: records a launch, translates it to $work/PACKAGE.tcache
make_cache() {
	name=$1
	shift
	kernel=$(sh "$here/fetch-kernel.sh" "$name")
	sh "$here/boot-test.sh" "$avant" "$name" "$@" --record "$work/boot.rec" >"$work/log" 2>&1 &&
		"$avant" translate --kernel "$kernel" --profile "$work/boot.rec" --output "$work/$name.tcache" \
			>"$work/log" 2>&1 || { echo "$name: no cache could be made"; tail -n 5 "$work/log"; return 1; }
}

# attempt WHAT AVANT-OPTION...: one launch; says what failed
attempt() {
	what=$1
	shift
	sh "$here/boot-test.sh" "$avant" "$package" --memory "$memory" "$@" >"$work/log" 2>&1 && return 0
	echo "$package, launch $launch ($memory$what): failed"
	tail -n 3 "$work/log"
	failed=1
	return 1
}

for package in linux-image-cloud-amd64 linux-image-amd64; do
	passed=0 cached=0 launch=0
	has_cache=$with_cache
	[ $has_cache = no ] || make_cache $package "$@" || { has_cache=no failed=1; }
	while [ $launch -lt "$launches" ]; do
		case $((launch % 4)) in
		0) memory=256M ;;
		1) memory=4G ;;
		*) memory=512M ;;
		esac
		launch=$((launch + 1))
		if attempt "" "$@"; then
			passed=$((passed + 1))
		fi
		if [ $has_cache = yes ] && attempt ", cache" "$@" --engine aot --cache "$work/$package.tcache"; then
			cached=$((cached + 1))
		fi
	done
	echo "$package: $passed of $launches"
	[ $with_cache = no ] || echo "$package with cache: $cached of $launches"
	rm -f "$work/$package.tcache"
done
exit $failed
