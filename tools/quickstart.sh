#!/bin/sh
# From a fresh Debian 12 or 13 to a running guest: installs, builds, fetches Debian's cloud kernel, builds an initramfs,
# checks the host, runs a command in the guest and powers it off.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$top/build}
jobs=$(nproc)

step() {
	printf '\n==> %s\n' "$*"
}

step "Installing what is needed to build"
sh "$top/tools/install-packages.sh" build guest

step "Building in $build"
cmake -S "$top" -B "$build" -DAVANT_TESTS=OFF
cmake --build "$build" -j "$jobs"

step "Fetching a kernel and building an initramfs"
kernel=$(sh "$top/tests/guest/fetch-kernel.sh" linux-image-cloud-amd64)
initrd=$build/initrd.img
sh "$top/tests/guest/mkinitrd.sh" -o "$initrd"
echo "$kernel"
echo "$initrd"

step "avant check"
"$build/avant" check

step "Running a command in the guest"
"$build/avant" run --kernel "$kernel" --initrd "$initrd" --timeout 120 \
	--append 'console=ttyS0 quiet panic=-1 avant.run="uname -a; cat /proc/uptime"' </dev/null

step "Done. For a shell in the guest:"
echo "$build/avant run --kernel $kernel --initrd $initrd --append console=ttyS0"
