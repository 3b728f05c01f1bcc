# In the guest of console-test.py: console.sh STEP. What it says goes to the serial port.
case $1 in
size)
	# the terminal that hvc0 is connected to, before and after its size has changed; Linux tells only those who have it open
	exec 3<>/dev/hvc0
	echo "SIZE $(stty size </dev/hvc0)"
	for _ in $(seq 300); do
		[ "$(stty size </dev/hvc0)" = "30 100" ] && break
		sleep 0.1
	done
	echo "SIZE $(stty size </dev/hvc0)"
	echo 'hello from hvc0' >/dev/hvc0
	read -r line </dev/hvc0
	echo "LINE $line"
	# the power button: an event of a key (1), KEY_POWER (116)
	echo 'WAITS FOR THE BUTTON'
	dd if=/dev/input/event0 bs=24 count=1 2>/dev/null | od -An -tu2 -j16 -N4
	;;
bulk)
	exec 3<>/dev/hvc0 # who closes it last resets its modes
	stty raw -echo <&3
	stty raw </dev/ttyS0
	cat /data >&3
	head -c 300000 <&3 >/tmp/received
	head -c 400000 /data >/dev/ttyS0
	stty -raw </dev/ttyS0
	echo "RECEIVED $(md5sum </tmp/received)"
	;;
esac
