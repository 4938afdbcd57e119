"""What is in use, by each file system's own tools, in the lines of truth.py."""

import re
from pathlib import Path

from volume import MIB, Impossible, run, scratch

PARTCLONE = {"ext": "extfs"}


def in_use(fs, image, its_chunks):
    size = Path(image).stat().st_size
    if fs == "btrfs":
        used = of_btrfs(image, its_chunks, size)
    else:
        free = {"ext": of_ext, "xfs": of_xfs, "ntfs": of_ntfs, "fat": of_sleuthkit, "exfat": of_sleuthkit}[fs](image)
        used, at = [], 0
        for start, end in merged(free):
            used.append((at, start))
            at = end
        used.append((at, size))
    return [f"U {start} {end - start}" for start, end in merged(used)]


def merged(ranges):
    out = []
    for start, end in sorted(ranges):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        elif start < end:
            out.append((start, end))
    return out


def of_ext(image):
    """ "  Free blocks: 12-15, 20" of every group. With clusters, the last number is the first block of the last one."""
    text = run("dumpe2fs", image).decode(errors="replace")
    field = lambda name: re.search(rf"^{name}: +(\d+)", text, re.M)
    block = int(field("Block size")[1])
    last = int(field("Cluster size")[1]) if field("Cluster size") else block
    for numbers in re.findall(r"^  Free blocks: (.*)$", text, re.M):
        for first, end in re.findall(r"(\d+)(?:-(\d+))?", numbers):
            yield int(first) * block, int(end or first) * block + last


def of_xfs(image):
    """`freesp -d` also prints the blocks of the free lists, which are in use to us."""
    ask = lambda *commands: run("xfs_db", "-r", "-f", *(word for each in commands for word in ("-c", each)), image).decode()
    numbers = lambda text: [int(number) for number in re.findall(r"= (\d+)$", text, re.M)]
    block, group_blocks, groups = numbers(ask("sb 0", "p blocksize", "p agblocks", "p agcount"))
    free = {
        (int(group), int(at) + number)
        for group, at, count in re.findall(r"^ *(\d+) +(\d+) +(\d+)$", ask("freesp -d"), re.M)
        for number in range(int(count))
    }
    for group in range(groups):
        first, last, count = numbers(ask(f"agf {group}", "p flfirst", "p fllast", "p flcount"))
        slots = [int(slot) if slot != "null" else None for slot in list_of(ask(f"agfl {group}", "p bno"))]
        places = range(first, last + 1) if first <= last else [*range(first, len(slots)), *range(last + 1)]
        listed = {(group, slots[place]) for place in places} if count else set()
        assert len(listed) == count
        free -= listed
    for group, at in free:
        start = (group * group_blocks + at) * block
        yield start, start + block


def list_of(text):
    """ "bno[0-5] = 0:4 1:5 2:[6-8]..." of xfs_db, "0-118:null" for many of the same."""
    out = []
    for first, last, value in re.findall(r"(\d+)(?:-(\d+))?:(\w+)", text.split("=", 1)[1]):
        out += [value] * (int(last or first) - int(first) + 1)
    return out


def ntfs_cluster(image):
    """The bytes of a cluster, and how many there are."""
    boot = Path(image).open("rb").read(512)
    sector, per_cluster = int.from_bytes(boot[11:13], "little"), boot[13]
    cluster = sector * (per_cluster if per_cluster <= 128 else 1 << (256 - per_cluster))
    return cluster, int.from_bytes(boot[40:48], "little") * sector // cluster


def of_ntfs(image):
    cluster, clusters = ntfs_cluster(image)
    bitmap = run("ntfscat", "-f", "-i", "6", image)
    for index in range(clusters):
        # The first 8 KiB are the boot file's, whatever the bitmap says.
        if not bitmap[index // 8] >> index % 8 & 1 and (index + 1) * cluster > 8192:
            yield max(8192, index * cluster), (index + 1) * cluster


def of_sleuthkit(image):
    """What is left over behind the last whole cluster is free to it, and in use to us."""
    boot = Path(image).open("rb").read(512)
    field = lambda at, length: int.from_bytes(boot[at : at + length], "little")
    if boot[3:8] == b"EXFAT":
        sector = 1 << boot[108]
        end = field(88, 4) + (field(92, 4) << boot[109])
    else:
        sector = field(11, 2)
        first = field(14, 2) + boot[16] * (field(22, 2) or field(36, 4)) + -(-field(17, 2) * 32 // sector)
        end = first + ((field(19, 2) or field(32, 4)) - first) // boot[13] * boot[13]
    for number in re.findall(r"^(\d+)\|f$", run("blkls", "-l", image).decode(), re.M):
        if int(number) < end:
            yield int(number) * sector, (int(number) + 1) * sector


def dump(tree, image):
    return run("btrfs", "inspect-internal", "dump-tree", "-t", tree, image).decode(errors="replace")


def chunks(image):
    """Logical address, length, and the disk address of each copy."""
    found = []
    for line in dump("chunk", image).splitlines():
        if key := re.search(r"key \(\S+ CHUNK_ITEM (\d+)\)", line):
            found.append([int(key[1]), 0, []])
        elif found and (length := re.match(r"\s+length (\d+) ", line)):
            found[-1][1] = int(length[1])
        elif found and (stripe := re.match(r"\s+stripe \d+ devid \d+ offset (\d+)", line)):
            found[-1][2].append(int(stripe[1]))
    return found


def on_disk(its_chunks, address):
    """In the first copy. Holes and what is not written yet have address 0."""
    inside = (stripes[0] + address - at for at, length, stripes in its_chunks if at <= address < at + length)
    return next(inside, 0)


def of_btrfs(image, its_chunks, size):
    """From the extent tree; with what lies outside of all chunks."""
    text = run("btrfs", "inspect-internal", "dump-super", image).decode()
    field = lambda name: int(re.search(rf"^{name}\s+(\d+)", text, re.M)[1])
    used = [(0, MIB), (64 * MIB, 64 * MIB + 4096), (field("total_bytes"), size)]
    keys = re.findall(r"key \((\d+) (EXTENT_ITEM|METADATA_ITEM) (\d+)\)", dump("extent", image))
    for address, kind, length in keys:
        address, length = int(address), int(length) if kind == "EXTENT_ITEM" else field("nodesize")
        at, _, stripes = next(chunk for chunk in its_chunks if chunk[0] <= address < chunk[0] + chunk[1])
        used += [(stripe + address - at, stripe + address - at + length) for stripe in stripes]
    return used


def partclone(fs, image):
    if fs == "btrfs" or Path(image).open("rb").read(64)[54:59] == b"FAT12":
        return []  # it keeps what the extent tree does not name, and reads FAT12 as FAT16
    with scratch() as aside:
        log = aside / "domain"
        try:
            run(f"partclone.{PARTCLONE.get(fs, fs)}", "-D", "-s", image, "-o", log, "-L", "/dev/null")
        except (RuntimeError, Impossible) as error:  # it knows fewer layouts than we do, or is not there
            return [f"W failed: {str(error).splitlines()[-2:]}"]
        ranges = re.findall(r"^(0x\w+)\s+(0x\w+)\s+\+$", log.read_text(), re.M)
        return [f"W {int(start, 16)} {int(length, 16)}" for start, length in ranges]
