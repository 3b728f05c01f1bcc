#!/bin/sh
# Makes a disk image with Debian on it: systemd, a kernel, networking, ssh, a login on the serial console.
# Works without root (mmdebstrap uses user namespaces then), without loop devices and without mounting anything.
set -eu

usage() {
	cat <<END
Usage: mkimage.sh [OPTION]... FILE
Makes FILE, a disk image with Debian on it, from the Debian mirror that this host's apt uses.

  --suite NAME           bookworm or trixie (default: bookworm)
  --size SIZE            of the disk, as 1G or 1500M (default: 2G); the file is sparse
  --partition            a GPT with one partition (default: the file system fills the disk)
  --include LIST         packages to install as well, separated by commas (repeatable)
  --kernel PACKAGE       kernel package (default: linux-image-cloud-amd64)
  --append WORDS         more words for the kernel's command line (default: quiet)
  --hostname NAME        (default: debian)
  --root-password WORD   (default: none is needed on the console; ssh takes no empty one)
  --ssh-key FILE         public keys that may log in as root (repeatable)
  --mirror URL           mirror to use instead
  --extract-boot PREFIX  write the kernel and its initramfs to PREFIX.vmlinuz and PREFIX.initrd as well

Without root, files lose their capabilities (setcap); nothing in the image needs them.
Programs needed: mmdebstrap, mke2fs (1.47 or later), sfdisk for --partition; without root also fakeroot and newuidmap.
'sh tools/install-packages.sh image' installs them.
END
}

fail() {
	echo "mkimage.sh: $*" >&2
	exit 1
}

suite=bookworm
size=2G
partition=no
include=
kernel=linux-image-cloud-amd64
append=quiet
hostname=debian
password=
keys=
mirror=
extract=
image=
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
chmod 755 "$work" # mmdebstrap's own user looks in here

while [ $# -gt 0 ]; do
	case $1 in
	--help) usage; exit 0 ;;
	--partition) partition=yes; shift; continue ;;
	--*) [ $# -ge 2 ] || { usage >&2; exit 2; } ;;
	esac
	case $1 in
	--suite) suite=$2 ;;
	--size) size=$2 ;;
	--include) include=$include,$2 ;;
	--kernel) kernel=$2 ;;
	--append) append=$2 ;;
	--hostname) hostname=$2 ;;
	--root-password) password=$2 ;;
	--ssh-key)
		[ -r "$2" ] || fail "cannot read '$2'"
		cat "$2" >>"$work/authorized_keys"
		keys=yes
		;;
	--mirror) mirror=$2 ;;
	--extract-boot) extract=$2 ;;
	-*) usage >&2; exit 2 ;;
	*)
		[ -z "$image" ] || { usage >&2; exit 2; }
		image=$1
		shift
		continue
		;;
	esac
	shift 2
done
[ -n "$image" ] || { usage >&2; exit 2; }

case $suite in
bookworm | trixie) ;;
*) fail "suite '$suite' is neither bookworm nor trixie" ;;
esac
case $hostname in
'' | *[!A-Za-z0-9.-]*) fail "'$hostname' is no host name" ;;
esac
number=${size%[MG]}
case $number in
'' | *[!0-9]* | ??????*) fail "'$size' is no size such as 1500M or 2G" ;;
esac
case $size in
*G) mib=$((number * 1024)) ;;
*M) mib=$number ;;
*) fail "'$size' is no size such as 1500M or 2G" ;;
esac
[ "$mib" -ge 700 ] || fail "'$size' is too small for Debian (700M)"

PATH=$PATH:/usr/sbin:/sbin
programs="mmdebstrap mke2fs tar"
[ "$partition" = no ] || programs="$programs sfdisk"
[ "$(id -u)" = 0 ] || programs="$programs fakeroot newuidmap"
for program in $programs; do
	command -v "$program" >/dev/null || fail "no program '$program' (see --help)"
done

# The mirrors of Debian and of its security updates that apt is set up with: "label|URL" lines.
apt_mirror() { # LABEL DEFAULT
	found=$(apt-get indextargets --format '$(LABEL)|$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null |
		sed -n "s/^$1|//p" | head -n 1)
	found=${found:-$2}
	echo "${found%/}"
}
if [ -n "$mirror" ]; then
	security=
else
	mirror=$(apt_mirror Debian http://deb.debian.org/debian)
	security=$(apt_mirror Debian-Security http://deb.debian.org/debian-security)
fi
{
	echo "deb $mirror $suite main"
	echo "deb $mirror $suite-updates main"
	[ -z "$security" ] || echo "deb $security $suite-security main"
} >"$work/sources.list"

# How this host's apt reaches its mirror (proxies; snapshots, whose lists are out of date) holds for making the image alone.
apt-config dump Acquire |
	grep -iE '^Acquire::(Check-Valid-Until|Check-Date|https?::(Proxy|CAInfo|Verify))' >"$work/apt.conf" || true

uuid=$(cat /proc/sys/kernel/random/uuid)
files=$work/files
mkdir -p "$files/etc/systemd/network" "$files/etc/initramfs-tools/conf.d" "$files/etc/u-boot-menu/conf.d" \
	"$files/etc/default" "$files/root"
echo "$hostname" >"$files/etc/hostname"
cat >"$files/etc/hosts" <<END
127.0.0.1	localhost
127.0.1.1	$hostname
::1		localhost ip6-localhost ip6-loopback
END
cat >"$files/etc/fstab" <<END
UUID=$uuid	/	ext4	errors=remount-ro	0	1
END
cat >"$files/etc/systemd/network/ethernet.network" <<END
[Match]
Type=ether

[Network]
DHCP=yes
END
echo LANG=C.UTF-8 >"$files/etc/default/locale"
# Made here and not at first boot: all boots of an image do the same, also those whose writes are dropped.
tr -d - </proc/sys/kernel/random/uuid >"$files/etc/machine-id"
# The initramfs checks the root, which nobody can look at here.
echo FSTYPE=ext4 >"$files/etc/initramfs-tools/conf.d/root"
# Read by u-boot-update, which writes /boot/extlinux/extlinux.conf, here and whenever a kernel comes or goes.
cat >"$files/etc/u-boot-menu/conf.d/image.conf" <<END
U_BOOT_ROOT="root=UUID=$uuid"
U_BOOT_PARAMETERS="ro $append console=ttyS0"
U_BOOT_TIMEOUT=1
END
if [ -n "$keys" ]; then
	mkdir -m 700 "$files/root/.ssh"
	cp "$work/authorized_keys" "$files/root/.ssh/authorized_keys"
	chmod 600 "$files/root/.ssh/authorized_keys"
fi
chmod 700 "$files/root"
tar -C "$files" --owner=root:0 --group=root:0 -cf "$work/files.tar" .

# Runs in the new system. The password comes from a file, since commands can be seen by every user of the host.
cat >"$work/finish" <<'END'
set -eu
export LC_ALL=C.UTF-8
password=$(cat /tmp/password)
if [ -n "$password" ]; then
	printf 'root:%s\n' "$password" | chpasswd
else
	passwd -q -d root
fi
rm -f /tmp/password
systemctl -q enable systemd-networkd
ln -sfn ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
u-boot-update
END
printf '%s' "$password" >"$work/password"
chmod 644 "$work"/finish "$work"/password "$work"/files.tar

packages=systemd-sysv,udev,dbus,libpam-systemd,systemd-resolved,kmod,initramfs-tools,zstd,u-boot-menu,$kernel,e2fsprogs
packages=$packages,openssh-server,ca-certificates,iproute2,iputils-ping,netbase,procps,less,vim-tiny$include

# The files go in twice: the kernel's own scripts read some of them, and packages change others.
export LC_ALL=C.UTF-8
mmdebstrap --variant=minbase --include="$packages" --aptopt="$work/apt.conf" \
	--essential-hook="tar-in $work/files.tar /" \
	--customize-hook="tar-in $work/files.tar /" \
	--customize-hook="upload $work/password /tmp/password" \
	--customize-hook="upload $work/finish /tmp/finish" \
	--customize-hook='chroot "$1" sh /tmp/finish' \
	--customize-hook='rm "$1/tmp/finish" "$1/etc/apt/apt.conf.d/99mmdebstrap"' \
	--customize-hook="download /vmlinuz $work/vmlinuz" \
	--customize-hook="download /initrd.img $work/initrd" \
	--skip=cleanup/reproducible --format=tar "$suite" "$work/root.tar" "$work/sources.list"

start_mib=0
if [ "$partition" = yes ]; then
	start_mib=1
fi
temporary=$(mktemp "$(dirname "$image")/.mkimage.XXXXXX")
trap 'rm -rf "$work" "$temporary"' EXIT
truncate -s "${mib}M" "$temporary"
if [ "$partition" = yes ]; then
	# 4f68…: root of an x86-64 system. A GPT keeps its copy in the last sectors: one MiB for them.
	echo "start=1MiB, size=$((mib - 2))MiB, type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709, name=root" |
		sfdisk -q --label gpt "$temporary"
fi

# One root for both commands: under fakeroot it is what the first leaves behind that tells the second who owns what.
# Device nodes are left out: a kernel makes its own (devtmpfs). Inode tables are written here, not at first mount.
cat >"$work/pack" <<'END'
set -euf
mkdir "$1/root"
tar -xf "$1/root.tar" -C "$1/root" --exclude='./dev/*' --numeric-owner $6 # a list of options
rm "$1/root.tar"
mke2fs -q -F -t ext4 -L root -U "$3" -E "offset=$4,lazy_itable_init=0,lazy_journal_init=0" -d "$1/root" "$2" "$5"
rm -rf "$1/root"
END
# File capabilities (Debian's ping has one, and does without) are lost on fakeroot.
if [ "$(id -u)" = 0 ]; then
	as_root=
	attributes='--xattrs --xattrs-include=*'
else
	as_root=fakeroot
	attributes=
fi
$as_root sh "$work/pack" "$work" "$temporary" "$uuid" $((start_mib * 1048576)) $(((mib - 2 * start_mib) * 1024))k \
	"$attributes"

# For its owner alone, as mktemp has made it: host keys and password hashes are in it.
mv "$temporary" "$image"
if [ -n "$extract" ]; then
	cp "$work/vmlinuz" "$extract.vmlinuz"
	cp "$work/initrd" "$extract.initrd"
fi
