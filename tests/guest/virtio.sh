# The guest's side of virtio-test.sh, sourced by init's shell: loads drivers, works with disks and entropy, unloads,
# again. /vda.md5 says what the first disk holds. Ends with "VIRTIO-TEST-PASSED" if all of it was right.
modules='virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci rng-core virtio_blk virtio-rng'

fail() {
	echo "VIRTIO-TEST-FAILED: $*"
	exit 1
}

load() { # MODULE...
	for module; do
		# what is not there is built in
		[ ! -e "/lib/$module.ko" ] || insmod "/lib/$module.ko" || fail "insmod $module"
	done
}

unload() {
	for module in virtio_rng virtio_blk virtio_pci virtio_pci_legacy_dev virtio_pci_modern_dev virtio virtio_ring; do
		rmmod "$module" || fail "rmmod $module"
	done
	[ ! -e /dev/vda ] || fail 'a disk without driver'
}

expect() { # WHAT FILE VALUE
	[ "$(cat "$2")" = "$3" ] || fail "$1 is '$(cat "$2")', not '$3'"
}

# --- what is on the bus
check_bus() {
	bus=/sys/bus/pci/devices
	expect 'host bridge' $bus/0000:00:00.0/class 0x060000
	for slot in 01 02 03 04; do
		expect "vendor in slot $slot" $bus/0000:00:$slot.0/vendor 0x1af4
	done
	expect 'first disk' $bus/0000:00:01.0/device 0x1042
	expect 'second disk' $bus/0000:00:02.0/device 0x1042
	expect 'third disk' $bus/0000:00:03.0/device 0x1042
	expect 'entropy' $bus/0000:00:04.0/device 0x1044
	for slot in 01 02 03 04; do
		[ -e $bus/0000:00:$slot.0/driver ] || fail "no driver in slot $slot"
	done
}

check_interrupts() {
	if grep -q pci=nomsi /proc/cmdline; then
		chip=IO-APIC
		! grep -q noapic /proc/cmdline || chip=XT-PIC
		grep -q "$chip.*virtio0" /proc/interrupts || fail 'no line interrupt'
		! grep -q MSI /proc/interrupts || fail 'messages with pci=nomsi'
	else
		grep -q 'MSI.*virtio0-req' /proc/interrupts || fail 'no MSI-X'
	fi
}

check_disks() {
	expect 'size of vda' /sys/block/vda/size 131072
	expect 'size of vdb' /sys/block/vdb/size 16384
	expect 'serial of vda' /sys/block/vda/serial first
	expect 'serial of vdb' /sys/block/vdb/serial 'exactly-20-bytes-lon'
	expect 'serial of vdc' /sys/block/vdc/serial ''
	expect 'ro of vda' /sys/block/vda/ro 0
	expect 'ro of vdb' /sys/block/vdb/ro 0
	expect 'ro of vdc' /sys/block/vdc/ro 1
	expect 'cache of vda' /sys/block/vda/queue/write_cache 'write back'
	expect 'physical block' /sys/block/vda/queue/physical_block_size 4096
	[ "$(cat /sys/block/vda/queue/discard_max_bytes)" -gt 0 ] || fail 'no discard'
	[ "$(cat /sys/block/vda/queue/write_zeroes_max_bytes)" -gt 0 ] || fail 'no write-zeroes'
}

check_file_system() { # ROUND
	mount -t ext4 /dev/vda /mnt || fail mount
	(cd /mnt && md5sum -c /vda.md5 >/dev/null) || fail 'contents of vda'
	[ "$1" = 1 ] || cmp /mnt/data /mnt/copy || fail 'the copy made in the first round'
	cp /mnt/data /mnt/copy || fail cp
	dd if=/dev/urandom of=/mnt/big bs=1M count=12 2>/dev/null || fail 'dd to vda'
	sync
	sum=$(md5sum </mnt/big)
	echo 3 >/proc/sys/vm/drop_caches
	[ "$(md5sum </mnt/big)" = "$sum" ] || fail 'what was written is not what is read'
	rm /mnt/big
	fstrim /mnt || fail fstrim
	umount /mnt || fail umount
}

# Without page cache, at odd places and in odd sizes.
check_raw() {
	dd if=/dev/urandom of=/tmp/raw bs=512 count=999 2>/dev/null
	dd if=/tmp/raw of=/dev/vdb bs=512 seek=777 oflag=direct 2>/dev/null || fail 'direct write'
	dd if=/dev/vdb of=/tmp/back bs=512 skip=777 count=999 iflag=direct 2>/dev/null || fail 'direct read'
	cmp /tmp/raw /tmp/back || fail 'direct write and read differ'
	dd if=/dev/vdb of=/tmp/back bs=511488 skip=1 count=1 iflag=skip_bytes 2>/dev/null
	if dd if=/dev/zero of=/dev/vdc bs=512 count=1 2>/dev/null; then
		fail 'wrote to a disk that is to be read only'
	fi
	blkdiscard -z -o 409600 -l 8192 /dev/vdb 2>/dev/null || blkdiscard -o 409600 -l 8192 /dev/vdb || fail blkdiscard
}

check_entropy() {
	expect 'source of entropy' /sys/class/misc/hw_random/rng_current virtio_rng.0
	dd if=/dev/hwrng of=/tmp/random bs=1024 count=64 2>/dev/null || fail 'dd from hwrng'
	[ "$(gzip </tmp/random | wc -c)" -gt 65000 ] || fail 'entropy that can be compressed'
}

mkdir -p /mnt
load crc32c_generic crc16 mbcache jbd2 ext4
for round in 1 2; do
	# shellcheck disable=SC2086 # names are words
	load $modules
	check_bus
	check_interrupts
	check_disks
	check_file_system $round
	check_raw
	check_entropy
	unload
done
dmesg | grep -v 'ommand line:' | grep -iE 'virtio|pci|acpi|vd[abc]' | grep -v 'if necessary, use' |
	grep -iE 'error|fail|warn|bug|unable|conflict' &&
	fail 'complaints in dmesg'
echo VIRTIO-TEST-PASSED
