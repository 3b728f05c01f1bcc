#!/bin/sh
# Runs a small guest on every engine, and from caches that were made from a recorded run of it:
#   run-guest.sh AVANT GUEST STATUS [SECONDS [OPTION...]]
# STATUS is the exit status that it must end with (43: it passed), SECONDS the time limit of each run (default 20), OPTION
# what each run gets besides; "@DISK@" in it is a file of 64 KiB.
set -u

avant=$1 guest=$2 want=$3 seconds=${4:-20}
shift $(($# > 4 ? 4 : $#))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
truncate -s 64K "$work/disk"
extra=$(printf '%s ' "$@" | sed "s|@DISK@|$work/disk|g")

# run OPTION...
run() {
	status=0
	# the outer limit is for a VMM that does not obey its own
	# shellcheck disable=SC2086 # options are words
	timeout -s KILL $((${seconds%.*} + 15)) "$avant" run --kernel "$guest" --memory 64M --debug-exit \
		--timeout "$seconds" $extra "$@" </dev/null >"$work/output" 2>&1 || status=$?
	[ "$status" = "$want" ] && return
	echo "$(basename "$guest") with $*: status $status, not $want"
	tail -n 5 "$work/output"
	failed=1
}

# translate NAME OPTION...
translate() {
	name=$1
	shift
	"$avant" translate --kernel "$guest" --output "$work/$name.tcache" --only-recorded "$@" >"$work/output" 2>&1 &&
		"$avant" cache verify --retranslate "$work/$name.tcache" >>"$work/output" 2>&1 && return
	echo "translating $(basename "$guest") with $*:"
	cat "$work/output"
	failed=1
}

# The guest's code must have come from the cache, and --count must account for every instruction.
check_figures() {
	python3 - "$1" <<'END' || failed=1
import json, sys
stats = json.load(open(sys.argv[1]))
if not stats["aot_bound"]:
    sys.exit("nothing was bound: " + str(stats))
counts = stats.get("guest_instructions")
if counts:
    total = counts.pop("total")
    parts = sum(part["kernel"] + part["user"] for part in counts.values())
    if parts != total:
        sys.exit(f"{parts} instructions by origin, {total} altogether: {counts}")
END
}

run --engine interp
for options in '--returns host' '--returns table' '--code-cache 2M'; do
	# shellcheck disable=SC2086 # options are words
	run --engine live $options
done

run --record "$work/host.rec"
run --record "$work/table.rec" --returns table
translate host --profile "$work/host.rec"
translate counted --profile "$work/host.rec" --counted
translate table --profile "$work/table.rec" --returns-table
# the same at another place: the cache that is named first serves, the jump targets of both are numbered
translate second --profile "$work/host.rec" --place 1
run --engine aot --cache "$work/host.tcache" --stats "$work/host.json"
check_figures "$work/host.json"
run --engine aot --cache "$work/host.tcache" --code-cache 2M
run --engine aot --cache "$work/table.tcache" --returns table
run --engine aot --cache "$work/counted.tcache" --count --stats "$work/counted.json"
check_figures "$work/counted.json"
run --engine aot --cache "$work/counted.tcache" --count --code-cache 2M
run --engine aot --cache "$work/host.tcache" --cache "$work/second.tcache"
exit $failed
