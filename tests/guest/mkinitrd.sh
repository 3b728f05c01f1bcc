#!/bin/sh
# Builds a busybox initramfs (cpio newc, gzip). The same input gives the same file.
set -eu

usage() {
	cat <<END
Usage: mkinitrd.sh [OPTION]... -o FILE
  -o FILE         where to write the initramfs
  --add PROGRAM   add a program of this host with the libraries it needs (repeatable)
  --file SRC:DST  add a file of this host as DST (repeatable)
  --module FILE   add a kernel module, to be loaded before anything else (repeatable; modules.py finds them)
  --init PROGRAM  run this static program as init instead of the busybox script
  --busybox FILE  the static busybox (default: from the PATH or \$BUSYBOX)

In the guest, the kernel command line says what happens:
  avant.run="COMMAND"  run COMMAND by sh, print "AVANT-STATUS n", power off
  avant.run=WORD       the same for a command without spaces
  (nothing)            a shell with job control on the console; its end powers off
Either comes after the line AVANT-SHELL-READY.
END
}

fail() {
	echo "mkinitrd.sh: $*" >&2
	exit 1
}

output=
init=
busybox=${BUSYBOX:-$(command -v busybox || true)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
root=$work/root
umask 022
mkdir -p "$root/bin" "$root/dev" "$root/etc" "$root/proc" "$root/root" "$root/run" "$root/sys" "$root/tmp"

add_file() { # SRC DST
	[ -f "$1" ] || fail "no file '$1'"
	mkdir -p "$root/$(dirname "$2")"
	cp -L "$1" "$root/$2"
}

add_program() {
	program=$(command -v "$1") || fail "no program '$1'"
	add_file "$program" "/usr/bin/${program##*/}"
	# "name => path (address)", or "path (address)" for the loader; a static program has none
	ldd "$program" 2>/dev/null | sed -n 's/.*=> *\(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\).*/\1/p' |
		while read -r library; do
			add_file "$library" "$library"
		done
}

add_module() {
	name=$(basename "$1" .xz)
	mkdir -p "$root/lib/modules"
	case $1 in
	*.xz) xz -dc "$1" >"$root/lib/modules/$name" ;;
	*) cp "$1" "$root/lib/modules/$name" ;;
	esac
	echo "$name" >>"$root/lib/modules/order"
}

while [ $# -gt 0 ]; do
	case $1 in
	--help) usage; exit 0 ;;
	-o | --add | --file | --module | --init | --busybox)
		[ $# -ge 2 ] || { usage >&2; exit 2; }
		case $1 in
		-o) output=$2 ;;
		--add) add_program "$2" ;;
		--file) add_file "${2%%:*}" "${2#*:}" ;;
		--module) add_module "$2" ;;
		--init) init=$2 ;;
		--busybox) busybox=$2 ;;
		esac
		shift 2
		;;
	*) usage >&2; exit 2 ;;
	esac
done
[ -n "$output" ] || { usage >&2; exit 2; }
[ -n "$busybox" ] || fail "busybox is not installed (package busybox-static)"
if ldd "$busybox" >/dev/null 2>&1; then
	fail "'$busybox' is not static (package busybox-static)"
fi

add_file "$busybox" /bin/busybox
chmod 755 "$root/bin/busybox"
"$busybox" --list | while read -r applet; do
	[ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
for directory in sbin usr/sbin; do
	mkdir -p "$root/${directory%/*}"
	[ -e "$root/$directory" ] || ln -s /bin "$root/$directory"
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"

if [ -n "$init" ]; then
	add_file "$init" /init
else
	cat >"$root/init" <<'END'
#!/bin/sh
export PATH=/usr/bin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
hostname guest
if [ -f /lib/modules/order ]; then
	while read -r module; do
		insmod "/lib/modules/$module"
	done </lib/modules/order
fi
cd /root
read -r options </proc/cmdline
case $options in
*avant.run=\"*) run=${options#*avant.run=\"} run=${run%%\"*} ;;
*avant.run=*) run=${options#*avant.run=} run=${run%% *} ;;
*) run= ;;
esac
echo AVANT-SHELL-READY
if [ -n "$run" ]; then
	sh -c "$run"
	echo "AVANT-STATUS $?"
else
	setsid cttyhack sh -l
fi
poweroff -f
END
fi
chmod 755 "$root/init"

# Names in one order, all times alike, root as owner, no timestamp in gzip.
find "$root" -exec touch -h -d @0 {} +
directory=$(dirname "$output")
temporary=$(mktemp "$directory/.mkinitrd.XXXXXX")
trap 'rm -rf "$work" "$temporary"' EXIT
(cd "$root" && find . | LC_ALL=C sort | cpio --quiet --reproducible -o -H newc -R 0:0) >"$work/cpio"
gzip -9n <"$work/cpio" >"$temporary"
chmod 644 "$temporary"
mv "$temporary" "$output"
