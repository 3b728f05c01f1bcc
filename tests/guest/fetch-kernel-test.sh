#!/bin/sh
# Tests fetch-kernel.sh on a repository of its own: apt-cache and apt-get are stand-ins. Exit status 77: no dpkg-deb.
set -eu

here=$(dirname "$(readlink -f "$0")")
command -v dpkg-deb >/dev/null || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
export REPOSITORY="$work/repository" AVANT_GUESTS="$work/guests"
mkdir "$REPOSITORY" "$work/bin"
PATH=$work/bin:$PATH

fail() {
	echo "fetch-kernel-test.sh: $*" >&2
	exit 1
}

# package NAME DEPENDS [FILE]: in version 1, with FILE in it
package() {
	root=$work/root
	rm -rf "$root"
	mkdir -p "$root/DEBIAN"
	printf 'Package: %s\nVersion: 1\nArchitecture: all\nMaintainer: nobody\n%sDescription: x\n' "$1" "${2:+Depends: $2
}" >"$root/DEBIAN/control"
	cp "$root/DEBIAN/control" "$REPOSITORY/$1"
	[ -z "${3:-}" ] || { mkdir -p "$root/${3%/*}"; echo "$1" >"$root/$3"; }
	dpkg-deb --root-owner-group -b "$root" "$REPOSITORY/$1.deb" >/dev/null
}

cat >"$work/bin/apt-cache" <<'END'
#!/bin/sh
for name; do :; done
cat "$REPOSITORY/$name" 2>/dev/null || exit 100
END
cat >"$work/bin/apt-get" <<'END'
#!/bin/sh
case " $* " in
*" download "*) ;;
*) exit 0 ;;
esac
for name; do :; done
cp "$REPOSITORY/$name.deb" .
END
chmod 755 "$work/bin/apt-cache" "$work/bin/apt-get"

package linux-image-6.12.9-amd64 'kmod, initramfs-tools (>= 0.120) | linux-initramfs-tool' boot/vmlinuz-6.12.9-amd64
package linux-image-6.12.9-other-amd64 '' boot/vmlinuz-6.12.9-other-amd64
package linux-image-6.12-amd64 'linux-image-6.12.9-amd64 (= 1)'
package linux-image-amd64 'linux-base, linux-image-6.12-amd64 (= 1)'
package linux-image-either 'linux-image-6.12.9-other-amd64 (= 1) | linux-image-6.12.9-amd64'
package linux-image-none 'linux-base'
package linux-image-6.12.9-empty '' boot/config-6.12.9-empty
package linux-image-6.1-loop 'linux-image-6.1-loop'

expect() {
	found=$(sh "$here/fetch-kernel.sh" "$1") || fail "$1 was not found"
	[ "$found" = "$AVANT_GUESTS/$2_1/boot/vmlinuz-${2#linux-image-}" ] || fail "$1 led to $found"
	[ "$(cat "$found")" = "$2" ] || fail "$found is not what was packed"
}

refuse() {
	said=$(sh "$here/fetch-kernel.sh" "$1" 2>&1) && fail "$1 was taken: $said"
	case $said in
	*"$2"*) ;;
	*) fail "of $1 was said: $said" ;;
	esac
}

for _ in fetched known; do
	expect linux-image-6.12.9-amd64 linux-image-6.12.9-amd64
	expect linux-image-6.12-amd64 linux-image-6.12.9-amd64
	expect linux-image-amd64 linux-image-6.12.9-amd64
	expect linux-image-either linux-image-6.12.9-other-amd64
done
refuse linux-image-none "'linux-image-none' does not depend on a kernel"
refuse linux-image-6.12.9-empty 'linux-image-6.12.9-empty holds no vmlinuz'
refuse linux-image-6.1-loop 'cannot unpack /boot of linux-image-6.1-loop'
refuse linux-image-unheard-of "no package 'linux-image-unheard-of' is known"

# A folder that an earlier version left: the metapackage itself, said to be complete.
mkdir "$AVANT_GUESTS/old"
touch "$AVANT_GUESTS/old/complete"
ln -sfn old "$AVANT_GUESTS/linux-image-6.12-amd64"
expect linux-image-6.12-amd64 linux-image-6.12.9-amd64
[ -z "$(find "$AVANT_GUESTS" -name '.fetch.*')" ] || fail "temporary files are left"
