#!/bin/sh
# The first program of a guest: brings up devices, disk and network, and hands the console to the test.
/bin/busybox --install -s /bin
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t securityfs securityfs /sys/kernel/security
exec </dev/null >/dev/ttyS0 2>&1
for module in /lib/modules/*; do insmod "$module"; done
ip link set lo up
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
# Owners and modes are not kept by this file system, and nobody else is here.
mount -t vfat -o quiet,umask=077 /dev/vda1 /mnt
mount -o bind /mnt/agent /var/lib/plastron-agent
until set -- /dev/vport*p1 && [ -c "$1" ]; do sleep 0.1; done
# A line that is not connected yet ends at once.
while :; do sh <>"$1" >&0; done
