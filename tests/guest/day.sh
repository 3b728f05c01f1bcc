#!/bin/sh
# What a user does with a machine, inside the guest: day.sh SLEEP. Prints what day-test.sh compares or looks for.
# The same functions run on the host, where day-test.sh sources this file with `day` set to `host`.

# 100 MB that no shell needs long to make
hundred_megabytes() {
	seq 1 200000 | head -c 1000000 >"$1.part"
	for _ in $(seq 100); do
		cat "$1.part"
	done >"$1"
	rm "$1.part"
}

check() { # NAME COMMAND...
	name=$1
	shift
	if "$@"; then
		echo "DAY $name ok"
	else
		echo "DAY $name FAILED"
	fi
}

gzip_round_trip() {
	head -c 5000000 data >plain
	gzip <plain >packed && [ "$(wc -c <packed)" -lt 2500000 ] && gunzip <packed | cmp - plain
}

dd_copies() {
	dd if=data of=copy bs=64k count=160 2>dd.log && grep -q '^160+0 records out' dd.log &&
		[ "$(wc -c <copy)" = $((160 * 65536)) ] && head -c $((160 * 65536)) data | cmp - copy
}

ps_lists() {
	ps >ps.log && grep -q '^ *1 .*init' ps.log && grep -q 'sh /day.sh' ps.log
}

fork_loop() {
	i=0 sum=0
	while [ $i -lt 2000 ]; do
		(exit $((i % 3))) || sum=$((sum + $?))
		i=$((i + 1))
	done
	[ $sum = 1999 ]
}

# a program of the host's with its C library: is it right, and does it lie somewhere else each time?
dynamic_program() {
	for _ in 1 2 3 4; do
		/usr/bin/cat /proc/self/maps | grep -m 1 'libc\.so'
	done >maps.log
	[ "$(wc -l <maps.log)" = 4 ] && [ "$(sort -u maps.log | wc -l)" -ge 3 ] &&
		[ "$(cat /proc/sys/kernel/randomize_va_space)" = 2 ] && /usr/bin/cat copy | cmp - copy
}

# Each part of what the kernel says must be known to cost nothing that is felt: no page table isolation, no retpolines, no
# clearing of buffers, no untrained returns.
no_costly_mitigation() {
	cat /sys/devices/system/cpu/vulnerabilities/* | tr ';' '\n' | sed 's/^ *//; s/^Mitigation: *//' | sort -u |
		grep -vxE -e 'Not affected|usercopy/swapgs barriers and __user pointer sanitization' \
			-e 'Enhanced / Automatic IBRS|IBPB: conditional|PBRSB-eIBRS: Not affected|BHI: (BHI_DIS_S|Not affected)'
	[ $? = 1 ]
}

no_complaint() {
	dmesg | grep -v 'ommand line:' |
		grep -E 'WARNING|BUG:|Oops|Call Trace|lockup|clocksource.*unstable|TSC.*unstable|rcu.*stall|alg: .* failed|Problem loading'
	[ $? = 1 ]
}

if [ "${day:-guest}" = guest ]; then
	cd /tmp || exit 1
	for n in 1 2; do
		echo "DAY sleep begins"
		sleep "$1"
		echo "DAY sleep ends"
	done
	hundred_megabytes data
	echo "DAY sum $(sha256sum <data)"
	check gzip gzip_round_trip
	check dd dd_copies
	check ps ps_lists
	check fork fork_loop
	check dynamic dynamic_program
	check mitigations no_costly_mitigation
	check dmesg no_complaint
	echo "DAY done"
fi
