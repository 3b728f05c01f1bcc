#!/bin/sh
# The guest's clocks beside the host's, for 10 minutes on a busy host: time-test.sh AVANT CLOCKS [OPTION...]
# CLOCKS is the program made of time/clocks.c; options are those of time-test.py. 77: skipped, no kernel.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$1
clocks=$2
shift 2

kernel=$(sh "$here/fetch-kernel.sh" linux-image-cloud-amd64) || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
sh "$here/mkinitrd.sh" --file "$clocks:/clocks" --file "$here/time/guest.sh:/guest.sh" -o "$work/initrd.img"
python3 "$here/time-test.py" "$avant" "$kernel" "$work/initrd.img" "$@"
