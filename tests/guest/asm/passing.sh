# Runs of small guests that must pass; to be sourced, with $avant set. $work is a folder for the test's files.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# run KERNEL OPTION...
run() {
	kernel=$1
	shift
	status=0
	"$avant" run --kernel "$kernel" --memory 64M --debug-exit --timeout 20 "$@" </dev/null || status=$?
	[ $status = 43 ] && return
	echo "$kernel with $*: status $status, not 43"
	exit 1
}

# number FIELD: of what the last run with --stats "$work/stats.json" wrote
number() {
	sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" "$work/stats.json"
}
