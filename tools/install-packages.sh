#!/bin/sh
# Installs the Debian packages of the groups named (see packages.txt) that are not there yet, as root or through sudo.
set -eu

list=$(dirname "$0")/packages.txt
[ $# -gt 0 ] || { echo "Usage: install-packages.sh GROUP..." >&2; exit 2; }

missing=
for group; do
	# shellcheck disable=SC2013  # package names are words
	for package in $(sed -n "s/^$group //p" "$list"); do
		case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true) in
		*' installed') ;;
		*) missing="$missing $package" ;;
		esac
	done
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
	as_root=
elif command -v sudo >/dev/null; then
	as_root=sudo
else
	echo "install-packages.sh: these packages are needed:$missing" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # lists of words
{
	$as_root apt-get -qq update
	$as_root apt-get -qq install -y --no-install-recommends $missing
}
