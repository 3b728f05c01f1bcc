#!/bin/sh
# Compiles the benchmark guest and packs its initramfs images. Output is the same for the same input.
#   bench, bench-dynamic   the programs, for native runs
#   bench.cpio.gz          initramfs: bench as /init, bench-dynamic with its loader and C library
#   boot.cpio.gz           initramfs of the boot rows: a shell script (busybox) that prints a marker and powers off
set -eu

usage() {
	cat <<EOF
usage: mkbench.sh [-o DIR] [-c COMPILER] [-b BUSYBOX]
  -o DIR       where to put everything (default: build/bench at the top of the tree)
  -c COMPILER  C compiler (default: gcc)
  -b BUSYBOX   statically linked busybox (default: the one found in PATH)
EOF
}

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
out=$here/../../build/bench
compiler=gcc
busybox=$(command -v busybox || true)
while getopts o:c:b:h option; do
	case $option in
	o) out=$OPTARG ;;
	c) compiler=$OPTARG ;;
	b) busybox=$OPTARG ;;
	h) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
done
for tool in "$compiler" cpio gzip ldd; do
	command -v "$tool" >/dev/null || { echo "mkbench.sh: $tool is needed" >&2; exit 1; }
done
mkdir -p "$out"
out=$(cd "$out" && pwd)
stage=$(mktemp -d "$out/stage.XXXXXX")
trap 'rm -rf "$stage"' EXIT
trap 'exit 1' HUP INT TERM
umask 022

flags="-O2 -std=gnu17 -D_GNU_SOURCE -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla"
# dynamic.c is a program of its own. No -march: the result must run on every x86-64 processor model.
set --
for source in "$here"/guest/*.c; do
	case $source in
	*/dynamic.c) ;;
	*) set -- "$@" "$source" ;;
	esac
done
# shellcheck disable=SC2086
"$compiler" $flags -static -o "$stage/bench" "$@"
# shellcheck disable=SC2086
"$compiler" $flags -fPIE -pie -o "$stage/bench-dynamic" "$here/guest/dynamic.c"
strip --strip-debug "$stage/bench" "$stage/bench-dynamic" # names of functions stay, for functions.py

# pack NAME: the directory $stage/NAME becomes $out/NAME.cpio.gz
pack() {
	find "$stage/$1" -exec touch -h -d @0 {} +
	(cd "$stage/$1" && find . | LC_ALL=C sort | cpio --quiet --reproducible -o -H newc -R 0:0) >"$stage/$1.cpio"
	gzip -n -9 <"$stage/$1.cpio" >"$stage/$1.cpio.gz"
	mv "$stage/$1.cpio.gz" "$out/$1.cpio.gz"
}

root=$stage/bench.dir
mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/tmp"
cp "$stage/bench" "$root/init"
cp "$stage/bench-dynamic" "$root/bench-dynamic"
# Every absolute path that ldd names: libraries after =>, the loader alone.
for library in $(ldd "$stage/bench-dynamic" | tr -s ' \t' '\n\n' | grep '^/'); do
	mkdir -p "$root$(dirname "$library")"
	cp -L "$library" "$root$library"
done

root=$stage/boot.dir
mkdir -p "$root/proc" "$root/dev"
if [ -n "$busybox" ] && ! ldd "$busybox" >/dev/null 2>&1; then
	mkdir "$root/bin"
	cp -L "$busybox" "$root/bin/busybox"
	cat >"$root/init" <<'EOF'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
echo "BOOT shell ready"
/bin/busybox poweroff -f
EOF
	chmod 755 "$root/init"
else
	echo "mkbench.sh: no static busybox: the boot rows use the benchmark program as init instead of a shell" >&2
	cp "$stage/bench" "$root/init"
fi
mv "$stage/bench" "$stage/bench-dynamic" "$out/"
mv "$stage/bench.dir" "$stage/bench"
mv "$stage/boot.dir" "$stage/boot"
pack bench
pack boot
ls -l "$out/bench" "$out/bench-dynamic" "$out/bench.cpio.gz" "$out/boot.cpio.gz"
