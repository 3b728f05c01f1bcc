#!/bin/sh
# A directory of the host's in a Debian guest (avant run --share), under every kind of cache that the client has:
#   share-test.sh AVANT SHARE_CHECK [PACKAGE [AVANT-OPTION...]]
# SHARE_CHECK is the program made of share/*.c. Debian's cloud kernels have no 9p. Exit status 77 (skipped) if the kernel
# can neither be found nor fetched.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$1
check=$2
package=${3:-linux-image-amd64}
shift $(($# > 3 ? 3 : $#))

kernel=$(sh "$here/fetch-kernel.sh" --modules "$package") || exit 77
work=$(mktemp -d)
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT

# The tree that is copied, and what may not be reached from it.
echo "nobody's business" >"$work/secret"
mkdir -p "$work/share/in/deep/a/b/c/d/e/f/g/h" "$work/share/in/empty" "$work/share/in/many"
head -c 20000003 /dev/urandom >"$work/share/in/large"
cp -r "$here" "$work/share/in/deep/a/b"
truncate -s 3M "$work/share/in/sparse"
: >"$work/share/in/nothing"
echo odd >"$work/share/in/ a name; \$(with) 'everything'*"
i=0
while [ $i -lt 1500 ]; do
	echo "$i" >"$work/share/in/many/$i"
	i=$((i + 1))
done
ln -s many/7 "$work/share/in/link"
ln -s ../secret "$work/share/out-relative"
ln -s "$work/secret" "$work/share/out-absolute"
ln -s /proc/self/root "$work/share/out-proc"
chmod 600 "$work/share/in/large"
chmod 755 "$work/share/in/nothing"
(cd "$work/share/in" && find . -type f -exec md5sum {} + | sort) >"$work/in.md5"

modules=$(python3 "$here/modules.py" "$kernel" virtio_pci 9p 9pnet_virtio | sed 's/^/--module /')
# shellcheck disable=SC2086 # options are words
sh "$here/mkinitrd.sh" $modules --file "$here/share.sh:/share.sh" --file "$check:/share_check" \
	--file "$work/in.md5:/in.md5" -o "$work/initrd.img"

status=0
"$avant" run --kernel "$kernel" --initrd "$work/initrd.img" --memory 768M --timeout 400 "$@" \
	--share "$work/share,tag=work" --share "$work/share/in,tag=fixed,readonly" \
	--append 'console=ttyS0 quiet panic=-1 avant.run="sh /share.sh"' </dev/null >"$work/console" 2>"$work/errors" ||
	status=$?

complain() {
	echo "$*"
	status=1
}

grep -q '^SHARE-TEST-PASSED' "$work/console" || complain 'the guest did not pass'
[ ! -s "$work/errors" ] || complain 'there were messages'
[ "$(cat "$work/secret")" = "nobody's business" ] || complain 'the file outside was changed'
[ "$(ls "$work" | tr '\n' ' ')" = 'console errors in.md5 initrd.img secret share ' ] ||
	complain "something was made outside: $(ls "$work")"
(cd "$work/share/in" && find . -type f -exec md5sum {} + | sort) | cmp -s - "$work/in.md5" ||
	complain 'what was only to be read was changed'
for copy in none loose mmap; do
	diff -r --no-dereference "$work/share/in" "$work/share/copy-$copy" || complain "the copy made with cache=$copy"
	for file in large nothing many; do
		[ "$(stat -c %a "$work/share/in/$file")" = "$(stat -c %a "$work/share/copy-$copy/$file")" ] ||
			complain "the mode of $file in the copy made with cache=$copy"
	done
done
if [ "$status" != 0 ]; then
	echo "avant's exit status or this test's: $status; end of the console, messages:"
	tail -n 40 "$work/console"
	cat "$work/errors"
	exit 1
fi
