#!/bin/sh
# Boots what GRUB would boot in a disk image: image-test.sh AVANT. Exit status 77: no kernel can be had here, or no mke2fs.
set -eu

avant=$1
here=$(dirname "$(readlink -f "$0")")
PATH=$PATH:/usr/sbin:/sbin
command -v mke2fs >/dev/null && command -v sfdisk >/dev/null || exit 77
kernel=$(sh "$here/fetch-kernel.sh") || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP

fail() {
	echo "image-test.sh: $*" >&2
	exit 1
}

# Two entries: the default prints what the guest was started with.
mkdir -p "$work/root/boot/grub"
cp "$kernel" "$work/root/boot/vmlinuz-1"
sh "$here/mkinitrd.sh" -o "$work/root/boot/initrd.img-1"
cat >"$work/root/boot/grub/grub.cfg" <<'END'
set default=second
menuentry 'The first' { linux /boot/none; }
submenu 'More' --id more {
	menuentry 'No' { linux /boot/none; }
}
menuentry 'The second' --id second {
	search --no-floppy --fs-uuid --set=root 12345678-1234-1234-1234-123456789abc
	linux /boot/vmlinuz-1 panic=-1 quiet "not for you=1" avant.run=dmesg
	initrd /boot/initrd.img-1
}
END
mke2fs -q -F -t ext4 -U 12345678-1234-1234-1234-123456789abc -d "$work/root" "$work/part" 64M >/dev/null 2>&1
truncate -s 70M "$work/disk"
echo 'start=1MiB, size=64MiB' | sfdisk -q --label gpt "$work/disk"
dd if="$work/part" of="$work/disk" bs=1M seek=1 conv=notrunc,sparse status=none
rm "$work/part"
sum=$(cksum <"$work/disk")

"$avant" run --image "$work/disk" --snapshot --timeout 120 </dev/null >"$work/out" 2>"$work/err" ||
	fail "status $?: $(cat "$work/err" "$work/out")"
tr -d '\r' <"$work/out" >"$work/text"
grep -q 'AVANT-STATUS 0' "$work/text" || fail "the guest did not run: $(cat "$work/text")"
grep -q 'Command line: panic=-1 quiet "not for you=1" avant.run=dmesg console=ttyS0$' "$work/text" ||
	fail "another command line: $(cat "$work/text")"
cat >"$work/expected" <<'END'
avant run: booting 'The second' (GRUB, /boot/grub/grub.cfg of partition 1; it is the default, 'second')
avant run: console=ttyS0 is added to the kernel's command line, which names no serial port
END
diff -u "$work/expected" "$work/err" || fail "other messages"
[ "$(cksum <"$work/disk")" = "$sum" ] || fail "the image has changed"

# What is given goes before what is found.
"$avant" run --image "$work/disk",readonly --append 'console=ttyS0 panic=-1 avant.run=true' \
	--timeout 120 </dev/null >"$work/out" 2>"$work/err" || fail "status $?: $(cat "$work/err" "$work/out")"
grep -q 'AVANT-STATUS 0' "$work/out" || fail "--append: $(cat "$work/out")"
grep -q 'Command line: console=ttyS0 panic=-1 avant.run' "$work/out" || fail "--append: $(cat "$work/out")"
"$avant" run --image "$work/disk" --kernel "$kernel" --initrd "$work/root/boot/initrd.img-1" \
	--append 'console=ttyS0 panic=-1 avant.run=true' --timeout 120 </dev/null >"$work/out" 2>"$work/err" ||
	fail "status $?: $(cat "$work/err" "$work/out")"
[ ! -s "$work/err" ] || fail "messages of an image that was not asked: $(cat "$work/err")"
