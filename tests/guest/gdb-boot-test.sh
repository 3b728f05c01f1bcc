#!/bin/sh
# Debugs a Debian kernel while it boots: gdb-boot-test.sh AVANT. Finds addresses in the guest's own /proc/kallsyms, then
# boots again with gdb: breakpoints, a step, registers, memory, and on to the power-off.
# Exit status 77 (skipped) without gdb, or if the kernel can neither be found nor fetched.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
avant=$1
command -v gdb >/dev/null || exit 77
kernel=$(sh "$here/fetch-kernel.sh" linux-image-cloud-amd64) || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sh "$here/mkinitrd.sh" -o "$work/initrd.img"

boot() {
	command=$1
	shift
	"$avant" run --kernel "$kernel" --initrd "$work/initrd.img" --timeout 200 "$@" \
		--append "console=ttyS0 panic=-1 nokaslr avant.run=\"$command\"" </dev/null
}

boot "grep -E ' (kernel_init|__x64_sys_execve|linux_banner)\$' /proc/kallsyms" >"$work/symbols"
address() {
	tr -d '\r' <"$work/symbols" | sed -n "s/^\(ffffffff[0-9a-f]*\) [a-zA-Z] $1\$/\1/p"
}
for name in kernel_init __x64_sys_execve linux_banner; do
	[ -n "$(address $name)" ] || { echo "no address of $name"; cat "$work/symbols"; exit 1; }
done

: >"$work/messages" # the process in the background may be late to make it
boot "echo sum=\$((6*7))" --gdb :0 >"$work/console" 2>"$work/messages" &
avant_pid=$!
port=
for _ in $(seq 100); do
	port=$(sed -n 's/^avant: waiting for gdb at .*:\([0-9]*\)$/\1/p' "$work/messages")
	[ -z "$port" ] || break
	sleep 0.1
done
[ -n "$port" ] || { echo "avant does not wait for gdb"; cat "$work/messages"; exit 1; }

cat >"$work/script" <<EOF
set confirm off
set pagination off
set architecture i386:x86-64
target remote :$port
break *0x$(address kernel_init)
break *0x$(address __x64_sys_execve)
continue
printf "first %#lx cpl %d if %d\n", \$rip, \$cpl, (\$eflags >> 9) & 1
x/s 0x$(address linux_banner)
stepi
printf "stepped %d\n", \$rip != 0x$(address kernel_init)
delete 1
continue
printf "second %#lx\n", \$rip
backtrace 2
continue
printf "third %#lx\n", \$rip
delete
continue
EOF
status=0
timeout 200 gdb -nx -batch -x "$work/script" >"$work/gdb" 2>&1 || status=$?
wait "$avant_pid" || status=$?

expect() {
	tr -d '\r' <"$work/$1" | grep -q -- "$2" || { echo "not in the output ($1): $2"; status=1; }
}
expect gdb "^first 0x$(address kernel_init) cpl 0 if 1"
expect gdb 'Linux version 6'
expect gdb '^stepped 1'
expect gdb "^second 0x$(address __x64_sys_execve)"
expect gdb "^third 0x$(address __x64_sys_execve)"
expect gdb 'exited normally'
expect console '^sum=42'
if [ "$status" != 0 ]; then
	cat "$work/gdb" "$work/messages"
	tail -n 20 "$work/console"
	exit 1
fi
