#!/bin/sh
# From a fresh Debian 12 or 13 to a guest that starts from translated code: installs, builds, fetches Debian's cloud
# kernel, builds an initramfs, checks the host, records a run, translates it, compares launches, looks into the cache.
# As root, or as a user with sudo. All files are left in $BUILD (default: build), the kernel in fetch-kernel.sh's folder.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$top/build}
jobs=$(nproc)
launches=3

step() {
	printf '\n==> %s\n' "$*"
}

step "Installing what is needed to build"
sh "$top/tools/install-packages.sh" build guest

step "Building in $build"
cmake -S "$top" -B "$build" -DAVANT_TESTS=OFF
cmake --build "$build" -j "$jobs"
build=$(cd "$build" && pwd)
avant=$build/avant
initrd=$build/initrd.img
recording=$build/debian.rec
cache=$build/debian.tcache

step "Fetching a kernel and building an initramfs"
kernel=$(sh "$top/tests/guest/fetch-kernel.sh" linux-image-cloud-amd64)
sh "$top/tests/guest/mkinitrd.sh" -o "$initrd"
echo "$kernel"
echo "$initrd"

step "avant check"
"$avant" check

# launch OPTION...: boots to a shell, runs a command there, powers off
launch() {
	"$avant" run --kernel "$kernel" --initrd "$initrd" --timeout 120 "$@" \
		--append 'console=ttyS0 quiet panic=-1 avant.run="uname -a; cat /proc/uptime"' </dev/null
}

step "Recording a run: what the guest executes"
launch --record "$recording"

step "Translating what was executed"
"$avant" translate --kernel "$kernel" --initrd "$initrd" --profile "$recording" --output "$cache"

# timed NAME OPTION...: notes in NAME.times how many milliseconds the launch took up to the shell
timed() {
	name=$1
	shift
	launch --mark AVANT-SHELL-READY --stats "$build/$name.json" "$@" >"$build/$name.console"
	sed -n 's/.*"mark_ms": \([0-9.]*\),.*/\1/p' "$build/$name.json" | tee -a "$build/$name.times" |
		sed "s/.*/$name: & ms/"
}

median() {
	sort -n "$build/$1.times" | sed -n "$(((launches + 1) / 2))p"
}

step "Launching $launches times without and with the cache, by turns, up to the shell"
rm -f "$build/live.times" "$build/cache.times"
for _ in $(seq "$launches"); do
	timed live
	timed cache --engine aot --cache "$cache"
done
echo "$(median live) $(median cache)" |
	awk '{ printf "median: %.0f ms without, %.0f ms with the cache: %.2f times as fast\n", $1, $2, $1 / $2 }'

step "What is in the cache"
"$avant" cache verify "$cache"
"$avant" cache info "$cache"
"$avant" cache list --sort executions --limit 10 "$cache"
hottest=$("$avant" cache list --sort executions --limit 1 "$cache" | awk 'NR == 2 { print $1 }')
echo
"$avant" cache disasm "$cache" "$hottest"

step "Done. For a shell in the guest (its end powers off; Ctrl-A X quits at once):"
echo "$avant run --kernel $kernel --initrd $initrd --append console=ttyS0 --memory 512M --cache $cache"
