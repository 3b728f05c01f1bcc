#!/bin/sh
# Kernel modules from a cache that was made without a recording: in two orders of loading, and loaded again; the guest's
# state is that of the interpreter and of live translation:
#   modules-cache-test.sh AVANT [INTERVAL]
# Runs are on the instruction clock, with traces of registers at every INTERVAL instructions (default: 20000000) and of RAM
# at every fourth. Exit status 77 if no kernel can be fetched.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$1
interval=${2:-20000000}
kernel=$(sh "$here/fetch-kernel.sh" --modules linux-image-amd64) || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

fail() {
	echo "FAILED: $*"
	failed=1
}

# initrd NAME MODULE...: loads the modules in this order
initrd() {
	name=$1
	shift
	files=$(python3 "$here/modules.py" "$kernel" "$@")
	set --
	for file in $files; do
		set -- "$@" --module "$file"
	done
	sh "$here/mkinitrd.sh" -o "$work/$name.img" --file "$work/use.sh:/use.sh" "$@"
}

# What is loaded is used; loop is loaded again, elsewhere.
cat >"$work/use.sh" <<'END'
set -e
use() {
	losetup /dev/loop0 file
	mke2fs /dev/loop0 >/dev/null
	mount -t ext2 /dev/loop0 /mnt
	cp /bin/busybox /mnt/
	cmp /bin/busybox /mnt/busybox
	umount /mnt
	losetup -d /dev/loop0
}
mkdir /mnt
dd if=/dev/zero of=file bs=1M count=4 2>/dev/null
use
rmmod loop virtio_net
insmod /lib/modules/loop.ko
use
cut -d' ' -f1 /proc/modules
END

# run NAME INITRD OPTION...: console in NAME.out
run() {
	name=$1 image=$2
	shift 2
	"$avant" run --kernel "$kernel" --initrd "$work/$image.img" --memory 256M --timeout 250 --clock instructions \
		--trace-state "$work/$name,interval=$interval,ram=4" \
		--append 'console=ttyS0 quiet panic=-1 avant.run="sh /use.sh"' \
		"$@" </dev/null >"$work/$name.out" 2>"$work/$name.err" || fail "$name: exit status $?"
	grep -q '^AVANT-STATUS 0' "$work/$name.out" || fail "$name: $(tail -n 5 "$work/$name.out")"
}

number() {
	sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" "$work/$2"
}

# same NAME OTHER: console and trace
same() {
	cmp "$work/$1.out" "$work/$2.out" || fail "the consoles of $1 and $2 differ"
	cmp "$work/$1" "$work/$2" || fail "the traces of $1 and $2 differ"
}

# served NAME: modules came from the cache; what it had no code for is less than a tenth of that
served() {
	bound=$(number aot_module_bound "$1.json") missed=$(number aot_module_missed "$1.json")
	unknown=$(number aot_module_unknown "$1.json")
	echo "$1: $bound units of modules from the cache, $missed translated live in pages that it knows, $unknown in others"
	[ "$bound" -ge 300 ] && [ $((missed * 10)) -lt "$bound" ] && [ "$unknown" -le 10 ] || fail "$1: too few from the cache"
}

translate() {
	"$avant" translate --kernel "$kernel" --initrd "$work/first.img" --counted --exact-flags "$@" >"$work/translate.out" ||
		fail "translate $*"
}

initrd first crc32c_generic ext4 virtio_net loop
initrd second loop virtio_net crc32c_generic ext4
translate --output "$work/cache" --report "$work/report.json"
translate --output "$work/again"
cmp "$work/cache" "$work/again" || fail "two translations of the same input differ"
translate --output "$work/reused" --reuse "$work/cache"
cmp "$work/cache" "$work/reused" || fail "nothing has changed, but the cache made from the older one is another"
"$avant" cache verify --retranslate "$work/cache" >"$work/verify.out" || fail "cache verify: $(cat "$work/verify.out")"
python3 - "$work/report.json" <<'END' || fail "the report does not account for all units"
import json, sys
units = json.load(open(sys.argv[1]))["totals"]["units"]
sys.exit(units["translated"] + units["left_to_live"] != units["total"])
END

run interp first --engine interp
run live first
run cached first --cache "$work/cache" --stats "$work/cached.json"
same interp cached
same live cached
served cached
run live-second second
run second second --cache "$work/cache" --stats "$work/second.json"
same live-second second
served second
exit $failed
