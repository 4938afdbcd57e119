#!/bin/bash
# The first process of a User-Mode Linux kernel, whose root is this machine's, read-only. On the second partition of its
# disk it makes a volume group, fills file systems in it, and writes what it holds to the folder $IMAGER_OUT of the host.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DM_DISABLE_UDEV=1 LVM_SUPPRESS_FD_WARNINGS=1
mount -t proc proc /proc
trap 'sync; echo o > /proc/sysrq-trigger; sleep 10' EXIT
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mkdir -p /run/out /run/m /run/lock
mount -t hostfs -o "$IMAGER_OUT" none /run/out || exit
exec > /run/out/log 2>&1
set -ex
for module in dm-mod dm-bufio dm-snapshot; do
  insmod "/usr/lib/uml/modules/$(uname -r)/kernel/drivers/md/$module.ko"
done
quiet=(--quiet --config 'backup { backup = 0 archive = 0 }')
pvcreate "${quiet[@]}" -y /dev/ubda2
vgcreate "${quiet[@]}" -s 1M office /dev/ubda2
create() { lvcreate "${quiet[@]}" -y -Zn -Wn "$@" office; }
create -l 24 -n root
create -l 16 -n home
lvextend "${quiet[@]}" -l +20 office/root
create -l 2 -n swap
lvextend "${quiet[@]}" -l +14 office/home
lvextend "${quiet[@]}" -l +2 office/swap
mkfs.ext4 -q -b 1024 /dev/office/root
mkfs.ext4 -q /dev/office/home
mkswap -q /dev/office/swap
for name in root home; do
  mount "/dev/office/$name" /run/m
  mkdir /run/m/docs
  cp -r /usr/share/common-licenses /run/m/docs
  for number in 1 2 3; do head -c $((number * 3000017)) /dev/urandom > "/run/m/docs/large-$number"; done
  rm /run/m/docs/large-1
  head -c 7000003 /dev/urandom > /run/m/last
  umount /run/m
done
lvcreate "${quiet[@]}" -y -s -l 8 -n before office/home
mount /dev/office/home /run/m
head -c 2000000 /dev/urandom > /run/m/after
umount /run/m
for name in root home; do
  mount -o ro "/dev/office/$name" /run/m
  mkdir "/run/out/$name"
  find /run/m -type f -printf '%P\0' | (cd /run/m && xargs -0 cp --parents -t "/run/out/$name")
  umount /run/m
done
dmsetup table > /run/out/table
vgchange "${quiet[@]}" -an office
sync
touch /run/out/done
