#!/bin/sh
# Disks and entropy under Debian's kernel, with MSI-X, without, and with the old interrupt controllers alone; disks as
# files and behind NBD servers, drivers loaded and unloaded:
#   virtio-test.sh AVANT [PACKAGE [AVANT-OPTION...]]
# Exit status 77 (skipped) if the kernel can neither be found nor fetched.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$1
package=${2:-linux-image-cloud-amd64}
shift $(($# > 2 ? 2 : $#))

kernel=$(sh "$here/fetch-kernel.sh" --modules "$package") || exit 77
modules=$(echo "${kernel%/boot/*}"/lib/modules/*/kernel)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/root"
head -c 5000001 /dev/urandom >"$work/root/data"
cp "$here"/*.sh "$work/root"
(cd "$work/root" && md5sum ./*) >"$work/vda.md5"
mke2fs -q -t ext4 -L first -d "$work/root" "$work/vda" 64M >/dev/null
truncate -s 8M "$work/vdb" "$work/vdc"

files="--file $here/virtio.sh:/virtio.sh --file $work/vda.md5:/vda.md5"
for module in drivers/virtio/virtio_ring drivers/virtio/virtio drivers/virtio/virtio_pci_modern_dev \
	drivers/virtio/virtio_pci_legacy_dev drivers/virtio/virtio_pci drivers/char/hw_random/rng-core \
	drivers/char/hw_random/virtio-rng drivers/block/virtio_blk crypto/crc32c_generic lib/crc16 fs/mbcache fs/jbd2/jbd2 \
	fs/ext4/ext4; do
	name=${module##*/}
	[ ! -e "$modules/$module.ko" ] || cp "$modules/$module.ko" "$work/$name.ko"
	[ ! -e "$modules/$module.ko.xz" ] || xz -dc "$modules/$module.ko.xz" >"$work/$name.ko"
	[ ! -e "$work/$name.ko" ] || files="$files --file $work/$name.ko:/lib/$name.ko"
done
# shellcheck disable=SC2086 # options are words
sh "$here/mkinitrd.sh" $files -o "$work/initrd.img"

boot() { # KERNEL-OPTION VDA VDB VDC AVANT-OPTION...
	option=$1 vda=$2 vdb=$3 vdc=$4
	shift 4
	status=0
	"$avant" run --kernel "$kernel" --initrd "$work/initrd.img" --timeout 120 --stats "$work/stats.json" \
		--disk "$vda,serial=first" --disk "$vdb,serial=exactly-20-bytes-lon,format=raw" \
		--disk "$vdc,readonly" "$@" --append "console=ttyS0 panic=-1 $option avant.run=\"sh /virtio.sh\"" \
		</dev/null >"$work/console" 2>"$work/errors" || status=$?
	grep -q '^VIRTIO-TEST-PASSED' "$work/console" || status=1
	[ ! -s "$work/errors" ] || status=1
	stop_servers
	fsck.ext4 -fn "$work/vda" >"$work/fsck" 2>&1 || status=1
	if [ "$status" != 0 ]; then
		echo "with '$option' and '$vda': avant's exit status or this test's: $status; end of the console, messages, fsck:"
		tail -n 40 "$work/console"
		cat "$work/errors" "$work/fsck"
		exit 1
	fi
	python3 - "$work/stats.json" <<'END'
import json, sys
devices = json.load(open(sys.argv[1]))["virtio"]
assert [d["device"] for d in devices] == ["virtio-blk"] * 3 + ["virtio-rng"], devices
assert [d["slot"] for d in devices] == [1, 2, 3, 4], devices
assert devices[0]["bytes_to_guest"] > 5000000 and devices[0]["bytes_from_guest"] > 25000000, devices
assert all(d["requests"] >= d["interrupts"] > 0 < d["kicks"] for d in devices), devices
END
	grep -E '"(wall_ms|cpu_ms|virtio_[a-z]*|msi_messages)"' "$work/stats.json"
}

# They end when asked to, and what they were given is in the files then.
servers=
stop_servers() {
	for server in $servers; do
		kill "$server"
		wait "$server" || status=1
	done
	servers=
}
trap 'stop_servers; rm -rf "$work"' EXIT

serve() { # NAME OPTION...
	name=$1
	shift
	qemu-nbd --persistent --socket "$work/$name.sock" --format raw --discard unmap "$@" "$work/$name" &
	servers="$servers $!"
	for _ in $(seq 100); do
		[ -S "$work/$name.sock" ] && return
		sleep 0.1
	done
	echo "qemu-nbd does not start"
	exit 1
}

boot '' "$work/vda" "$work/vdb" "$work/vdc" "$@"
boot pci=nomsi "$work/vda" "$work/vdb" "$work/vdc" "$@"
boot 'pci=nomsi noapic' "$work/vda" "$work/vdb" "$work/vdc" "$@"
if command -v qemu-nbd >/dev/null; then
	serve vda
	serve vdb
	serve vdc --read-only
	uri="nbd+unix:///?socket=$work"
	boot '' "$uri/vda.sock" "$uri/vdb.sock" "$uri/vdc.sock" "$@"
fi
cmp -s -n 8388608 /dev/zero "$work/vdc" || { echo 'a disk that was to be read only was written'; exit 1; }
