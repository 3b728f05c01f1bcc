#!/bin/sh
# Records a boot, translates it, boots from the cache; then with caches that are damaged, stale or not to be trusted:
#   cache-test.sh AVANT
# Runs are on the instruction clock, so that the console must be the same, byte for byte. Exit status 77 (skipped) if no
# kernel can be found or fetched.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$1
kernel=$(sh "$here/fetch-kernel.sh" linux-image-cloud-amd64) || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sh "$here/mkinitrd.sh" -o "$work/initrd.img"
failed=0

fail() {
	echo "FAILED: $*"
	failed=1
}

boot() {
	"$avant" run --kernel "$kernel" --initrd "$work/initrd.img" --timeout 100 \
		--append 'console=ttyS0 quiet panic=-1 avant.run="cat /proc/cpuinfo; ls /"' "$@" </dev/null
}

# boot_repeatable NAME OPTION...: console in NAME.out, messages in NAME.err
boot_repeatable() {
	name=$1
	shift
	boot --clock instructions "$@" >"$work/$name.out" 2>"$work/$name.err" || fail "$name: exit status $?"
}

translate() {
	"$avant" translate --kernel "$kernel" "$@" >"$work/translate.out" || fail "translate $*"
}

number() {
	sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p" "$work/$2"
}

boot --record "$work/boot.rec" --stats "$work/record.json" >"$work/record.out"
translate --profile "$work/boot.rec" --output "$work/plain.tcache"
translate --profile "$work/boot.rec" --counted --output "$work/counted.tcache"
translate --profile "$work/boot.rec" --counted --output "$work/again.tcache"
cmp "$work/counted.tcache" "$work/again.tcache" || fail "two translations of the same input differ"
"$avant" cache verify --retranslate "$work/plain.tcache" "$work/counted.tcache" >"$work/verify.out" || fail "cache verify: $(cat "$work/verify.out")"

# the ordinary launch
boot --engine aot --cache "$work/plain.tcache" --stats "$work/aot.json" >"$work/aot.out" || fail "boot from the cache"
grep -q '^AVANT-STATUS 0' "$work/aot.out" || fail "the command in the guest"
live=$(number live_translate_cpu_ms record.json) left=$(number live_translate_cpu_ms aot.json)
echo "live translation: $live ms without, $left ms with the cache"
awk "BEGIN { exit !($left * 10 <= $live) }" || fail "live translation takes more than a tenth"

# the same guest whoever makes its code
boot_repeatable live
boot_repeatable aot --engine aot --cache "$work/counted.tcache" --count --stats "$work/count.json"
cmp "$work/live.out" "$work/aot.out" || fail "the console differs from that of live translation"
python3 - "$work/count.json" <<'END' || fail "less than 90 % of the instructions came from the cache"
import json, sys
counts = json.load(open(sys.argv[1]))["guest_instructions"]
total = counts.pop("total")
parts = {name: part["kernel"] + part["user"] for name, part in counts.items()}
print("executed:", {name: f"{100 * n / total:.2f} %" for name, n in parts.items()})
assert sum(parts.values()) == total
sys.exit((parts["aot_lifted"] + parts["aot_copied"]) < 0.9 * total)
END

# a cache that keeps what an older one has: of what was recorded alone, then with what is found besides, then back
translate --profile "$work/boot.rec" --counted --only-recorded --copy --output "$work/small.tcache"
translate --profile "$work/boot.rec" --counted --reuse "$work/small.tcache" --output "$work/large.tcache"
grep -Eq ' [1-9][0-9]* of them kept from .*small.tcache' "$work/translate.out" || fail "nothing was kept: $(cat "$work/translate.out")"
translate --profile "$work/boot.rec" --counted --only-recorded --reuse "$work/large.tcache" --output "$work/reused.tcache"
grep -Eq ' ([0-9]*) units, \1 of them kept from .*large.tcache' "$work/translate.out" || fail "not all was kept: $(cat "$work/translate.out")"
"$avant" cache verify --retranslate "$work/large.tcache" "$work/reused.tcache" >"$work/verify.out" || fail "cache verify: $(cat "$work/verify.out")"
for name in large reused; do
	boot_repeatable $name --engine aot --cache "$work/$name.tcache"
	cmp "$work/live.out" "$work/$name.out" || fail "the console differs from that of live translation"
done

# refused NAME REASON: boots with NAME.tcache, which must cost one warning that names file and reason, and nothing else
refused() {
	boot_repeatable "$1" --cache "$work/$1.tcache"
	cmp "$work/live.out" "$work/$1.out" || fail "$1: the console differs"
	[ "$(grep -c warning "$work/$1.err")" = 1 ] || fail "$1: not one warning: $(cat "$work/$1.err")"
	grep -q "$1.tcache.*$2" "$work/$1.err" || fail "$1: the warning does not say '$2': $(cat "$work/$1.err")"
	if boot --engine aot --clock instructions --cache "$work/$1.tcache" >/dev/null 2>&1; then
		fail "$1: --engine aot takes it"
	fi
}

# poke FILE OFFSET BYTE: overwrites one byte
poke() {
	printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}

head -c 1000000 "$work/counted.tcache" >"$work/truncated.tcache"
refused truncated 'bytes'
cp "$work/counted.tcache" "$work/header.tcache"
poke "$work/header.tcache" 100 '\377'
refused header 'malformed text'
cp "$work/counted.tcache" "$work/version.tcache"
poke "$work/version.tcache" 8 '\377'
refused version version
cp "$work/plain.tcache" "$work/options.tcache"
refused options options
cp "$work/counted.tcache" "$work/writable.tcache"
chmod 666 "$work/writable.tcache"
refused writable 'writ'
if [ "$(id -u)" = 0 ]; then
	cp "$work/counted.tcache" "$work/foreign.tcache"
	chown 12345 "$work/foreign.tcache"
	refused foreign belongs
	boot_repeatable trusted --engine aot --trust-cache --cache "$work/foreign.tcache"
	cmp "$work/live.out" "$work/trusted.out" || fail "--trust-cache: the console differs"
	grep -q "whoever owns them" "$work/trusted.err" || fail "--trust-cache does not say so"
fi
cp "$work/boot.rec" "$work/recording.tcache"
refused recording 'made with other options'

# a good cache, but another kernel's: used where code is the same, and said so
other=$(sh "$here/fetch-kernel.sh" linux-image-amd64) && {
	"$avant" run --kernel "$other" --initrd "$work/initrd.img" --timeout 100 --clock instructions \
		--append 'console=ttyS0 quiet panic=-1 avant.run="uname -r"' </dev/null >"$work/other-live.out"
	"$avant" run --kernel "$other" --initrd "$work/initrd.img" --timeout 100 --clock instructions \
		--append 'console=ttyS0 quiet panic=-1 avant.run="uname -r"' --cache "$work/counted.tcache" \
		</dev/null >"$work/swapped.out" 2>"$work/swapped.err" || fail "swapped: exit status $?"
	cmp "$work/other-live.out" "$work/swapped.out" || fail "swapped: the console differs"
	[ "$(grep -c warning "$work/swapped.err")" = 1 ] && grep -q "counted.tcache.*another kernel" "$work/swapped.err" ||
		fail "swapped: not one warning: $(cat "$work/swapped.err")"
}

# damage that is only found when a unit is wanted: it is translated instead
cp "$work/counted.tcache" "$work/damaged.tcache"
size=$(stat -c %s "$work/damaged.tcache")
for n in 1 2 3 4 5 6 7 8; do
	poke "$work/damaged.tcache" $((size / 3 + n * size / 30)) '\245\132'
done
if "$avant" cache verify "$work/damaged.tcache" >/dev/null 2>&1; then
	fail "cache verify finds nothing wrong with a damaged file"
fi
boot_repeatable damaged --cache "$work/damaged.tcache"
cmp "$work/live.out" "$work/damaged.out" || fail "damaged: the console differs"
[ "$(grep -c warning "$work/damaged.err")" = 1 ] && grep -q "damaged.tcache" "$work/damaged.err" ||
	fail "damaged: not one warning: $(cat "$work/damaged.err")"

# a cache does not depend on the amount of memory
boot_repeatable memory --cache "$work/counted.tcache" --cpu default --memory 256M
grep -q '^AVANT-STATUS 0' "$work/memory.out" || fail "another amount of memory"
exit $failed
