#!/bin/sh
# Disks and entropy under Debian's kernel, with MSI-X and without, drivers loaded and unloaded:
#   virtio-test.sh AVANT [PACKAGE [AVANT-OPTION...]]
# Exit status 77 (skipped) if the kernel can neither be found nor fetched.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$1
package=${2:-linux-image-cloud-amd64}
shift $(($# > 2 ? 2 : $#))

kernel=$(sh "$here/fetch-kernel.sh" --modules "$package") || exit 77
modules=$(echo "${kernel%/boot/*}"/lib/modules/*/kernel/drivers)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/root"
head -c 5000001 /dev/urandom >"$work/root/data"
cp "$here"/*.sh "$work/root"
(cd "$work/root" && md5sum ./*) >"$work/vda.md5"
mke2fs -q -t ext4 -L first -d "$work/root" "$work/vda" 64M >/dev/null
truncate -s 8M "$work/vdb" "$work/vdc"

files="--file $here/virtio.sh:/virtio.sh --file $work/vda.md5:/vda.md5"
for module in virtio/virtio_ring virtio/virtio virtio/virtio_pci_modern_dev virtio/virtio_pci_legacy_dev virtio/virtio_pci \
	char/hw_random/rng-core char/hw_random/virtio-rng block/virtio_blk; do
	[ ! -e "$modules/$module.ko" ] || files="$files --file $modules/$module.ko:/lib/${module##*/}.ko"
done
# shellcheck disable=SC2086 # options are words
sh "$here/mkinitrd.sh" $files -o "$work/initrd.img"

boot() { # KERNEL-OPTION
	status=0
	"$avant" run --kernel "$kernel" --initrd "$work/initrd.img" --timeout 120 --stats "$work/stats.json" \
		--disk "$work/vda,serial=first" --disk "$work/vdb,serial=exactly-20-bytes-lon,format=raw" \
		--disk "$work/vdc,readonly" --append "console=ttyS0 panic=-1 $1 avant.run=\"sh /virtio.sh\"" \
		</dev/null >"$work/console" 2>"$work/errors" || status=$?
	grep -q '^VIRTIO-TEST-PASSED' "$work/console" || status=1
	[ ! -s "$work/errors" ] || status=1
	fsck.ext4 -fn "$work/vda" >"$work/fsck" 2>&1 || status=1
	if [ "$status" != 0 ]; then
		echo "with '$1': avant's exit status or this test's: $status; end of the console, messages, fsck:"
		tail -n 40 "$work/console"
		cat "$work/errors" "$work/fsck"
		exit 1
	fi
	grep -E '"(wall_ms|cpu_ms|virtio_[a-z]*|msi_messages)"' "$work/stats.json"
}

boot ''
boot pci=nomsi
cmp -s -n 8388608 /dev/zero "$work/vdc" || { echo 'a disk that was to be read only was written'; exit 1; }
