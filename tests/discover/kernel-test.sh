#!/bin/sh
# Does the pre-scan of Debian's kernel predict the bytes of the running kernel? kernel-test.sh AVANT DISCOVER_TOOL
# Also: kallsyms as the pre-scan decodes it must be what the guest's /proc/kallsyms shows.
# Exit status 77 (skipped) if the kernel can neither be found nor fetched.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$1
tool=$2
kernel=$(sh "$here/../guest/fetch-kernel.sh" linux-image-cloud-amd64) || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sh "$here/../guest/mkinitrd.sh" -o "$work/initrd.img"

# From 6.12 on the hooks of security modules are static calls; which ones are active is decided at boot.
case $kernel in
*/vmlinuz-6.1.*) least=99 ;;
*) least=98 ;;
esac
python3 "$here/kernel-bytes.py" "$avant" "$tool" "$kernel" "$work/initrd.img" --least "$least"

"$avant" run --kernel "$kernel" --initrd "$work/initrd.img" --timeout 200 --append \
	'console=ttyS0 quiet panic=-1 avant.run="cat /proc/kallsyms"' </dev/null |
	tr -d '\r' | sed -n 's/^\(ffffffff8[0-9a-f]*\) [tTwW] \([^ ]*\)$/\1 \2/p' | sort -u >"$work/guest"
"$tool" kernel "$kernel" symbols | grep '^ffffffff8' | sort -u >"$work/found"
[ "$(wc -l <"$work/guest")" -gt 10000 ]
if ! cmp -s "$work/guest" "$work/found"; then
	echo "symbols differ:"
	diff "$work/guest" "$work/found" | head -n 20
	exit 1
fi
