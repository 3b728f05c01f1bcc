# In the guest of time-test.py: tells its clocks when asked, then what its kernel complained about.
stty -echo
echo 1 >/proc/sys/kernel/watchdog_thresh # a processor that is stuck for 2 s is complained about
while :; do
	:
done &
chmod 755 /clocks
/clocks
dmesg >/dmesg
grep -iE 'lockup|stall|unstable|hung' /dmesg
echo DMESG-ENDS
