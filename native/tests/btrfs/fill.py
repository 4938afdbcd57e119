"""Fills a mounted btrfs with seeded work. Arguments: mount point, seed."""

import ctypes
import fcntl
import os
import random
import socket
import subprocess
import sys

top, seed = sys.argv[1].encode(), int(sys.argv[2])
rng = random.Random(seed)
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
KEEP_SIZE, PUNCH_HOLE = 1, 2
FICLONE = 0x40049409
SECTOR = 4096


def at(*names):
    return os.path.join(top, *names)


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def text(length):
    words = [b"shard", b"stripe", b"extent", b"manifest", b"superblock", b"page"]
    return b" ".join(rng.choice(words) for _ in range(length // 5 + 1))[:length]


def btrfs(*arguments):
    subprocess.run(["btrfs", *arguments], check=True, stdout=subprocess.DEVNULL)


def small_files(folder):
    os.mkdir(os.path.join(folder, b"small"))
    for number in range(400):
        size = rng.choice([0, 1, 100, 1000, 2000, 2048, 4000, 4096, 5000, 20000])
        data = text(size) if number % 2 else rng.randbytes(size)
        write(os.path.join(folder, b"small", b"f%03d-%s" % (number, b"n" * rng.randrange(80))), data)
    for name in sorted(os.listdir(os.path.join(folder, b"small")))[::5]:
        os.unlink(os.path.join(folder, b"small", name))


def large_files():
    files = [open(at(b"fragment%d" % number), "wb", buffering=0) for number in range(2)]
    for _ in range(30):
        for file in files:
            file.write(rng.randbytes(SECTOR))
            os.fsync(file.fileno())
    write(at(b"text"), text(1_500_000))
    write(at(b"mixed"), text(300_000) + rng.randbytes(300_000) + text(300_001))
    with open(at(b"mixed"), "r+b") as file:
        for offset in (5000, 140_000, 400_000, 620_000):
            os.pwrite(file.fileno(), text(9000), offset)
            os.fsync(file.fileno())
    with open(at(b"sparse"), "wb", buffering=0) as file:
        for offset in (0, 3_000_000, 70_000_000, 5_000_000_000):
            os.pwrite(file.fileno(), rng.randbytes(700), offset)
    write(at(b"whole"), rng.randbytes(2_000_000))
    with open(at(b"unwritten"), "wb", buffering=0) as file:
        libc.fallocate(file.fileno(), 0, 0, 40 * SECTOR)
        os.pwrite(file.fileno(), rng.randbytes(3 * SECTOR), 10 * SECTOR)
        os.fsync(file.fileno())
        libc.fallocate(file.fileno(), KEEP_SIZE | PUNCH_HOLE, 20 * SECTOR, 4 * SECTOR)
    with open(at(b"past-the-end"), "wb", buffering=0) as file:
        file.write(rng.randbytes(5000))
        libc.fallocate(file.fileno(), KEEP_SIZE, 0, 30 * SECTOR)
    write(at(b"grown"), b"inline")
    os.sync()
    os.truncate(at(b"grown"), 3000)


def reflinks():
    os.sync()
    for name in (b"whole", b"text", b"mixed"):
        with open(at(name), "rb") as source, open(at(b"clone-" + name), "wb") as clone:
            fcntl.ioctl(clone.fileno(), FICLONE, source.fileno())
        with open(at(b"clone-" + name), "r+b") as clone:
            os.pwrite(clone.fileno(), rng.randbytes(10_000), 200_000)


def nodes():
    os.link(at(b"whole"), at(b"hard"))
    for number, length in enumerate((1, 30, 300, 1000)):
        os.symlink((b"target/" * 200)[:length], at(b"link%d" % number))
    os.mknod(at(b"block-old"), 0o060640, os.makedev(8, 17))
    os.mknod(at(b"character-new"), 0o020600, os.makedev(259, 70000))
    os.mkfifo(at(b"fifo"))
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(top)
        server.bind("socket")
    os.chown(at(b"fifo"), 70001, 99999)
    os.chmod(at(b"text"), 0o6755)
    deep = top
    for number in range(40):
        deep = os.path.join(deep, b"deep%d" % number)
        os.mkdir(deep)
    write(os.path.join(deep, b"bottom"), b"bottom")
    for name in (b"\xff\xfe\x80", b"new\nline", "Größe".encode(), b"$(x)'\"", b"m" * 255):
        write(at(name), name)
    for number in range(3):
        os.link(at(b"hard"), at(b"again%d" % number + b"l" * 200))


def attributes():
    acl = bytes.fromhex("02000000 01000600ffffffff 02000400e8030000 04000400ffffffff 10000600ffffffff 20000000ffffffff")
    for number, name in enumerate(sorted(os.listdir(at(b"small")))[:60]):
        path = at(b"small", name)
        os.setxattr(path, "user.mime", b"text/plain" * number)
        os.setxattr(path, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
        os.setxattr(path, "system.posix_acl_access", acl)
    os.setxattr(at(b"deep0"), "user.on-a-directory", b"d" * 2000)
    os.setxattr(at(b"link1"), "trusted.on-a-link", b"l", follow_symlinks=False)
    os.setxattr(at(b"whole"), "user.empty", b"")
    for number, seconds in enumerate((0, 1, -1, 2**31, 2**33 + 7)):
        write(at(b"time%d" % number), b"t")
        os.utime(at(b"time%d" % number), ns=(0, seconds * 10**9 + 123456789))


def subvolumes():
    btrfs("subvolume", "create", at(b"deep0", b"inner"))
    small_files(at(b"deep0", b"inner"))
    btrfs("subvolume", "create", at(b"deep0", b"inner", b"innermost"))
    write(at(b"deep0", b"inner", b"innermost", b"file"), text(200_000))
    btrfs("subvolume", "snapshot", "-r", at(b"deep0", b"inner"), at(b"frozen"))
    btrfs("subvolume", "snapshot", top, at(b"everything"))
    write(at(b"everything", b"added"), b"added" * 1000)
    os.unlink(at(b"deep0", b"inner", b"small", sorted(os.listdir(at(b"deep0", b"inner", b"small")))[7]))
    btrfs("subvolume", "create", at(b"deleted"))
    write(at(b"deleted", b"file"), b"gone")
    os.sync()
    btrfs("subvolume", "delete", "-c", at(b"deleted"))


small_files(top)
for step in (large_files, reflinks, nodes, attributes, subvolumes):
    step()
os.sync()
