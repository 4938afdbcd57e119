#!/usr/bin/env bash
# Makes the disks that bench/main.ts measures on, in the folder $CORPUS; one that is there already is left alone.
#
#   A1.img   6 GiB, GPT, ext4 with inline_data: a Debian system, 300 MB that do not compress, a 200 MB database,
#            2,000 files small enough for their inodes, a log. About 2.8 GB in use.
#   A2.img   6 GiB: a second machine. The same system files on a fresh ext4, written in another order, and 200 MB of
#            its own.
#   A1b.img  A1 one day later: 2 % of the system's files replaced, some data new, some gone, database pages rewritten.
#   N1.img   4 GiB, GPT, NTFS: 1 GB of the same files and 20,000 files small enough for their MFT records.
#
# Only the versions of the Debian packages vary; everything else comes from seeds.
# Needs root, loop devices, a Debian mirror (MIRROR=..., else debootstrap's own), 12 GB of space, some minutes, and
# the packages debootstrap e2fsprogs ntfs-3g fdisk mount util-linux openssl python3.
#
# Usage: CORPUS=/some/folder bench/make-corpus.sh [A1 A2 A1b N1]
set -euo pipefail
: "${CORPUS:?set CORPUS to the folder for the disks}"
[ "$(id -u)" -eq 0 ] || { echo 'make-corpus: run as root (loop devices, debootstrap)' >&2; exit 1; }
PATH=$PATH:/usr/sbin:/sbin
SYSTEM_PACKAGES='python3 python3-dev gcc g++ perl vim git cmake gdb clang curl emacs-nox golang-go mariadb-server'
TYPE_LINUX=0FC63DAF-8483-4772-8E79-3D69D8477DE4
TYPE_WINDOWS=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7
mkdir -p "$CORPUS"
cd "$CORPUS"

device='' mount_point=$CORPUS/.mounted
leave() {
  mountpoint -q "$mount_point" && umount "$mount_point"
  [ -n "$device" ] && losetup -d "$device"
  rm -f ./*.part
  return 0
}
trap leave EXIT

# The AES keystream of a seed: bytes that no compressor shortens, the same every time.
noise() { # SEED BYTES
  { openssl enc -aes-128-ctr -nosalt -K "$(printf '%032x' "$1")" -iv 0 -in /dev/zero 2>/dev/null || true; } | head -c "$2"
}

noise_files() { # FOLDER PREFIX COUNT FIRST_SEED: 10 MB each
  mkdir -p "$1"
  for number in $(seq "$3"); do noise $(($4 + number)) 10000000 >"$1/$2$number.bin"; done
}

# Partitions are addressed by their offset, so this works where the kernel does not scan partition tables.
attach() { device=$(losetup --find --show --offset $((2048 * 512)) "$@"); }
detach() {
  sync
  umount "$mount_point"
  losetup -d "$device"
  device=''
}

new_disk() { # FILE SIZE TYPE GUID
  rm -f "$1"
  truncate -s "$2" "$1"
  printf 'label: gpt\nlabel-id: %s\nstart=2048, type=%s\n' "$4" "$3" | sfdisk --quiet "$1"
  local sectors
  sectors=$(sfdisk --json "$1" | python3 -c 'import json,sys; print(json.load(sys.stdin)["partitiontable"]["partitions"][0]["size"])')
  attach --sizelimit $((sectors * 512)) "$1"
  mkdir -p "$mount_point"
}

new_ext4() { # FILE LABEL GUID UUID
  new_disk "$1" 6G "$TYPE_LINUX" "$3"
  mkfs.ext4 -q -b 4096 -O inline_data -U "$4" -L "$2" "$device"
  mount "$device" "$mount_point"
}

debian_system() {
  [ -e system/.complete ] && return
  rm -rf system
  echo 'Installing a Debian system into system/ (log: system.log) ...'
  debootstrap --variant=minbase "${SUITE:-bookworm}" system ${MIRROR:+"$MIRROR"} >system.log 2>&1
  printf '#!/bin/sh\nexit 101\n' >system/usr/sbin/policy-rc.d # no daemon may start in there
  chmod 755 system/usr/sbin/policy-rc.d
  cp /etc/resolv.conf system/etc/resolv.conf
  mount -t proc proc system/proc
  # shellcheck disable=SC2086
  chroot system env DEBIAN_FRONTEND=noninteractive LC_ALL=C \
    apt-get install -y -q --no-install-recommends $SYSTEM_PACKAGES >>system.log 2>&1 || {
    umount system/proc
    return 1
  }
  umount system/proc
  rm -rf system/var/cache/apt/archives/*.deb system/dev
  mkdir system/dev
  touch system/.complete
}

make_A1() {
  new_ext4 A1.img.part A1 A1A1A1A1-0000-4000-8000-000000000001 a1a1a1a1-0000-4000-8000-0000000000a1
  cp -a system/. "$mount_point/"
  noise_files "$mount_point/srv/random" r 30 100
  python3 - "$mount_point" <<'PYTHON'
import os, random, sys
top, source = sys.argv[1], random.Random(1)
for folder in ('srv/db', 'srv/tiny', 'var/log'):
    os.makedirs(f'{top}/{folder}', exist_ok=True)
with open(f'{top}/srv/db/data.db', 'wb') as database:       # pages half noise, half text
    for page in range(51200):
        database.write(source.randbytes(2048) + (b'row %010d;' % page * 200)[:2048])
for number in range(2000):
    with open(f'{top}/srv/tiny/t{number}', 'w') as tiny:
        tiny.write(f'tiny file {number}\n' * (1 + number % 5))
with open(f'{top}/var/log/app.log', 'w') as log:
    for event in range(1, 40001):
        log.write(f'2024-01-01T00:00:00 host app[{event}]: event number {event} handled in {event * 7 % 997} ms\n')
PYTHON
  detach
}

make_A2() {
  new_ext4 A2.img.part A2 A2A2A2A2-0000-4000-8000-000000000002 a2a2a2a2-0000-4000-8000-0000000000a2
  noise_files "$mount_point/srv/random2" q 20 500
  # The same files in another order lie elsewhere on the disk.
  (cd system && find . -xdev -mindepth 1 -print0) | python3 -c '
import random, sys
paths = sorted(path for path in sys.stdin.buffer.read().split(b"\0") if path)
random.Random(42).shuffle(paths)
sys.stdout.buffer.write(b"\0".join(paths) + b"\0")' >order.part
  tar -C system --null --no-recursion -cf - -T order.part | tar -C "$mount_point" -xpf -
  detach
}

make_A1b() {
  cp --sparse=always A1.img A1b.img.part
  attach A1b.img.part
  mkdir -p "$mount_point"
  mount "$device" "$mount_point"
  python3 - "$mount_point" <<'PYTHON'
import os, random, sys
top, source = sys.argv[1], random.Random(7)
paths = []
for folder in ('usr', 'etc', 'var/lib', 'opt', 'bin', 'lib', 'sbin'):
    start = os.path.join(top, folder)
    if os.path.islink(start):
        continue
    for parent, _, names in os.walk(start):
        paths += [path for path in (os.path.join(parent, name) for name in names)
                  if os.path.isfile(path) and not os.path.islink(path)]
paths.sort()
for path in source.sample(paths, len(paths) * 2 // 100):    # as an upgrade does: a new file, renamed over the old
    mode, data = os.stat(path).st_mode & 0o7777, bytearray(open(path, 'rb').read())
    for _ in range(3 if len(data) > 64 else 0):
        at = source.randrange(len(data) - 32)
        data[at:at + 16] = source.randbytes(16)
    with open(path + '.dpkg-new', 'wb') as new:
        new.write(data + b'updated\n')
    os.chmod(path + '.dpkg-new', mode)
    os.rename(path + '.dpkg-new', path)
database = os.open(f'{top}/srv/db/data.db', os.O_RDWR)
for page in source.sample(range(51200), 2000):              # in place
    os.pwrite(database, source.randbytes(2048) + (b'row %010d+' % page * 200)[:2048], page * 4096)
os.fsync(database)
os.close(database)
with open(f'{top}/var/log/app.log', 'a') as log:
    for event in range(40000, 60000):
        log.write(f'2024-01-02T00:00:00 host app[{event}]: event number {event} handled in {event * 7 % 997} ms\n')
PYTHON
  rm -f "$mount_point"/srv/random/r{1,2,3,4,5}.bin
  noise_files "$mount_point/srv/new" n 10 900
  { tar -C "$mount_point/usr/share" -cf - --sort=name doc perl cmake-3.25 2>/dev/null || true; } |
    head -c 50000000 >"$mount_point/srv/new/docs.tar"
  detach
}

make_N1() {
  new_disk N1.img.part 4G "$TYPE_WINDOWS" B1B1B1B1-0000-4000-8000-000000000003
  mkntfs -q -Q -L N1 -c 4096 "$device" 2>/dev/null
  ntfs-3g "$device" "$mount_point"
  mkdir -p "$mount_point/Windows" "$mount_point/Users/tiny"
  (cd system && find usr -xdev -type f -size +0 -print0) | python3 -c '
import os, random, sys
paths = sorted(path for path in sys.stdin.buffer.read().split(b"\0") if path and not set(b"\\:*?\"<>|") & set(path))
random.Random(3).shuffle(paths)
seen, total, chosen = set(), 0, []
for path in paths:                  # names that differ in case only are one name there
    if path.lower() in seen:
        continue
    seen.add(path.lower())
    chosen.append(path)
    total += os.path.getsize(b"system/" + path)
    if total > 1000000000:
        break
sys.stdout.buffer.write(b"\0".join(chosen) + b"\0")' >order.part
  tar -C system --null -cf - -T order.part |
    tar -C "$mount_point/Windows" -xf - --no-same-owner --no-same-permissions
  python3 - "$mount_point" <<'PYTHON'
import os, random, sys
source = random.Random(11)
for folder in range(20):
    os.makedirs(f'{sys.argv[1]}/Users/tiny/d{folder}', exist_ok=True)
    for number in range(1000):
        with open(f'{sys.argv[1]}/Users/tiny/d{folder}/f{number}.ini', 'wb') as tiny:
            tiny.write(source.randbytes(source.randrange(1, 650)))
PYTHON
  detach
}

for disk in ${*:-A1 A2 A1b N1}; do
  [ -e "$disk.img" ] && continue
  debian_system
  echo "Making $CORPUS/$disk.img ..."
  "make_$disk"
  mv "$disk.img.part" "$disk.img"
done
rmdir "$mount_point" 2>/dev/null || true
ls -ls --block-size=M ./*.img
