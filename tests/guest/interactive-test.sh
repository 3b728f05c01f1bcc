#!/bin/sh
# A user at a terminal in a guest: interactive-test.sh AVANT [PACKAGE [AVANT-OPTION...]]. 77: skipped, no kernel.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$1
package=${2:-linux-image-cloud-amd64}
shift $(($# > 2 ? 2 : $#))

kernel=$(sh "$here/fetch-kernel.sh" "$package") || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sh "$here/mkinitrd.sh" -o "$work/initrd.img"
python3 "$here/interactive-test.py" "$avant" run --kernel "$kernel" --initrd "$work/initrd.img" --timeout 250 \
	--append 'console=ttyS0 quiet panic=-1' "$@"
