"""What the kernel says about a mounted btrfs, one line a file and one line a name (see `render` in btrfs.rs).
Argument: the mount point."""

import array
import fcntl
import hashlib
import os
import stat
import struct
import sys

FS_IOC_FIEMAP, FS_IOC_GETVERSION, INO_LOOKUP = 0xC020660B, 0x80087601, 0xD0009412
LAST, ENCODED, INLINE, UNWRITTEN = 0x1, 0x8, 0x200, 0x800
BATCH = 500
EMPTY_SUBVOLUME = 2


def fiemap(fd):
    """Logical, logical address on the volume, length and kind; packed ones without their length."""
    runs, start = [], 0
    while True:
        request = array.array("B", struct.pack("=QQIIII", start, 2**64 - 1 - start, 0, 0, BATCH, 0) + bytes(56 * BATCH))
        fcntl.ioctl(fd, FS_IOC_FIEMAP, request)
        mapped = struct.unpack_from("=I", request, 20)[0]
        last = mapped == 0
        for number in range(mapped):
            logical, physical, length = struct.unpack_from("=QQQ", request, 32 + 56 * number)
            flags = struct.unpack_from("=I", request, 32 + 56 * number + 40)[0]
            start, last = logical + length, bool(flags & LAST)
            if flags & INLINE:
                return "inline"
            kind = "c" if flags & ENCODED else "u" if flags & UNWRITTEN else "p"
            follows = runs and runs[-1][3] == kind and runs[-1][0] + runs[-1][2] == logical
            if kind != "c" and follows and runs[-1][1] + runs[-1][2] == physical:
                runs[-1][2] += length
            else:
                runs.append([logical, physical, length, kind])
        if last:
            return ",".join(f"{logical}:{physical}:{length}{kind}" for logical, physical, length, kind in runs)


def digest(file):
    return hashlib.sha256(file.read()).hexdigest() if os.fstat(file.fileno()).st_size < 2**27 else "large"


def subvolume(folder):
    fd = os.open(folder, os.O_RDONLY)
    request = bytearray(struct.pack("=QQ", 0, 256) + bytes(4080))
    fcntl.ioctl(fd, INO_LOOKUP, request)
    os.close(fd)
    return struct.unpack_from("=Q", request)[0]


def line(tree, path, status):
    extents, content, generation = "-", "-", "-"
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            extents, content = fiemap(file.fileno()), digest(file)
    if stat.S_ISLNK(status.st_mode):
        content = hashlib.sha256(os.readlink(path)).hexdigest()
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        fd = os.open(path, os.O_RDONLY)
        word = array.array("I", [0, 0])
        fcntl.ioctl(fd, FS_IOC_GETVERSION, word)
        generation = word[0]
        os.close(fd)
    names = sorted(os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False))
    values = [name.hex() + "=" + os.getxattr(path, name, follow_symlinks=False).hex() for name in names]
    size = status.st_size
    fields = [f"{tree}:{status.st_ino}", generation, f"{status.st_mode:o}", status.st_uid, status.st_gid]
    fields += [status.st_nlink, size, status.st_rdev, status.st_mtime_ns, status.st_ctime_ns, content]
    return "F " + " ".join(str(field) for field in fields + [",".join(values), extents])


top = sys.argv[1].encode()
lines, trees = set(), {}
for folder, folders, files in os.walk(top):
    parent = os.lstat(folder)
    if parent.st_dev not in trees:
        trees[parent.st_dev] = subvolume(folder)
    tree = trees[parent.st_dev]
    lines.add(line(tree, folder, parent))
    for name in list(folders) + files:
        path = os.path.join(folder, name)
        status = os.lstat(path)
        if status.st_ino == EMPTY_SUBVOLUME:
            folders.remove(name)
            continue
        child = tree
        if stat.S_ISDIR(status.st_mode):
            child = trees.setdefault(status.st_dev, subvolume(path))
        else:
            lines.add(line(tree, path, status))
        lines.add(f"E {tree}:{parent.st_ino} {name.hex()} {child}:{status.st_ino}")
print("\n".join(sorted(lines)))
