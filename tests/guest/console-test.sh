#!/bin/sh
# Consoles and the power button under Debian's kernel: console-test.sh AVANT [PACKAGE]. 77: skipped, no kernel.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$1
package=${2:-linux-image-cloud-amd64}

kernel=$(sh "$here/fetch-kernel.sh" --modules "$package") || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
head -c 2000000 /dev/urandom >"$work/data"
modules=$(python3 "$here/modules.py" "$kernel" virtio_pci virtio_console button evdev | sed 's/^/--module /')
# shellcheck disable=SC2086 # options are words
sh "$here/mkinitrd.sh" $modules --file "$here/console.sh:/console.sh" --file "$work/data:/data" -o "$work/initrd.img"
python3 "$here/console-test.py" "$avant" "$kernel" "$work/initrd.img" "$work/data"
