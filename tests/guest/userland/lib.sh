# What the sets share; begins each of them. Lines that begin with "RESULT " are what must be the same on the host and in the
# guest; lines with "TIME " tell how long a part took. /job/files holds what the test fetched, $1 is the address of this host.

ulimit -c 0
ulimit -S -n 1024 # tests look at it
mkdir -p /tmp/work
cd /tmp/work || exit 1
host_address=$1

now() {
	date +%s.%N
}

# result NAME VALUE
result() {
	printf 'RESULT %s: %s\n' "$1" "$2"
}

# check NAME COMMAND...: its exit status; the end of its output if it fails
check() {
	check_name=$1
	shift
	check_begin=$(now)
	"$@" >/tmp/check.out 2>&1
	check_status=$?
	[ $check_status = 0 ] || tail -n 20 /tmp/check.out | sed 's/^/# /'
	result "$check_name" "exit $check_status"
	echo "TIME $check_name $(echo "$(now) - $check_begin" | bc)"
}

# output NAME COMMAND...: its exit status and the sum of its output
output() {
	output_name=$1
	shift
	check "$output_name" "$@"
	result "$output_name output" "$(md5sum </tmp/check.out | cut -c 1-12)"
}

# text_and_noise FILE BYTES: words, and a third of noise; the same every time
text_and_noise() {
	python3 - "$1" "$2" <<'PYTHON'
import random, sys
r = random.Random(7)
words = [bytes(r.choices(b"abcdefghijklmnopqrstuvwxyz", k=r.randint(2, 9))) for _ in range(5000)]
left = int(sys.argv[2])
with open(sys.argv[1], "wb") as f:
    while left > 0:
        piece = r.randbytes(60000) if r.random() < 0.3 else b" ".join(r.choices(words, k=20000))
        f.write(piece[:left])
        left -= len(piece)
PYTHON
}
