# The guest's side of share-test.sh. Ends with "SHARE-TEST-PASSED" if all of it was right.

fail() {
	echo "SHARE-TEST-FAILED: $*"
	exit 1
}

mount_share() { # TAG DIRECTORY OPTIONS
	mount -t 9p -o "trans=virtio,version=9p2000.L,$3" "$1" "$2" || fail "mount with $3"
}

tree_is() { # DIRECTORY
	(cd "$1" && find . -type f -exec md5sum {} + | sort) >/tmp/md5
	cmp -s /tmp/md5 /in.md5
}

# From the share, into memory, and back.
copy_both_ways() { # CACHE
	rm -rf /tmp/copy
	cp -a /mnt/in /tmp/copy || fail "copying out with cache=$1"
	tree_is /tmp/copy || fail "what was copied out with cache=$1"
	cp -a /tmp/copy "/mnt/copy-$1" || fail "copying in with cache=$1"
	tree_is "/mnt/copy-$1" || fail "what was copied in with cache=$1"
	cp -a "/mnt/copy-$1" /mnt/again && rm -rf /mnt/again || fail "copying within and removing with cache=$1"
	[ ! -e /mnt/again ] || fail "rm -rf with cache=$1"
}

# Links lead to the guest's own files, if anywhere.
no_way_out() {
	for link in out-relative out-absolute; do
		! cat "/mnt/$link" 2>/dev/null || fail "there is a way out by $link"
	done
	[ "$(cat /mnt/out-proc/proc/sys/kernel/hostname)" = guest ] || fail 'out-proc is not the guest'
	[ "$(ls -di /mnt/.. | cut -d' ' -f1)" = "$(ls -di / | cut -d' ' -f1)" ] || fail '..'
	! mkdir /mnt/out-relative 2>/dev/null || fail 'made a directory where a link is'
	if (: >/mnt/out-absolute) 2>/dev/null; then
		fail 'wrote through a link'
	fi
}

checks() { # CACHE
	mkdir -p /mnt/scratch
	chmod 755 /mnt /mnt/scratch
	/share_check /mnt/scratch semantics || fail "semantics with cache=$1"
	mapping=mmap
	# without a cache mappings cannot be shared in Linux 6.1, and private ones are stale in 6.12, with any server
	[ "$1" != none ] || mapping=
	for seed in 1 2 3; do
		# shellcheck disable=SC2086
		/share_check /mnt/scratch io $seed 1500 $mapping || fail "random I/O with cache=$1, seed $seed"
	done
	rmdir /mnt/scratch || fail "something was left with cache=$1"
}

# What a version control system does: many small files, renamed into place, directories in between, all read again.
many_small_files() { # CACHE
	mkdir /mnt/objects
	for directory in 0 1 2 3 4 5 6 7; do
		mkdir /mnt/objects/$directory
		for file in $(seq 100); do
			echo "$directory $file" >/mnt/objects/tmp-$file
			mv /mnt/objects/tmp-$file /mnt/objects/$directory/$file || fail "mv with cache=$1"
		done
	done
	[ "$(cat /mnt/objects/*/* | wc -l)" = 800 ] || fail "small files with cache=$1"
	grep -qx '5 77' /mnt/objects/5/77 || fail "contents of a small file with cache=$1"
	find /mnt/objects -type f -name '*7' | xargs rm
	[ "$(find /mnt/objects -type f | wc -l)" = 720 ] || fail "small files removed with cache=$1"
	rm -r /mnt/objects || fail "rm -r with cache=$1"
}

# A program and its libraries straight from the share: pages are mapped.
run_from_share() { # CACHE
	cp /share_check /bin/busybox /mnt
	[ "$(/mnt/busybox echo hello)" = hello ] || fail "running a program with cache=$1"
	mkdir /mnt/scratch
	/mnt/share_check /mnt/scratch io 9 200 >/dev/null || fail "running another with cache=$1"
	rm -r /mnt/busybox /mnt/share_check /mnt/scratch
}

# No size is too small or too large.
message_sizes() {
	for msize in 4096 8192 65536 512000; do
		mount_share work /mnt "cache=none,msize=$msize"
		cmp /mnt/in/large /tmp/copy/large || fail "reading with msize=$msize"
		cp /tmp/copy/large /mnt/large && cmp /mnt/large /tmp/copy/large || fail "writing with msize=$msize"
		dd if=/tmp/copy/large of=/mnt/large bs=300001 2>/dev/null
		dd if=/mnt/large bs=77777 2>/dev/null | cmp - /tmp/copy/large || fail "odd sizes with msize=$msize"
		rm /mnt/large
		umount /mnt
	done
}

read_only() {
	mount_share fixed /mnt cache=none,msize=512000
	tree_is /mnt || fail 'the tree that is read only'
	for command in 'touch /mnt/new' 'rm /mnt/nothing' 'mkdir /mnt/new' 'mv /mnt/nothing /mnt/new' 'chmod 777 /mnt/nothing' \
		'ln -s x /mnt/new' 'ln /mnt/nothing /mnt/new' 'rmdir /mnt/empty' 'mkfifo /mnt/new' 'touch /mnt/nothing'; do
		! $command 2>/dev/null || fail "read only: $command"
	done
	if (echo x >>/mnt/nothing) 2>/dev/null; then
		fail 'read only: append'
	fi
	umount /mnt
}

mkdir -p /mnt
for cache in none loose mmap; do
	mount_share work /mnt "cache=$cache,msize=512000"
	no_way_out
	copy_both_ways $cache
	checks $cache
	many_small_files $cache
	run_from_share $cache
	umount /mnt || fail umount
done
message_sizes
read_only
rmmod 9pnet_virtio && insmod /lib/modules/9pnet_virtio.ko || fail 'loading the driver again'
mount_share work /mnt cache=none,msize=512000
cmp /mnt/in/large /tmp/copy/large || fail 'reading after that'
umount /mnt
dmesg | grep -v 'ommand line:' | grep -iE '9p|virtio' | grep -iE 'error|fail|warn|bug|unable' && fail 'complaints in dmesg'
echo SHARE-TEST-PASSED
