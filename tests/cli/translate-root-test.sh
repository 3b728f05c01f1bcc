#!/bin/sh
# avant translate --root and --image: the same programs from a directory, archives and a disk give the same code; what is no
# program, or lies about itself, is named and skipped.
#   translate-root-test.sh AVANT PROGRAM OTHER    two position-independent programs
set -eu

avant=$(readlink -f "$1") program=$(readlink -f "$2") other=$(readlink -f "$3")
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
failed=0

fail() {
	echo "FAILED: $*"
	failed=1
}

# translate NAME OPTION...: NAME.tcache, NAME.out, NAME.err
translate() {
	name=$1
	shift
	"$avant" translate "$@" -o "$name.tcache" >"$name.out" 2>"$name.err" </dev/null || fail "$*: $(cat "$name.err")"
	"$avant" cache verify --retranslate "$name.tcache" >"$name.verify" || fail "$name: $(cat "$name.verify")"
	{
		"$avant" cache dump --chunk TMPL "$name.tcache"
		"$avant" cache dump --chunk TPAG "$name.tcache"
	} | grep -v '^file\|^chunk' >"$name.list"
	"$avant" cache dump --chunk BLOG "$name.tcache" >"$name.log"
}

# expect FILE TEXT: some line holds it
expect() {
	grep -qF -- "$2" "$1" || fail "$1 does not say '$2': $(cat "$1")"
}

# poke FILE OFFSET BYTE
poke() {
	printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}

mkdir -p tree/usr/bin tree/usr/lib tree/opt
cp "$program" tree/usr/bin/one
ln tree/usr/bin/one tree/usr/bin/linked
cp "$program" tree/opt/copy
cp "$other" tree/usr/lib/two
ln -s /bin/sh tree/usr/bin/outside
ln -s ../../../../../../bin tree/usr/up
echo text >tree/usr/bin/script
translate plain --root tree
expect plain.out '2 programs and libraries'
expect plain.log "'opt/copy': position independent"
[ "$(grep -c 'position independent' plain.log)" = 2 ] || fail "a program was scanned twice, or one that is not in the tree"
[ "$(wc -l <plain.list)" -gt 20 ] || fail "hardly any templates: $(cat plain.list)"

# whatever holds them
tar -C tree -cf tree.tar .
(cd tree && find . | sort | cpio --quiet -o -H newc) | gzip -9 >tree.cpio.gz
for archive in tree.tar tree.cpio.gz; do
	translate archive --root "$archive"
	cmp plain.list archive.list || fail "$archive: other code than from the directory"
done
translate initrd --initrd tree.cpio.gz
cmp plain.list initrd.list || fail "--initrd: other code than from the directory"
if command -v mke2fs >/dev/null && mke2fs -q -F -t ext4 -d tree disk 16M >mke2fs.out 2>&1; then
	translate disk --image disk
	cmp plain.list disk.list || fail "--image: other code than from the directory"
	expect disk.err "'disk': "
fi
# the same again is not there twice
translate both --root tree --root tree.tar --initrd tree.cpio.gz
cmp plain.list both.list || fail "programs from several places: other code"
translate again --root tree
cmp plain.tcache again.tcache || fail "two translations of the same tree differ"

# what is wrong is said, and what is right is translated
mkdir bad
cp tree/usr/bin/one bad/good
cp tree/usr/bin/one bad/headers
poke bad/headers 33 '\377\377'
cp tree/usr/bin/one bad/other
poke bad/other 18 '\003\000'
cp tree/usr/bin/one bad/object
poke bad/object 16 '\001\000'
cp tree/usr/bin/one bad/core
poke bad/core 16 '\004\000'
head -c 4200 tree/usr/bin/one >bad/cut
head -c 40 tree/usr/bin/one >bad/short
printf '\177ELF' | cat - /dev/zero | head -c 5000 >bad/zeros
mkfifo bad/pipe
cp bad/headers "bad/$(printf 'esc\033[31m')"
translate bad --root bad
cmp plain.list bad.list >/dev/null && fail "programs that are not there were translated"
expect bad.out '1 programs and libraries'
expect bad.out '1 kernel modules are left'
for name in headers other core cut zeros; do
	expect bad.log "not translated: '$name'"
done
grep -q "$(printf '\033')" bad.log bad.out bad.err && fail "control characters reach the terminal"

# what is no tree
for wrong in nothing tree/usr/bin/script /dev/null; do
	if "$avant" translate --root "$wrong" -o x.tcache >x.out 2>&1 </dev/null; then
		fail "--root $wrong is taken"
	fi
	expect x.out "$wrong"
	[ ! -e x.tcache ] || fail "--root $wrong leaves a file"
done
exit $failed
