#!/usr/bin/env bash
# Makes the file systems of many small files that bench/map.ts measures on, in the folder $CORPUS; one that is there
# already is left alone. Each is an image without a partition table, so that every tool takes it as it is.
#
#   many-ext4-1000000.img   1,000 folders of 1,000 files each, 1 to 4,096 bytes, spread as an unpacked archive leaves them
#   many-ext4-40000.img     40 folders of 1,000 files each; the same on XFS, btrfs and NTFS: many-xfs-40000.img, ...
#
# Needs root, loop devices, FUSE for NTFS, 6 GB of space, some minutes, and the packages e2fsprogs xfsprogs btrfs-progs
# ntfs-3g mount util-linux python3.
#
# Usage: CORPUS=/some/folder bench/make-many.sh [ext4-40000 ext4-1000000 xfs-40000 btrfs-40000 ntfs-40000]
set -euo pipefail
: "${CORPUS:?set CORPUS to the folder for the images}"
[ "$(id -u)" -eq 0 ] || { echo 'make-many: run as root (loop devices)' >&2; exit 1; }
PATH=$PATH:/usr/sbin:/sbin
mkdir -p "$CORPUS"
cd "$CORPUS"

device='' mount_point=$CORPUS/.many
leave() {
  mountpoint -q "$mount_point" && umount "$mount_point"
  [ -n "$device" ] && losetup -d "$device"
  rm -f many-*.part
  return 0
}
trap leave EXIT

make_file_system() { # TYPE FILES
  case $1 in
    ext4) mkfs.ext4 -q -N $(($2 + $2 / 10)) "$device" ;;
    xfs) mkfs.xfs -q "$device" ;;
    btrfs) mkfs.btrfs -q "$device" ;;
    ntfs) mkntfs -q -Q -F "$device" 2>/dev/null ;;
  esac
}

fill() { # FILES
  python3 - "$mount_point" "$1" <<'PYTHON'
import os, random, sys
top, count, source = sys.argv[1], int(sys.argv[2]), random.Random(5)
bytes_of_files = source.randbytes(1 << 20)
for number in range(count):
    folder = f'{top}/folder-{number // 1000:04}'
    if number % 1000 == 0:
        os.mkdir(folder)
    at, length = source.randrange(1 << 19), source.randrange(1, 4097)
    with open(f'{folder}/document-{number:07}.txt', 'wb', buffering=0) as small:
        small.write(bytes_of_files[at:at + length])
PYTHON
}

for image in ${*:-ext4-40000 ext4-1000000 xfs-40000 btrfs-40000 ntfs-40000}; do
  name=many-$image.img type=${image%-*} files=${image#*-}
  [ -e "$name" ] && continue
  echo "Making $CORPUS/$name ..."
  rm -f "$name.part"
  truncate -s $((512 + files * 8 / 1024))M "$name.part"
  device=$(losetup --find --show "$name.part")
  make_file_system "$type" "$files"
  mkdir -p "$mount_point"
  mount -t "${type/ntfs/ntfs-3g}" "$device" "$mount_point"
  fill "$files"
  umount "$mount_point"
  sync "$name.part"
  losetup -d "$device"
  device=''
  mv "$name.part" "$name"
done
rmdir "$mount_point" 2>/dev/null || true
ls -ls --block-size=M many-*.img
