#!/bin/sh
# Runs a small guest with caches that are damaged, or forged with digests that are right:
#   bad-cache-test.sh AVANT POKE GUEST
set -u

avant=$1 poke=$2 guest=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cache=$work/x.tcache
failed=0

# run OPTION...
run() {
	status=0
	timeout -s KILL 30 "$avant" run --kernel "$guest" --memory 64M --debug-exit --timeout 20 "$@" </dev/null \
		>"$work/output" 2>&1 || status=$?
}

fail() {
	echo "FAILED: $*: status $status"
	tail -n 5 "$work/output"
	failed=1
}

# change CHUNK OFFSET HEX [seal]
change() {
	cp "$work/good.tcache" "$cache"
	"$poke" "$cache" "$@" || exit 1
}

run --record "$work/run.rec"
[ $status = 43 ] || fail 'recording'
"$avant" translate --kernel "$guest" --profile "$work/run.rec" --only-recorded --output "$work/good.tcache" \
	>"$work/output" || exit 1
run --engine aot --cache "$work/good.tcache"
[ $status = 43 ] || fail 'the good cache'

# Damage that is found when a unit is wanted: the guest does not notice.
for chunk in CODE PCTB ENTR INSN; do
	change $chunk 0 a55aa5
	run --engine aot --cache "$cache"
	[ $status = 43 ] || fail "$chunk damaged"
done
# … or when the cache is opened: one warning, and the guest does not notice either.
for chunk in UNIT BYCO LINK CELL TRGT PLAC; do
	change $chunk 0 a55aa55aa5
	run --cache "$cache"
	[ $status = 43 ] && [ "$(grep -c warning "$work/output")" = 1 ] || fail "$chunk damaged"
	run --engine aot --cache "$cache"
	[ $status = 1 ] || fail "$chunk damaged, --engine aot"
done

# forged CHUNK OFFSET HEX REASON: refused
forged() {
	change "$1" "$2" "$3" seal
	run --engine aot --cache "$cache"
	[ $status = 1 ] && grep -q "x.tcache.*$4" "$work/output" || fail "$1 forged, not refused because '$4'"
}

forged BYCO 0 ffffffff 'a unit that it does not have'
forged BYCO 4 ffffff7f 'a unit that it does not have'
forged PLAC 24 ff000000 'another size'
forged PLAC 28 00000000 'more jump targets than there are'
forged PLAC 28 ffff0100 'more jump targets than there are'
forged PLAC 32 01000000 'like live translations'
forged PLAC 0 0000002000000000 'cannot be at'
# of the first unit's record: code_offset and code_length, link_first
forged UNIT 60 ffffffff00000000 'not in the order'
forged UNIT 64 ffffffff 'not in the order'
forged UNIT 88 ffffffff 'not in the order'

# ignored CHUNK OFFSET HEX: what is concerned is translated instead
ignored() {
	change "$1" "$2" "$3" seal
	run --engine aot --cache "$cache"
	[ $status = 43 ] || fail "$1 forged at $2"
}

# of the first unit's record: flags, guest_length, instruction_count, body_offset, pcs, entries, link_count, insns,
# saved_offset, mode_mask
for offset in 36 40 44 68 72 76 80 84 92 96 100 104 112; do
	ignored UNIT $offset ffffffff
done
ignored PCTB 0 ffffffff
ignored ENTR 0 ffffffff
ignored LINK 4 ffffffff
ignored CELL 0 0000005100000000

# an instruction that is none, where one is executed
change INSN 0 "$(printf '%0480d' 0)" seal
run --engine aot --cache "$cache"
[ $status = 1 ] && grep -q "instruction .* of cache '.*x.tcache' is none" "$work/output" || fail 'no instructions'
exit $failed
