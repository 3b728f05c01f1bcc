#!/bin/sh
# avant translate --reuse, and going on after Ctrl-C: what is kept has the same bytes, guests run right with it, and what does
# not fit is refused or ignored with a reason.
#   translate-reuse-test.sh AVANT GUEST_1 GUEST_2 POKE INTERRUPT
# The guests are two versions of reuse.S; INTERRUPT is interrupt.c as a shared object.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$(readlink -f "$1") first=$(readlink -f "$2") second=$(readlink -f "$3") poke=$(readlink -f "$4")
interrupt=$(readlink -f "$5")
export LC_ALL=C ASAN_OPTIONS=verify_asan_link_order=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
failed=0

fail() {
	echo "FAILED: $*"
	failed=1
}

# run KERNEL OPTION...
run() {
	kernel=$1 status=0
	shift
	"$avant" run --kernel "$kernel" --memory 64M --debug-exit --timeout 20 "$@" </dev/null >output 2>&1 || status=$?
	[ $status = 43 ] || fail "$kernel with $*: exit status $status: $(cat output)"
}

# translate KERNEL OPTION...: all that is said goes to `said`
translate() {
	kernel=$1
	shift
	"$avant" translate --only-recorded --kernel "$kernel" "$@" >said 2>&1 </dev/null
}

# said TEXT: in what was said last
said() {
	grep -q "$1" said || fail "not '$1' but: $(cat said)"
}

# sound CACHE KERNEL: it is what it says, and the guest runs from it alone
sound() {
	"$avant" cache verify --retranslate "$1" >output 2>&1 || fail "$1: $(cat output)"
	run "$2" --engine aot --cache "$1" --stats stats.json
	grep -q '"units_translated": 0,' stats.json || fail "not all of $2 came from $1"
}

run "$first" --record 1.rec
run "$second" --record 2.rec
translate "$first" --profile 1.rec -o 1.tcache || fail "$(cat said)"
translate "$second" --profile 2.rec -o 2.tcache || fail "$(cat said)"
said ' units, 12 of them with lifted loops; 0 left out$'
sound 1.tcache "$first"
units=$(sed -n 's/^2.tcache: \([0-9]*\) units.*/\1/p' said)

# units jump straight into others of their page; where these are others, both are translated
"$avant" cache dump --chunk LINK 1.tcache >output
grep -q 'flags=0x[23]' output || fail "no link is direct: $(cat output)"
run "$second" --engine aot --cache 1.tcache --stats stats.json
! grep -q '"aot_bound": 0,' stats.json || fail 'nothing came from the cache of the other version'

# nothing has changed: everything is kept, also by another number of threads, and the file is the same
for jobs in 1 3; do
	translate "$first" --profile 1.rec --reuse 1.tcache -o again.tcache --jobs $jobs || fail "$(cat said)"
	said "^again.tcache: \\([0-9]*\\) units, \\1 of them kept from '1.tcache', 12 of them with lifted loops; 0 left out$"
	cmp 1.tcache again.tcache || fail 'the same input, another cache'
done

# a loop and other code have changed
translate "$second" --profile 2.rec --reuse 1.tcache -o new.tcache || fail "$(cat said)"
said "^new.tcache: $units units, [1-9][0-9]* of them kept from '1.tcache', 12 of them with lifted loops; 0 left out$"
kept=$(sed -n 's/.* units, \([0-9]*\) of them kept.*/\1/p' said)
sound new.tcache "$second"
python3 "$here/kept-units.py" "$avant" 1.tcache new.tcache 2.tcache "$kept" 10 || fail 'units were not kept as they were'
# … and the other way round, over the gaps that are there now; the result may take the place of what is kept
translate "$first" --profile 1.rec --reuse new.tcache -o new.tcache || fail "$(cat said)"
sound new.tcache "$first"
# without a recording of the first guest's run its units go
translate "$first" --profile 2.rec --reuse 1.tcache -o other.tcache || fail "$(cat said)"
said " units, $kept of them kept"
# what was copied and is to be lifted now is made anew, and the other way round
translate "$first" --profile 1.rec --copy --reuse 1.tcache -o copied.tcache || fail "$(cat said)"
said "kept from '1.tcache', 0 of them with lifted loops"
sound copied.tcache "$first"
translate "$first" --profile 1.rec --reuse copied.tcache -o lifted.tcache || fail "$(cat said)"
said "kept from 'copied.tcache', 12 of them with lifted loops"
sound lifted.tcache "$first"

# --- refused

# refused TEXT OPTION...: exit status 1, the reason in one line on stderr, no file
refused() {
	text=$1 status=0
	shift
	translate "$first" --profile 1.rec -o refused.tcache "$@" || status=$?
	[ $status = 1 ] && [ "$(wc -l <said)" = 1 ] || fail "$*: exit status $status: $(cat said)"
	said "^avant translate: .*$text"
	[ ! -e refused.tcache ] || fail "$*: leaves a file"
}

echo text >text
cp 1.tcache damaged.tcache && "$poke" damaged.tcache CODE 100 a55aa5
cp 1.tcache forged.tcache && "$poke" forged.tcache CELL 0 0000005100000000 seal
cp 1.tcache writable.tcache && chmod 666 writable.tcache
refused "nothing'.*No such file" --reuse nothing
refused "text'" --reuse text
refused "1.rec'.*does not say where" --reuse 1.rec
refused "damaged.tcache'" --reuse damaged.tcache
refused "forged.tcache'.*cold path" --reuse forged.tcache
refused "writable.tcache'" --reuse writable.tcache
refused "1.tcache' was made for --place 0, this is 1" --reuse 1.tcache --place 1
refused "1.tcache' was made with other options: without --counted" --reuse 1.tcache --counted
refused "1.tcache' was made with other options: without --counted" --reuse 1.tcache --counted --exact-flags
refused "1.tcache' was made with other options: without --counted" --reuse 1.tcache --returns-table
translate "$first" --profile 1.rec --counted --returns-table -o counted.tcache || fail "$(cat said)"
refused "counted.tcache' was made with other options: with --counted --returns-table" --reuse counted.tcache
cpu=$("$avant" run --cpu help | sed -n 's/^ *\([a-z0-9-]*\) .*/\1/p' | grep -vx default | head -n 1)
refused "1.tcache'.*guest CPU" --reuse 1.tcache --cpu "$cpu"

# --- interrupted

# interrupt VARIABLE=N OPTION...: status is the exit status
interrupt() {
	at=$1 status=0
	shift
	# shellcheck disable=SC2086 # several variables
	env $at LD_PRELOAD="$interrupt" "$avant" translate --only-recorded --jobs 1 -o x.tcache "$@" >said 2>&1 </dev/null ||
		status=$?
}

# interrupted VARIABLE=N OPTION...: while it lifts; something is left to go on from
interrupted() {
	interrupt "$@"
	[ $status = 1 ] && [ -e x.tcache.partial ] && [ ! -e x.tcache ] || fail "$1: exit status $status: $(cat said)"
	said "interrupted: what is done is in 'x.tcache.partial'; the same command goes on from there$"
	"$avant" cache verify --retranslate x.tcache.partial >output || fail "$1: $(cat output)"
}

# at the first thread nothing is lifted yet but what it begins with; when it has ended all is, and nothing is copied
for at in INTERRUPT_START=1 INTERRUPT_JOIN=1; do
	interrupted $at --kernel "$first" --profile 1.rec
	translate "$first" --profile 1.rec -o x.tcache || fail "$(cat said)"
	said "^avant translate: goes on from 'x.tcache.partial'$"
	said "^x.tcache: .* of them kept from 'x.tcache.partial', 12 of them with lifted loops; 0 left out$"
	[ ! -e x.tcache.partial ] || fail 'the partial cache is still there'
	sound x.tcache "$first"
	rm x.tcache
done
# with --reuse: what was kept is in the partial cache, too
interrupted INTERRUPT_START=1 --kernel "$second" --profile 2.rec --reuse 1.tcache
translate "$second" --profile 2.rec -o x.tcache --reuse 1.tcache || fail "$(cat said)"
# … and what LLVM still finished before it was stopped
now=$(sed -n "s/^x.tcache: $units units, \([0-9]*\) of them kept from 'x.tcache.partial', 12 of them with lifted loops; 0 left out$/\1/p" said)
[ "${now:-0}" -ge "$kept" ] || fail "less was kept than $kept: $(cat said)"
sound x.tcache "$second"
rm x.tcache
# of two that fit, the one that has more: nothing has been done yet, or all that LLVM does
interrupted INTERRUPT_START=1 --kernel "$first" --profile 1.rec
translate "$first" --profile 1.rec -o x.tcache --reuse 1.tcache || fail "$(cat said)"
said " of them kept from '1.tcache'"
cmp 1.tcache x.tcache || fail 'the same input, another cache'
[ ! -e x.tcache.partial ] || fail 'the partial cache is still there'
rm x.tcache
# a second signal ends it at once: nothing is left
interrupt 'INTERRUPT_JOIN=1 INTERRUPT_AT=3 INTERRUPT_LATE=1' --kernel "$first" --profile 1.rec
[ $status = 1 ] || fail "two signals: exit status $status: $(cat said)"
said '^avant translate: interrupted$'
[ ! -e x.tcache ] && [ ! -e x.tcache.partial ] || fail 'two signals leave a file'
interrupted INTERRUPT_JOIN=1 --kernel "$first" --profile 1.rec
# one that does not fit is ignored, with a reason, and stays
translate "$first" --profile 1.rec -o x.tcache --place 1 || fail "$(cat said)"
said "^avant: warning: .*'x.tcache.partial' was made for --place 0, this is 1$"
[ -e x.tcache.partial ] || fail "what does not fit was removed"
echo text >x.tcache.partial
translate "$first" --profile 1.rec -o x.tcache || fail "$(cat said)"
said "^avant: warning: .*'x.tcache.partial'"
cmp 1.tcache x.tcache || fail 'what is ignored has changed the result'
exit $failed
