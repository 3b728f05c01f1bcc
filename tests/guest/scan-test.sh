#!/bin/sh
# Programs that nobody has seen run are served from a cache, wherever the kernel puts them, and only as long as they are
# what was translated:
#   scan-test.sh AVANT PROGRAM CHANGED    two builds of scan/program.S
# Exit status 77 (skipped) if no kernel can be found or fetched.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$1 program=$2 changed=$3
kernel=$(sh "$here/fetch-kernel.sh" linux-image-cloud-amd64) || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

fail() {
	echo "FAILED: $*"
	failed=1
}

# initrd NAME PROGRAM OPTION...
initrd() {
	name=$1 file=$2
	shift 2
	sh "$here/mkinitrd.sh" -o "$work/$name.img" --file "$file:/program" "$@"
}

# boot NAME IMAGE COMMAND OPTION...: console in NAME.out, figures in NAME.json
boot() {
	name=$1 image=$2 command=$3
	shift 3
	"$avant" run --kernel "$kernel" --initrd "$work/$image.img" --timeout 100 --clock instructions \
		--append "console=ttyS0 quiet panic=-1 avant.run=\"$command\"" --stats "$work/$name.json" "$@" \
		</dev/null >"$work/$name.out" 2>"$work/$name.err" || fail "$name: exit status $?"
	grep -q '^AVANT-STATUS 0' "$work/$name.out" || fail "$name: the command in the guest: $(cat "$work/$name.out")"
}

number() {
	sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p" "$work/$2.json"
}

# Of all copies that a run made, 80 % are from the cache: what is entered by faults and interrupts cannot be foreseen.
most_cached() {
	made=$(number units_cloned "$1") cached=$(number aot_cloned "$1")
	echo "$1: $cached of $made copies from the cache"
	[ "$cached" -gt 0 ] && [ $((cached * 10)) -ge $((made * 8)) ] || fail "$1: less than 80 % of the copies are from the cache"
}

initrd same "$program"
initrd other "$changed"
initrd dynamic "$program" --add sort
# without a kernel: what is in the cache is user code
for image in same dynamic; do
	"$avant" translate --counted --initrd "$work/$image.img" -o "$work/$image.tcache" >"$work/translate.out" ||
		fail "translate --initrd"
done
"$avant" cache verify --retranslate "$work/same.tcache" >"$work/verify.out" || fail "verify: $(cat "$work/verify.out")"

# all but the instruction in two pages comes from the cache, each time at other addresses
boot same same '/program; /program; /program' --cache "$work/same.tcache"
[ "$(grep -c '^PROGRAM 1 right' "$work/same.out")" = 3 ] || fail "the program: $(cat "$work/same.out")"
most_cached same

boot other other '/program; /program; /program' --cache "$work/same.tcache"
[ "$(grep -c '^PROGRAM 2 right' "$work/other.out")" = 3 ] || fail "the changed program: $(cat "$work/other.out")"
[ "$(number aot_cloned other)" = 0 ] || fail "$(number aot_cloned other) copies for a program that has been replaced"

# one cache for both, as if they were on two disks
for image in same other; do
	mkdir "$work/$image.tree"
done
cp "$program" "$work/same.tree/program"
cp "$changed" "$work/other.tree/program"
"$avant" translate --counted --root "$work/same.tree" --root "$work/other.tree" -o "$work/both.tcache" \
	>"$work/translate.out" || fail "translate --root --root"
for image in same other; do
	boot "both_$image" "$image" '/program; /program; /program' --cache "$work/both.tcache"
	[ "$(grep -c '^PROGRAM . right' "$work/both_$image.out")" = 3 ] || fail "the program: $(cat "$work/both_$image.out")"
	most_cached "both_$image"
done

# a program of this host with its libraries
command='ls -1 /bin | /usr/bin/sort -r'
boot live dynamic "$command"
boot dynamic dynamic "$command" --cache "$work/dynamic.tcache"
cmp "$work/live.out" "$work/dynamic.out" || fail "the console differs from that of live translation"
most_cached dynamic
exit $failed
