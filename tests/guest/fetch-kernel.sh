#!/bin/sh
# Fetches a Debian kernel package by name and prints the path of its vmlinuz.
# Works without root; what was fetched once is found again without the network.
set -eu

usage() {
	cat <<END
Usage: fetch-kernel.sh [--modules] [--update] [PACKAGE]
Prints the path of PACKAGE's vmlinuz (default: linux-image-cloud-amd64).

  --modules  unpack the kernel's modules as well (hundreds of MB)
  --update   look for a newer version even if one is there already

Files go to \$AVANT_GUESTS, default \${XDG_CACHE_HOME:-\$HOME/.cache}/avant/guests.
END
}

modules=no
update=no
package=linux-image-cloud-amd64
for argument; do
	case $argument in
	--modules) modules=yes ;;
	--update) update=yes ;;
	--help) usage; exit 0 ;;
	-*) usage >&2; exit 2 ;;
	*) package=$argument ;;
	esac
done

guests=${AVANT_GUESTS:-${XDG_CACHE_HOME:-$HOME/.cache}/avant/guests}
mkdir -p "$guests"
guests=$(cd "$guests" && pwd)
if [ "$(id -u)" = 0 ]; then
	# apt drops to a user of its own for downloads, who may not write here.
	apt_options='-o APT::Sandbox::User=root'
else
	apt_options=
fi

fail() {
	echo "fetch-kernel.sh: $*" >&2
	exit 1
}

has_vmlinuz() {
	for file in "$1"/boot/vmlinuz-*; do
		[ -f "$file" ] && return
	done
	return 1
}

# The link of a name that was resolved before, if its kernel is complete.
known() {
	[ -e "$guests/$package/complete" ] && has_vmlinuz "$guests/$package" || return 1
	[ "$modules" = no ] || [ -e "$guests/$package/complete-modules" ]
}

print_vmlinuz() {
	for file in "$guests/$package"/boot/vmlinuz-*; do
		[ -f "$file" ] || fail "$package has no vmlinuz"
		readlink -f "$file"
		return
	done
}

# shellcheck disable=SC2086  # a list of options
apt_cache() {
	apt-cache $apt_options "$@"
}

# The machine's package lists if they know the name; else lists of our own, which need no root.
find_lists() {
	if apt_cache show "$package" >/dev/null 2>&1; then
		return
	fi
	state=$guests/.apt
	mkdir -p "$state/lists/partial" "$state/archives/partial"
	apt_options="$apt_options -o Dir::State=$state -o Dir::State::lists=$state/lists -o Dir::Cache=$state"
	apt_options="$apt_options -o Dir::State::status=/var/lib/dpkg/status"
	# shellcheck disable=SC2086
	apt-get $apt_options -qq update >&2
	apt_cache show "$package" >/dev/null 2>&1 || fail "no package '$package' is known"
}

# The kernel that a package depends on, if any: the first of alternatives.
kernel_dependency() {
	apt_cache show --no-all-versions "$1" | sed -n 's/^Depends: *//p;s/^Pre-Depends: *//p' | tr ',' '\n' |
		sed 's/^ *//; s/[ (:[|].*//' | grep '^linux-image-[0-9]' | head -n 1
}

# Metapackages such as linux-image-cloud-amd64 or linux-image-6.12-amd64 depend on the package that holds the kernel, or on
# another metapackage. Their names do not tell which they are: a kernel is what depends on no kernel.
resolve() {
	name=$package
	for _ in 1 2 3 4 5; do
		next=$(kernel_dependency "$name")
		[ -n "$next" ] || break
		name=$next
	done
	case $name in
	linux-image-[0-9]*) echo "$name" ;;
	esac
}

if [ "$update" = no ] && known; then
	print_vmlinuz
	exit 0
fi

find_lists
real=$(resolve)
[ -n "$real" ] || fail "'$package' does not depend on a kernel"
version=$(apt_cache show --no-all-versions "$real" | sed -n 's/^Version: *//p' | head -n 1)
[ -n "$version" ] || fail "no package '$real' is known"
target=$guests/${real}_$version

work=$(mktemp -d "$guests/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP

if [ ! -e "$target/complete" ] || { [ "$modules" = yes ] && [ ! -e "$target/complete-modules" ]; }; then
	# shellcheck disable=SC2086
	(cd "$work" && apt-get $apt_options -q download "$real" >&2)
	mkdir "$work/root"
	if [ "$modules" = yes ]; then
		dpkg-deb -x "$work"/*.deb "$work/root"
		touch "$work/root/complete-modules"
	else
		dpkg-deb --fsys-tarfile "$work"/*.deb | tar -xf - -C "$work/root" ./boot ||
			fail "cannot unpack /boot of $real"
	fi
	has_vmlinuz "$work/root" || fail "$real holds no vmlinuz"
	touch "$work/root/complete"
	chmod 755 "$work/root"
	rm -rf "$target"
	mv "$work/root" "$target"
fi
[ "$package" = "${target##*/}" ] || ln -sfn "${target##*/}" "$guests/$package"
print_vmlinuz
