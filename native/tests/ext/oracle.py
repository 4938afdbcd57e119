"""What the kernel says about a mounted ext file system, one line a file and one line a name (see `render` in
ext.rs). Argument: the mount point."""

import array
import fcntl
import hashlib
import os
import stat
import struct
import sys

FS_IOC_FIEMAP = 0xC020660B
FS_IOC_GETVERSION = 0x80087601
LAST, INLINE, UNWRITTEN = 0x1, 0x200, 0x800
BATCH = 500


def fiemap(fd):
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
            kind = "u" if flags & UNWRITTEN else "p"
            if runs and runs[-1][3] == kind and runs[-1][0] + runs[-1][2] == logical and runs[-1][1] + runs[-1][2] == physical:
                runs[-1][2] += length
            else:
                runs.append([logical, physical, length, kind])
        if last:
            return ",".join(f"{logical}:{physical}:{length}{kind}" for logical, physical, length, kind in runs)


def digest(file):
    return hashlib.sha256(file.read()).hexdigest() if os.fstat(file.fileno()).st_size < 2**27 else "large"


def line(path, status):
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
    names = [name for name in names if not name.startswith(b"trusted.SGI_ACL")]  # xfs: system.posix_acl_* again
    values = [name.hex() + "=" + os.getxattr(path, name, follow_symlinks=False).hex() for name in names]
    size = status.st_size if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode) else 0
    fields = [status.st_ino, generation, f"{status.st_mode:o}", status.st_uid, status.st_gid, status.st_nlink, size]
    fields += [status.st_rdev, status.st_mtime_ns, status.st_ctime_ns, content, ",".join(values), extents]
    return "F " + " ".join(str(field) for field in fields)


top = sys.argv[1].encode()
lines = set()
for folder, folders, files in os.walk(top):
    parent = os.lstat(folder)
    lines.add(line(folder, parent))
    for name in folders + files:
        path = os.path.join(folder, name)
        status = os.lstat(path)
        lines.add(f"E {parent.st_ino} {name.hex()} {status.st_ino}")
        if not stat.S_ISDIR(status.st_mode):
            lines.add(line(path, status))
print("\n".join(sorted(lines)))
