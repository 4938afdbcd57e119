# Runs in the guest (lvm.test.ts): snapshots of logical volumes that are in use. MAIN, WRITER and BUSY are files.
set -Eeuo pipefail
trap '{ echo "FAILED at line $LINENO"; tail -n 2 taken-* killed interrupted overflowed; lvs -a -o lv_name,lv_attr,lv_tags; } >&2 || true' ERR
cd /tmp
imager() { node "$MAIN" "$@"; }
for module in dm-mod dm-snapshot dm-thin-pool loop; do modprobe "$module"; done
pvcreate -qy /dev/ubda > /dev/null
vgcreate -qy office /dev/ubda > /dev/null
lvcreate -qy -n data -L 96M office > /dev/null
lvcreate -qy -T -L 128M -V 96M -n thin office/pool > /dev/null
imager lab up lab --peers 2 > /dev/null
export IMAGER_STATE=/tmp/lab/appliance
left() { lvs --noheadings -o lv_name office | grep -c imager- || true; }

for volume in data thin; do
  mkfs.ext4 -q "/dev/office/$volume"
  mkdir "on-$volume"
  mount "/dev/office/$volume" "on-$volume"
  head -c 20M /dev/urandom > "on-$volume/ballast"
  python3 "$WRITER" 0.2 1 "/tmp/on-$volume" > "ready-$volume" &
  writer=$!
  until grep -q ready "ready-$volume"; do sleep 0.1; done
  imager snapshot "/dev/office/$volume" --json > "taken-$volume"
  kill -9 $writer
  grep -o '"view":"[^"]*"' "taken-$volume"
  [ "$(left)" = 0 ]
  imager restore latest --to "$volume.img" > /dev/null
  e2fsck -fn "$volume.img" > /dev/null
  mkdir "back-$volume"
  mount -o loop "$volume.img" "back-$volume"
  cmp "on-$volume/ballast" "back-$volume/ballast"
  node -e 'import(process.env.BUSY).then(({ generationAt }) => generationAt(process.argv[1]))' "/tmp/back-$volume"
  umount "back-$volume"
  echo "ok: a volume that is written is stored from its snapshot ($volume)"
done

# A run that was killed leaves its snapshot; somebody else's, whatever its name, is not ours.
lvcreate -qy -s -L 8M -n imager-not office/data > /dev/null
node "$MAIN" snapshot /dev/office/data --json > killed &
run=$!
until [ "$(left)" = 2 ]; do sleep 0.2; done
kill -9 $run
wait $run || true
[ "$(left)" = 2 ]
imager snapshot /dev/office/data --json > /dev/null
[ "$(left)" = 1 ]
lvremove -qy office/imager-not > /dev/null
echo "ok: what a killed run left is removed by the next, and nothing else"

node "$MAIN" snapshot /dev/office/data --json > interrupted &
run=$!
until [ "$(left)" = 1 ]; do sleep 0.2; done
kill -INT $run
wait $run || [ $? = 130 ]
[ "$(left)" = 0 ]
echo "ok: Ctrl-C removes the snapshot"

# Room for 8 MiB of changes, and more than that is written.
lvcreate -qy -n filler -L 16M office > /dev/null
free=$(vgs --noheadings --units m --nosuffix -o vg_free office | tr -d ' ')
lvextend -qy -L "+$((${free%.*} - 12))M" office/filler > /dev/null
(while true; do dd if=/dev/urandom of=on-data/ballast bs=1M count=20 conv=notrunc,fsync 2> /dev/null; done) &
writer=$!
code=0
node "$MAIN" snapshot /dev/office/data --json > overflowed || code=$?
kill $writer
cat overflowed | tail -n 1
[ $code = 7 ]
grep -q VIEW_LOST overflowed
[ "$(left)" = 0 ]
echo "ok: a snapshot that overflows ends the run"
imager lab down lab > /dev/null
