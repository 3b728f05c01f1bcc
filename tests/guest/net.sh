# The guest's side of net-test.py, run by init's shell:
#   net.sh full PORT SHA256 DNS SINK-PORT PORT6   DNS: 1 if there is a resolver
#   net.sh restricted PORT
# PORT, PORT6: of an HTTP server, the latter with IPv6 (0: none); what comes to SINK-PORT is answered with its SHA-256.
# Prints "NET name ok" for what worked, "NET name FAILED" for what did not.
mode=$1
port=$2
address=10.0.2.2

report() { # NAME STATUS
	if [ "$2" = 0 ]; then echo "NET $1 ok"; else echo "NET $1 FAILED"; fi
}

load() {
	for module in $(cat /lib/modules.list); do
		insmod "$module" || return 1
	done
}

cat >/tmp/dhcp.sh <<'END'
#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr flush dev "$interface"
ip addr add "$ip/$subnet" dev "$interface"
[ -z "$router" ] || ip route add default via "$router"
[ -z "$dns" ] || echo "nameserver $dns" >/etc/resolv.conf
echo "NET dhcp-hostname $hostname"
END
chmod +x /tmp/dhcp.sh

up() {
	ip link set lo up && ip link set eth0 up &&
		udhcpc -q -n -i eth0 -O hostname -s /tmp/dhcp.sh >/tmp/udhcpc 2>&1
}

load
report load $?
up
report dhcp $?
grep hostname /tmp/udhcpc
ip addr show dev eth0

if [ "$mode" = restricted ]; then
	ping -c 1 -w 5 $address >/dev/null
	report ping $?
	! nc -w 5 $address "$port" </dev/null
	report closed $?
	mkdir /tmp/www
	echo inside >/tmp/www/file
	httpd -p 8080 -h /tmp/www
	echo 'NET serving'
	# the other side says when it has seen it
	while [ ! -e /tmp/www/cgi-bin ] && ! grep -q done /tmp/www/file; do
		read -r line
		echo "$line" >/tmp/www/file
	done
	exit 0
fi

ping -c 5 -i 0.2 -w 20 $address | tail -n 1
ping -c 3 -w 20 -s 4000 $address >/dev/null # longer than the MTU: fragments
report ping $?

if [ "$4" = 1 ]; then
	nslookup -type=a guest-test.example | tee /tmp/nslookup | grep -q '192\.0\.2\.77'
	report dns $?
fi

wget -q -O /tmp/big "http://$address:$port/big"
report get $?
[ "$(sha256sum </tmp/big)" = "$3  -" ]
report get-sum $?
[ "$(nc $address "$5" </tmp/big)" = "$3" ]
report put $?

# router advertisements; nothing of the host's IPv6 is needed
for i in 1 2 3 4 5 6 7 8 9 10; do
	ip -6 addr show dev eth0 | grep -q 'inet6 fec0:.*scope site' && ! ip -6 addr show dev eth0 | grep -q tentative && break
	sleep 1
done
ping6 -c 3 -w 20 fec0::2 >/dev/null
report ping6 $?
if [ "$6" != 0 ]; then
	wget -q -O /tmp/big6 "http://[fec0::2]:$6/big" && cmp /tmp/big /tmp/big6
	report get6 $?
	rm -f /tmp/big6
fi

# the driver goes and comes back
ip link set eth0 down && rmmod virtio_net && insmod /lib/virtio_net.ko && up
report reload $?
mac=$(cat /sys/class/net/eth0/address)
for new in 02:00:00:00:00:77 "$mac"; do
	ip link set eth0 down && ip link set eth0 address "$new" && up && ping -c 1 -w 5 $address >/dev/null
	report "mac-$new" $?
done

mkdir /tmp/www
mv /tmp/big /tmp/www/big
httpd -p 8080 -h /tmp/www
echo 'NET serving'
# the other side takes the file, then ends the network
while [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; do sleep 0.1; done
echo 'NET link-down ok'
# what is sent now goes nowhere; the guest goes on
ping -c 2 -w 2 -W 1 $address >/dev/null
[ "$(sha256sum </tmp/www/big)" = "$3  -" ]
report survives $?
