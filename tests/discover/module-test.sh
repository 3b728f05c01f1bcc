#!/bin/sh
# Does the pre-scan predict the code of modules that a kernel has loaded? module-test.sh AVANT MODULE_TOOL
# Exit status 77 (skipped) if the kernel can neither be found nor fetched.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
kernel=$(sh "$here/../guest/fetch-kernel.sh" --modules linux-image-amd64) || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
files=$(python3 "$here/../guest/modules.py" "$kernel" virtio_pci virtio_blk virtio_net virtio_rng 9p 9pnet_virtio virtio_gpu \
	ext4 xfs btrfs mac80211 aesni_intel crc32c_intel dm_mod loop fuse)
for file in $files; do
	set -- "$@" --module "$file"
done
avant=$1
tool=$2
shift 2
sh "$here/../guest/mkinitrd.sh" "$@" -o "$work/initrd.img"
python3 "$here/module-bytes.py" "$avant" "$tool" --kernel "$kernel" --initrd "$work/initrd.img" \
	--modules "$(dirname "$kernel")/../lib/modules"
