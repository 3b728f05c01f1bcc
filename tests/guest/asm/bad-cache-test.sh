#!/bin/sh
# Runs a small guest with caches that are damaged, or forged with digests that are right:
#   bad-cache-test.sh AVANT POKE FORGE_LINKS GUEST MOVING_GUEST
# MOVING_GUEST is one whose code has templates.
set -u

avant=$1 poke=$2 forge_links=$3 guest=$4 moving=$5
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

make_good() {
	run --record "$work/run.rec"
	[ $status = 43 ] || fail 'recording'
	"$avant" translate --kernel "$guest" --profile "$work/run.rec" --only-recorded --output "$work/good.tcache" \
		>"$work/output" || exit 1
	run --engine aot --cache "$work/good.tcache" --stats "$work/good.json"
	[ $status = 43 ] || fail 'the good cache'
}

make_good

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

# --- templates

guest=$moving
make_good
grep -Eq '"aot_cloned": *[1-9]' "$work/good.json" || fail 'no template of the good cache was used'
for chunk in TMPL TPAG TMEM TCOD TLNK GOAL FIXU; do
	change $chunk 0 a55aa5
	run --engine aot --cache "$cache"
	[ $status = 43 ] && [ "$(grep -c warning "$work/output")" = 1 ] || fail "$chunk damaged"
done

# Of each record: offset, guest_length, instruction_count, flags, page, code_offset and code_length, body_offset,
# saved_offset, pcs, entries, insns, links, goals, fix-ups, their numbers by kind, guest_offset, mode_mask
size=$("$avant" cache info "$work/good.tcache" | sed -n 's/,//g; s/^ *TMPL *optional *\([0-9]*\) .*/\1/p')
for offset in 40 42 44 46 48 52 56 60 64 68 72 76 80 84 88 92 96 100 104 108 112 114 116 118 120 122 124 126 128 36; do
	cp "$work/good.tcache" "$cache"
	record=0
	while [ $record -lt "$size" ]; do
		"$poke" "$cache" TMPL $((record * 144 + offset)) ffff seal || exit 1
		record=$((record + 1))
	done
	run --engine aot --cache "$cache"
	[ $status = 43 ] || fail "TMPL forged at $offset"
done
for offset in 0 8 16 20; do
	ignored TPAG $offset ffffffff
done
ignored TMEM 0 ffffffff
ignored TLNK 0 ffffffff
ignored TLNK 4 ffffffff
ignored GOAL 0 ffffffff
ignored GOAL 4 ffffffff
ignored GOAL 16 ffffffff
ignored FIXU 0 ffffffff

# more links than a part of a small code cache has room for
"$forge_links" "$work/good.tcache" "$cache" 2000 && "$avant" cache verify "$cache" >"$work/output" || exit 1
for options in '' '--code-cache 2M'; do
	# shellcheck disable=SC2086 # options are words
	run --engine aot --cache "$cache" $options
	[ $status = 43 ] || fail "links forged, $options"
done
exit $failed
