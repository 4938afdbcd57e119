"""What others say about a volume, in lines that render.rs makes of our map:

  V FILE-SYSTEM UUID LABEL FIELDS [extents]   FIELDS: posix, windows or paths; whether there are X lines
  F KEY ...                                   a file, see posix(), windows() and paths(); a path in hex, or a number
  X KEY STREAM EXTENTS                        where it lies: logical:disk:length and p, u (unwritten), c (compressed)
  E PARENT NAME CHILD                         a name
  U START LENGTH                              what is in use
  W START LENGTH                              the same by partclone, which must not want more
"""

import array
import base64
import errno
import fcntl
import hashlib
import html
import os
import re
import stat
import struct
from pathlib import Path

import space
from volume import mounted, run, scratch, volumes

FIEMAP, GETVERSION, GETFLAGS, INO_LOOKUP = 0xC020660B, 0x80087601, 0x80086601, 0xD0009412
LAST, ENCODED, INLINE, UNWRITTEN = 0x1, 0x8, 0x200, 0x800
ENCRYPTED_FLAG = 0x800
BATCH = 500
#: Of larger files, only what their extents hold.
WHOLE_BYTES = 1 << 27
EMPTY_SUBVOLUME = 2


def lines(name, image, second_opinion=""):
    with volumes(name, image) as found:
        for index, fs, path in found:
            chunks = space.chunks(path) if fs == "btrfs" else []
            found_in_it = set(of_volume(fs, path, chunks))
            has_runs = any(line.startswith("X ") for line in found_in_it)
            truth = set(about(path, has_runs)) | found_in_it | set(space.in_use(fs, path, chunks))
            if second_opinion:
                truth |= set(space.partclone(fs, path))
            yield from (f"{index} {line}" for line in sorted(truth))


def about(image, has_runs):
    words = run("blkid", "-p", "-o", "udev", image).decode().split("\n")
    known = dict(word.removeprefix("ID_FS_").split("=", 1) for word in words if word)
    label = re.sub(rb"\\x(..)", lambda digits: bytes.fromhex(digits[1].decode()), known.get("LABEL_ENC", "").encode())
    kind = known["VERSION"].lower() if known["TYPE"] == "vfat" else known["TYPE"]
    fields = "posix" if kind in ("ext2", "ext3", "ext4", "xfs", "btrfs") else "windows" if kind == "ntfs" else "paths"
    extents = "extents" if has_runs else "-"
    if Path(f"{image}.tree").exists():
        # A prototype of XFS has no times.
        fields = "untimed" if kind == "xfs" else "paths"
    yield f"V {kind} {known.get('UUID', '-')} {label.hex() or '-'} {fields} {extents}"


def of_volume(fs, image, chunks):
    tree = Path(f"{image}.tree")
    if tree.exists():
        yield from paths(tree, timed=fs != "xfs")
        if fs == "ext":
            yield from debugfs(image, tree)
    elif fs in ("ext", "xfs", "btrfs"):
        with mounted(image, fs, "ro") as top:
            yield from posix(top, fs, chunks)
    elif fs == "ntfs":
        with mounted(image, fs, "ro") as top:
            files = list(windows(top))
        yield from [*files, *runs_by_number(image, files)]
    elif fs == "exfat":
        with mounted(image, fs) as top:
            files = list(paths(top))
        yield from [*files, *runs_by_path(image, files)]
    else:
        with scratch() as top:
            run("mcopy", "-i", image, "-s", "-m", "-Q", "::*", top)
            files = list(paths(top))
        yield from [*files, *runs_by_path(image, files)]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def walk(top, leave_out=None):
    """Folder, name, both, both without the top, status; not inode `leave_out`."""
    folders = [(os.fsencode(top), b"")]
    while folders:
        folder, inner = folders.pop()
        for name in os.listdir(folder):
            path, below = os.path.join(folder, name), os.path.join(inner, name)
            status = os.lstat(path)
            if status.st_ino == leave_out:
                continue
            if stat.S_ISDIR(status.st_mode):
                folders.append((path, below))
            yield folder, name, path, below, status


# What the kernel shows.


def posix(top, fs, chunks):
    trees = {}

    def key(path, status, folder):
        if fs != "btrfs":
            return status.st_ino
        if status.st_dev not in trees:
            trees[status.st_dev] = subvolume(path if stat.S_ISDIR(status.st_mode) else folder)
        return f"{trees[status.st_dev]}:{status.st_ino}"

    top = os.fsencode(top)
    root = os.lstat(top)
    yield from posix_file(key(top, root, top), top, root, fs, chunks, False)
    for folder, name, path, _, status in walk(top, EMPTY_SUBVOLUME if fs == "btrfs" else None):
        sealed = is_sealed(folder)
        parent, child = key(folder, os.lstat(folder), folder), key(path, status, folder)
        if sealed:  # fscrypt_nokey_name: eight bytes of hash, and the name as it is on the disk
            name = base64.urlsafe_b64decode(name + b"=" * (-len(name) % 4))[8:]
        yield f"E {parent} {name.hex()} {child}"
        yield from posix_file(child, path, status, fs, chunks, sealed)


def posix_file(key, path, status, fs, chunks, sealed):
    content, generation, size, extents = "-", "-", 0, None
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        try:
            fd = os.open(path, os.O_RDONLY)
            generation = ioctl_word(fd, GETVERSION)
            if stat.S_ISREG(status.st_mode):
                runs = fiemap(fd, chunks)
                size, content = status.st_size, digest(fd, status.st_size, runs)
                extents = shown(runs) if size or runs != "inline" else ""
            elif fs == "btrfs":
                size = status.st_size
            os.close(fd)
        except OSError as error:
            if error.errno != errno.ENOKEY:
                raise
            size, content = status.st_size, "sealed"
    elif stat.S_ISLNK(status.st_mode):
        size, content = (0, "sealed") if sealed else (status.st_size, sha256(os.fsencode(os.readlink(path))))
    names = sorted(os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False))
    names = [name for name in names if not name.startswith(b"trusted.SGI_ACL")]  # xfs: system.posix_acl_* again
    values = [name.hex() + "=" + os.getxattr(path, name, follow_symlinks=False).hex() for name in names]
    fields = [key, generation, f"{status.st_mode:o}", status.st_uid, status.st_gid, status.st_nlink, size]
    fields += [status.st_rdev, status.st_mtime_ns, status.st_ctime_ns, content, ",".join(values)]
    yield "F " + " ".join(str(field) for field in fields)
    if extents is not None:
        yield f"X {key} - {extents}"


def ioctl_word(fd, request):
    word = array.array("I", [0, 0])
    fcntl.ioctl(fd, request, word)
    return word[0]


def is_sealed(folder):
    fd = os.open(folder, os.O_RDONLY)
    try:
        return bool(ioctl_word(fd, GETFLAGS) & ENCRYPTED_FLAG)
    finally:
        os.close(fd)


def subvolume(folder):
    fd = os.open(folder, os.O_RDONLY)
    request = bytearray(struct.pack("=QQ", 0, 256) + bytes(4080))
    fcntl.ioctl(fd, INO_LOOKUP, request)
    os.close(fd)
    return struct.unpack_from("=Q", request)[0]


def fiemap(fd, chunks):
    """Runs of logical, disk, length and kind; "inline". btrfs says logical addresses, and nothing of packed lengths."""
    runs, start = [], 0
    while True:
        request = array.array("B", struct.pack("=QQIIII", start, 2**64 - 1 - start, 0, 0, BATCH, 0) + bytes(56 * BATCH))
        fcntl.ioctl(fd, FIEMAP, request)
        mapped = struct.unpack_from("=I", request, 20)[0]
        last = mapped == 0
        for number in range(mapped):
            logical, physical, length = struct.unpack_from("=QQQ", request, 32 + 56 * number)
            flags = struct.unpack_from("=I", request, 32 + 56 * number + 40)[0]
            start, last = logical + length, bool(flags & LAST)
            if flags & INLINE:
                return "inline"
            disk = space.on_disk(chunks, physical) if chunks else physical
            runs.append((logical, disk, length, "c" if flags & ENCODED else "u" if flags & UNWRITTEN else "p"))
        if last:
            return joined(runs)


def joined(runs):
    """What follows on without a gap is one run, as the kernel has it within one answer."""
    out = []
    for logical, disk, length, kind in runs:
        if out and out[-1][3] == kind:
            before = out[-1]
            if before[0] + before[2] == logical and before[1] + before[2] == disk:
                out[-1] = (before[0], before[1], before[2] + length, kind)
                continue
        out.append((logical, disk, length, kind))
    return out


def shown(runs):
    return runs if runs == "inline" else ",".join(f"{at}:{disk}:{length}{kind}" for at, disk, length, kind in runs)


def digest(fd, size, runs):
    if size < WHOLE_BYTES:
        return sha256(os.pread(fd, size, 0) if size < 1 << 20 else b"".join(pieces(fd, 0, size)))
    digest = hashlib.sha256()
    for logical, _, length, kind in runs:
        for piece in pieces(fd, logical, max(0, min(length, size - logical)) if kind != "u" else 0):
            digest.update(piece)
    return digest.hexdigest()


def pieces(fd, at, length):
    while length:
        piece = os.pread(fd, min(length, 1 << 20), at)
        assert piece, "the file ends early"
        yield piece
        at, length = at + len(piece), length - len(piece)


# What ntfs-3g and sleuthkit show.


def windows(top):
    for folder, name, path, _, status in walk(top):
        kind = stat.filemode(status.st_mode)[0]
        yield f"E {os.lstat(folder).st_ino} {name.hex()} {status.st_ino}"
        links = "-" if kind == "d" else status.st_nlink
        target = os.fsencode(os.readlink(path)).hex() if kind == "l" else "-"
        streams = []
        if kind == "-":
            data = Path(os.fsdecode(path)).read_bytes()
            assert len(data) == status.st_size
            streams.append(f"-={len(data)}={sha256(data)}")
        for attribute in os.listxattr(path, follow_symlinks=False):
            if attribute.startswith("user."):
                data = os.getxattr(path, attribute, follow_symlinks=False)
                streams.append(f"{attribute[5:].encode().hex()}={len(data)}={sha256(data)}")
        times = f"{status.st_mtime_ns} {status.st_ctime_ns}"
        yield f"F {status.st_ino} {kind} {links} {status.st_rdev} {times} {target} {','.join(sorted(streams))}"


def paths(top, timed=True):
    """Where numbers mean nothing to others: folders, sizes, files' times in seconds, contents."""
    for _, _, path, below, status in walk(top):
        if stat.S_ISDIR(status.st_mode):
            if below != b"lost+found":
                yield f"F {below.hex()} d"
        else:
            data = Path(os.fsdecode(path)).read_bytes()
            time = status.st_mtime_ns // 10**9 if timed else "-"
            yield f"F {below.hex()} - {len(data)} {time} {sha256(data)}"


def fiwalk(image):
    """Path, inode, size and runs of each regular file; of what was compressed, the runs of the packed bytes."""
    text = run("fiwalk", "-x", "-z", "-O", image).decode(errors="surrogateescape")
    for entry in re.findall(r"<fileobject>.*?</fileobject>", text, re.S):
        path = html.unescape(re.search(r"<filename>(.*?)</filename>", entry, re.S)[1])
        number = re.search(r"<inode>(\d+)</inode>\s*<meta_type>1<", entry)
        size = int(re.search(r"<filesize>(\d+)</filesize>", entry)[1])
        if not number or not size:
            continue
        runs = []
        for fields in re.findall(r"<byte_run ([^>]*)/>", entry):
            known = dict(re.findall(r"(\w+)='([^']*)'", fields))
            at, length = int(known["file_offset"]), int(known.get("len") or known["uncompressed_len"])
            if known.get("type") == "resident":
                runs = "inline"
            elif "fs_offset" in known and at < size:
                runs.append((at, int(known["fs_offset"]), min(length, size - at), "p"))
        yield os.fsencode(path).hex(), number[1], size, runs if runs == "inline" else shown(joined(runs))


def runs_by_path(image, files):
    """sleuthkit shows other letters than ASCII in short names as ^ and cuts long names: then the size decides. Nothing,
    where it takes a file for another: on exFAT, entries that pass from one cluster to the next."""
    sizes = {words[1]: int(words[3]) for words in (line.split(" ") for line in files) if words[2] == "-"}
    folder = lambda key: key[: key.rfind("2f") + 1]
    found, unknown = {}, []
    for key, _, size, runs in fiwalk(image):
        if sizes.get(key) == size:
            found[key] = runs
        else:
            unknown.append((key, size, runs))
    for key, size, runs in unknown:
        found.update({name: runs for name in sizes if (sizes[name], folder(name)) == (size, folder(key)) and name not in found})
    complete = all(name in found for name, size in sizes.items() if size)
    return [f"X {key} - {runs}" for key, runs in found.items()] if complete else []


def runs_by_number(image, files):
    """Nothing for clusters of more than 64 KiB, which sleuthkit does not read."""
    cluster = space.ntfs_cluster(image)[0]
    regular = {words[1]: words[8] for words in (line.split(" ") for line in files) if words[0] == "F" and words[2] == "-"}
    if cluster > 65536:
        return
    yield from {f"X {number} - {runs}" for _, number, _, runs in fiwalk(image) if number in regular}
    for number in [number for number, streams in regular.items() if "," in streams]:
        yield from named_streams(number, run("istat", image, number).decode(), cluster)


def named_streams(number, text, cluster):
    """ "Type: $DATA (128-5)   Name: small   Resident   size: 5", and the clusters below it."""
    form = r"^Type: \$DATA \(\S+\) +Name: (.*?) +(Resident|Non-Resident).* size: (\d+)(?:  init_size: \d+)?\n((?:[\d ]+\n)*)"
    for name, resident, size, clusters in re.findall(form, text, re.M):
        size, numbers = int(size), clusters.split()
        runs = [(at * cluster, int(one) * cluster, min(cluster, size - at * cluster), "p") for at, one in enumerate(numbers)]
        if name != "N/A" and size:
            yield f"X {number} {name.encode().hex()} {'inline' if resident == 'Resident' else shown(joined(runs))}"


def debugfs(image, tree):
    """Where the files lie that mkfs copied from a folder."""
    block = int(re.search(r"Block size: +(\d+)", run("dumpe2fs", "-h", image).decode())[1])
    files = [below for _, _, _, below, status in walk(tree) if stat.S_ISREG(status.st_mode) and status.st_size]
    script = "".join(f'stat "/{os.fsdecode(below)}"\n' for below in files)
    answers = run("debugfs", "-f", "/dev/stdin", image, input=script.encode()).decode().split("debugfs: stat ")[1:]
    for below, answer in zip(files, answers, strict=True):
        size, runs = int(re.search(r"Size: (\d+)", answer)[1]), []
        for first, last, disk in re.findall(r"\((\d+)(?:-(\d+))?\):(\d+)", answer):
            at, length = int(first) * block, (int(last or first) - int(first) + 1) * block
            runs.append((at, int(disk) * block, min(length, size - at), "p"))
        yield f"X {below.hex()} - {'inline' if 'inline data' in answer else shown(joined(runs))}"
