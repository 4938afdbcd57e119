"""Fills a mounted ext file system with seeded work. Arguments: mount point, seed, block bytes."""

import ctypes
import os
import random
import socket
import sys

top, seed, block = sys.argv[1].encode(), int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
libc = ctypes.CDLL(None, use_errno=True)
KEEP_SIZE, PUNCH_HOLE = 1, 2


def at(*names):
    return os.path.join(top, *names)


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def fallocate(fd, mode, offset, length):
    call = libc.fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return call(fd, mode, offset, length) == 0


def xattr(path, name, value):
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError:
        pass  # no room, or not this kind of file: the oracle sees what became of it


def small_files():
    os.mkdir(at(b"small"))
    for number in range(300):
        size = rng.choice([0, 1, 59, 60, 61, 100, 150, 160, 300, 1000, block, block + 1, 5000, 20000])
        write(at(b"small", b"f%03d" % number), rng.randbytes(size))
    for number in range(0, 300, 3):
        os.unlink(at(b"small", b"f%03d" % number))


def large_files():
    files = [open(at(b"fragment%d" % number), "wb", buffering=0) for number in range(2)]
    for _ in range(50):
        for file in files:
            file.write(rng.randbytes(block))
            os.fsync(file.fileno())
    with open(at(b"stride"), "wb", buffering=0) as file:
        for number in range(700):
            os.pwrite(file.fileno(), rng.randbytes(100), number * 2 * block)
        os.fsync(file.fileno())
    with open(at(b"sparse"), "wb", buffering=0) as file:
        for offset in (0, 3_000_000, 70_000_000, 5_000_000_000):
            os.pwrite(file.fileno(), rng.randbytes(700), offset)
    write(at(b"whole"), rng.randbytes(3_000_000))
    with open(at(b"unwritten"), "wb", buffering=0) as file:
        fallocate(file.fileno(), 0, 0, 40 * block)
        os.pwrite(file.fileno(), rng.randbytes(3 * block), 10 * block)
        fallocate(file.fileno(), KEEP_SIZE | PUNCH_HOLE, 20 * block, 4 * block)
    with open(at(b"past-the-end"), "wb", buffering=0) as file:
        file.write(rng.randbytes(500))
        fallocate(file.fileno(), KEEP_SIZE, 0, 30 * block)


def names():
    os.mkdir(at(b"many"))
    for number in range(2000):
        write(at(b"many", b"%05d-" % number + b"n" * rng.randrange(100)), b"")
    for number in range(700, 1200):
        for name in [name for name in os.listdir(at(b"many")) if name.startswith(b"%05d" % number)][:1]:
            if number % 3:
                os.unlink(at(b"many", name))
    deep = top
    for number in range(40):
        deep = os.path.join(deep, b"deep%d" % number)
        os.mkdir(deep)
    write(os.path.join(deep, b"bottom"), b"bottom")
    for name in (b"\xff\xfe\x80", b"new\nline", "Größe".encode(), b"$(x)'\"", b"m" * 255):
        write(at(name), name)
    for number in range(20):
        os.mkdir(at(b"dir%02d" % number))
        for child in range(number):
            write(at(b"dir%02d" % number, b"c%d" % child), b"child")


def nodes():
    os.link(at(b"whole"), at(b"deep0", b"hard"))
    for number, length in enumerate((1, 30, 59, 60, 61, 300, 1000)):
        os.symlink((b"target/" * 200)[:length], at(b"link%d" % number))
    os.mknod(at(b"block-old"), 0o060640, os.makedev(8, 17))
    os.mknod(at(b"character-new"), 0o020600, os.makedev(259, 70000))
    os.mkfifo(at(b"fifo"))
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(top)
        server.bind("socket")
    os.chown(at(b"fifo"), 70001, 99999)
    os.chmod(at(b"small", b"f001"), 0o6755)


def attributes():
    acl = bytes.fromhex("02000000 01000600ffffffff 02000400e8030000 04000400ffffffff 10000600ffffffff 20000000ffffffff")
    for number in range(1, 60, 3):
        path = at(b"small", b"f%03d" % number)
        xattr(path, "user.mime", b"text/plain")
        xattr(path, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
        xattr(path, "system.posix_acl_access", acl)
    for number in range(61, 90, 3):
        xattr(at(b"small", b"f%03d" % number), "user.shared", b"s" * 500)
        xattr(at(b"small", b"f%03d" % number), "trusted.overlay", b"y")
    xattr(at(b"dir05"), "system.posix_acl_default", acl)
    xattr(at(b"dir06"), "user.on-a-directory", b"d" * 200)
    xattr(at(b"link1"), "trusted.on-a-link", b"l")
    xattr(at(b"whole"), "user.empty", b"")
    xattr(at(b"whole"), "user.large", rng.randbytes(20000))


def times():
    for number, seconds in enumerate((0, 1, -1, -(2**31), 2**31, 2**32 + 5, 2**33 + 7)):
        write(at(b"time%d" % number), b"t")
        try:
            os.utime(at(b"time%d" % number), ns=(0, seconds * 10**9 + 123456789))
        except OverflowError:
            pass


for step in (small_files, large_files, names, nodes, attributes, times):
    step()
os.sync()
