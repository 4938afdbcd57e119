"""What only XFS does, after ext/fill.py. Arguments: mount point, seed, block bytes."""

import ctypes
import fcntl
import os
import random
import sys

top, seed, block = sys.argv[1].encode(), int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
FICLONE, FICLONERANGE = 0x40049409, 0x4020940D


def at(*names):
    return os.path.join(top, *names)


def many_names():
    os.mkdir(at(b"three-thousand"))
    for number in range(3000):
        os.mknod(at(b"three-thousand", b"%04d-" % number + b"x" * rng.randrange(60)), 0o100644)
    for name in rng.sample(os.listdir(at(b"three-thousand")), 500):
        os.unlink(at(b"three-thousand", name))


def many_attributes():
    with open(at(b"attributes"), "wb"):
        pass
    try:
        for number in range(400):
            os.setxattr(at(b"attributes"), b"user.number-%03d" % number, rng.randbytes(rng.randrange(500)))
        for number in range(3):
            os.setxattr(at(b"attributes"), b"trusted.large-%d" % number, rng.randbytes(30000 + 10000 * number))
    except OSError as error:
        print(error, file=sys.stderr)


def clones():
    with open(at(b"whole"), "rb") as source:
        for number in range(5):
            with open(at(b"clone%d" % number), "wb") as clone:
                try:
                    fcntl.ioctl(clone.fileno(), FICLONE, source.fileno())
                except OSError:
                    return  # no reflink here
                os.pwrite(clone.fileno(), rng.randbytes(3 * block), number * 20 * block)
                os.fsync(clone.fileno())


def scattered_space():
    """No room for a whole chunk of inodes, so that new chunks are sparse; and long free-space trees."""
    space = os.statvfs(top)
    free = space.f_bavail * space.f_frsize
    path = at(b"ballast")
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, int(free * 0.9) // 65536 * 65536)
    holes = 64 << 20
    call = ctypes.CDLL(None).fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    with open(path, "r+b") as file:
        for start in range(0, holes, 112 << 10):
            call(file.fileno(), 3, start, 48 << 10)
    with open(at(b"ballast2"), "wb") as file:
        free = os.statvfs(top).f_bavail * space.f_frsize
        if free > 18 << 20:
            os.posix_fallocate(file.fileno(), 0, free - (18 << 20))
    os.mkdir(at(b"late"))
    try:
        for number in range(3000):
            os.mknod(at(b"late", b"%d" % number), 0o100600)
    except OSError as error:
        print(error, file=sys.stderr)


for step in (many_names, many_attributes, clones, scattered_space):
    step()
os.sync()
