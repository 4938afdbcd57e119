"""Seeded work for a mounted volume, or for a folder that becomes one. Each step is a method; the matrix names those of
each image. What a file system refuses is left out, the oracles see what became of it."""

import contextlib
import ctypes
import fcntl
import os
import random
import socket
import struct
import subprocess

KEEP_SIZE, PUNCH_HOLE = 1, 2
FICLONE = 0x40049409
ADD_KEY, SET_POLICY = 0xC0506617, 0x800C6613
ACL = bytes.fromhex("02000000 01000600ffffffff 02000400e8030000 04000400ffffffff 10000600ffffffff 20000000ffffffff")
PORTABLE = ["größe.txt", "日本語のファイル.txt", "lower", "UPPER.TXT", "base.TXT", "EXTENSION.txt", "a b  c.d.e", "ÄÖÜ"]
refused = contextlib.suppress(OSError, OverflowError)


class Fill:
    def __init__(self, top, seed, block):
        self.top, self.rng, self.block = os.fsencode(top), random.Random(seed), block
        libc = ctypes.CDLL(None, use_errno=True)
        self.syncfs, self.call = libc.syncfs, libc.fallocate
        self.call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

    def at(self, *names):
        return os.path.join(self.top, *(name.encode() if isinstance(name, str) else name for name in names))

    def folder(self, *names):
        os.makedirs(self.at(*names), exist_ok=True)
        return self.at(*names)

    def write(self, path, data):
        with open(path, "wb") as file:
            file.write(data)

    def sync(self):
        fd = os.open(self.top, os.O_RDONLY)
        self.syncfs(fd)
        os.close(fd)

    def text(self, length):
        words = [b"shard", b"stripe", b"extent", b"manifest", b"superblock", b"page"]
        return b" ".join(self.rng.choice(words) for _ in range(length // 5 + 1))[:length]

    def noise(self, length):
        """Half of it compresses."""
        return self.rng.randbytes(length) if self.rng.random() < 0.5 else self.text(length)

    def xattr(self, path, name, value):
        with refused:
            os.setxattr(path, name, value, follow_symlinks=False)

    # Everywhere.

    def small(self, top="small"):
        """Some deleted again, so that what follows is scattered."""
        self.folder(top)
        sizes = [0, 1, 59, 60, 61, 100, 150, 160, 300, 511, 700, 1000, 2048, self.block, self.block + 1, 5000, 20000]
        for number in range(400):
            self.write(self.at(top, f"f{number:03}"), self.noise(self.rng.choice(sizes)))
        for number in range(0, 400, 3):
            os.unlink(self.at(top, f"f{number:03}"))

    def many(self):
        """A folder of many blocks, with holes."""
        self.folder("many")
        names = [f"{number:05}-" + "n" * self.rng.randrange(100) for number in range(1500)]
        for name in names:
            self.write(self.at("many", name), b"")
        for name in self.rng.sample(names, 400):
            os.unlink(self.at("many", name))

    def portable(self):
        """Names that every file system here can hold; long ones, and deep folders."""
        for name in PORTABLE + ["m" * length for length in (13, 26, 27, 200)]:
            self.folder("names")
            self.write(self.at("names", name), name.encode())
        self.write(os.path.join(self.folder(*(f"deep{level}" for level in range(12))), b"bottom"), b"bottom")

    def large(self):
        """Interleaved, strided, overwritten, cut short; no holes, so that all file systems take it."""
        files = [open(self.at(f"interleaved{number}"), "wb", buffering=0) for number in range(2)]
        for _ in range(40):
            for file in files:
                file.write(self.rng.randbytes(min(self.block, 65536)))
                os.fsync(file.fileno())
        for file in files:
            file.close()
        self.write(self.at("whole"), self.rng.randbytes(2_000_000))
        self.write(self.at("text"), self.text(1_200_000))
        self.write(self.at("mixed"), self.text(300_000) + self.rng.randbytes(300_000) + self.text(300_001))
        with open(self.at("mixed"), "r+b", buffering=0) as file:
            for offset in (5000, 140_000, 400_000, 620_000):
                os.pwrite(file.fileno(), self.text(9000), offset)
                os.fsync(file.fileno())
        self.write(self.at("cut"), self.rng.randbytes(500_000))
        os.truncate(self.at("cut"), 123_457)

    def churn(self):
        """Creates, appends, overwrites, truncates, renames, links and deletes, in any order."""
        self.folder("churn")
        alive = []
        for number in range(700):
            kind = self.rng.choices("cawtrld", (5, 4, 3, 2, 2, 1, 3))[0]
            new = f"made{number}"
            if kind == "c" or not alive:
                alive.append(new)
                self.write(self.at("churn", new), self.noise(int(2 ** self.rng.uniform(0, 16))))
                continue
            name = self.rng.choice(alive)
            path = self.at("churn", name)
            if kind == "a":
                with open(path, "ab") as file:
                    file.write(self.noise(int(2 ** self.rng.uniform(0, 16))))
            elif kind == "w":
                with open(path, "r+b", buffering=0) as file:
                    os.pwrite(file.fileno(), self.noise(3000), self.rng.randrange(1 + os.path.getsize(path)))
            elif kind == "t":
                os.truncate(path, self.rng.randrange(1 + os.path.getsize(path)))
            elif kind == "r":
                alive[alive.index(name)] = new
                os.rename(path, self.at("churn", new))
            elif kind == "l":
                with refused:
                    os.link(path, self.at("churn", new))
                    alive.append(new)
            else:
                alive.remove(name)
                os.unlink(path)

    # What POSIX has.

    def holes(self, far=5_000_000_000):
        with open(self.at("stride"), "wb", buffering=0) as file:
            for number in range(500):
                os.pwrite(file.fileno(), self.rng.randbytes(100), number * 2 * self.block)
            os.fsync(file.fileno())
        with open(self.at("sparse"), "wb", buffering=0) as file:
            for offset in (0, 3_000_000, 9_000_000, 70_000_000, far):
                if offset <= far:
                    os.pwrite(file.fileno(), self.rng.randbytes(700), offset)
        self.write(self.at("only-a-hole"), b"")
        os.truncate(self.at("only-a-hole"), 5_000_000)
        self.write(self.at("grown"), b"from inline to a hole")
        self.sync()
        os.truncate(self.at("grown"), 3000)
        with open(self.at("unwritten"), "wb", buffering=0) as file:
            self.call(file.fileno(), 0, 0, 40 * self.block)
            os.pwrite(file.fileno(), self.rng.randbytes(3 * self.block), 10 * self.block)
            os.fsync(file.fileno())
            self.call(file.fileno(), KEEP_SIZE | PUNCH_HOLE, 20 * self.block, 4 * self.block)
        with open(self.at("past-the-end"), "wb", buffering=0) as file:
            file.write(self.rng.randbytes(500))
            self.call(file.fileno(), KEEP_SIZE, 0, 30 * self.block)

    def near_holes(self):
        self.holes(far=9_000_000)
        with open(self.at("grown.bin"), "wb", buffering=0) as file:
            file.write(self.rng.randbytes(100_001))
        # Made longer without a write: on NTFS the bytes past the old end are not valid data.
        os.truncate(self.at("grown.bin"), 2_000_000)

    def odd_names(self):
        for name in (b"\xff\xfe\x80", b"new\nline", b"$(x)'\"", b"m" * 255, b"trailing."):
            with refused:
                self.write(self.at(name), name)
        for level in range(40):
            self.folder(*(f"down{above}" for above in range(level + 1)))
        for number in range(20):
            self.folder(f"dir{number:02}")
            for child in range(number):
                self.write(self.at(f"dir{number:02}", f"c{child}"), b"child")

    def nodes(self):
        self.folder("links")
        for number in range(30):
            os.link(self.at("whole"), self.at("links", f"hard{number}" + "l" * 200))
        for number, length in enumerate((1, 30, 59, 60, 61, 300, 1000)):
            os.symlink((b"target/" * 200)[:length], self.at(f"link{number}"))
        os.mknod(self.at("block-old"), 0o060640, os.makedev(8, 17))
        os.mknod(self.at("character-new"), 0o020600, os.makedev(259, 70000))
        os.mkfifo(self.at("fifo"))
        back = os.getcwd()
        with socket.socket(socket.AF_UNIX) as server:
            os.chdir(self.top)
            server.bind("socket")
            os.chdir(back)
        with refused:
            os.chown(self.at("fifo"), 70001, 99999)
            os.chmod(self.at("text"), 0o6755)

    def attributes(self):
        for number in range(1, 120, 3):
            path = self.at("small", f"f{number:03}")
            self.xattr(path, "user.mime", b"text/plain" * (number % 40))
            self.xattr(path, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
            self.xattr(path, "system.posix_acl_access", ACL)
        for number in range(121, 180, 3):
            self.xattr(self.at("small", f"f{number:03}"), "user.shared", b"s" * 500)
            self.xattr(self.at("small", f"f{number:03}"), "trusted.overlay", b"y")
        self.xattr(self.at("names"), "system.posix_acl_default", ACL)
        self.xattr(self.at("names"), "user.on-a-directory", b"d" * 200)
        self.xattr(self.at("link1"), "trusted.on-a-link", b"l")
        self.xattr(self.at("whole"), "user.empty", b"")
        self.xattr(self.at("whole"), "user.large", self.rng.randbytes(20000))

    def times(self):
        for number, seconds in enumerate((0, 1, -1, -(2**31), 2**31, 2**32 + 5, 2**33 + 7)):
            self.write(self.at(f"time{number}"), b"t")
            with refused:
                os.utime(self.at(f"time{number}"), ns=(0, seconds * 10**9 + 123456789))

    def secret(self):
        """A folder with a v2 policy and a key that is gone after the mount."""
        folder = self.folder("secret")
        fd = os.open(folder, os.O_RDONLY)
        request = bytearray(struct.pack("=II32sII32x", 2, 0, bytes(32), 64, 0) + self.rng.randbytes(64))
        fcntl.ioctl(fd, ADD_KEY, request)
        fcntl.ioctl(fd, SET_POLICY, struct.pack("=BBBBB3x16s", 2, 1, 4, 0, 0, bytes(request[8:24])))
        os.close(fd)
        for number in range(300):
            self.write(self.at("secret", f"name-{number}"), self.noise(self.rng.randrange(20_000)))
        self.folder("secret", "below")
        os.symlink("target", self.at("secret", "link"))

    # What shares blocks.

    def clones(self):
        self.sync()
        for name in ("whole", "text", "mixed"):
            with open(self.at(name), "rb") as source, open(self.at("clone-" + name), "wb") as clone, refused:
                fcntl.ioctl(clone.fileno(), FICLONE, source.fileno())
            with open(self.at("clone-" + name), "r+b", buffering=0) as clone:
                for offset in (4096, 200_000, 260_000):
                    os.pwrite(clone.fileno(), self.noise(10_000), offset)
                    os.fsync(clone.fileno())

    def subvolumes(self):
        btrfs = lambda *words: subprocess.run(["btrfs", "subvolume", *words], check=True, stdout=subprocess.DEVNULL)
        btrfs("create", self.at("deep0", "inner"))
        self.small("deep0/inner/small")
        btrfs("create", self.at("deep0", "inner", "innermost"))
        self.write(self.at("deep0", "inner", "innermost", "file"), self.text(200_000))
        btrfs("snapshot", "-r", self.at("deep0", "inner"), self.at("frozen"))
        btrfs("snapshot", self.top, self.at("everything"))
        self.write(self.at("everything", "added"), b"added" * 1000)
        os.unlink(self.at("deep0", "inner", "small", "f007"))
        btrfs("create", self.at("deleted"))
        self.write(self.at("deleted", "file"), b"gone")
        self.sync()
        btrfs("delete", "-c", self.at("deleted"))

    def many_attributes(self):
        self.write(self.at("attributes"), b"")
        for number in range(400):
            self.xattr(self.at("attributes"), f"user.number-{number:03}", self.rng.randbytes(self.rng.randrange(500)))
        for number in range(3):
            self.xattr(self.at("attributes"), f"trusted.large-{number}", self.rng.randbytes(30000 + 10000 * number))

    def scattered_space(self):
        """No room for a whole chunk of inodes, so that XFS makes sparse ones; and long free-space trees."""
        space = os.statvfs(self.top)
        with open(self.at("ballast"), "wb") as file:
            os.posix_fallocate(file.fileno(), 0, int(space.f_bavail * space.f_frsize * 0.9) // 65536 * 65536)
            for start in range(0, 64 << 20, 112 << 10):
                self.call(file.fileno(), KEEP_SIZE | PUNCH_HOLE, start, 48 << 10)
        with open(self.at("ballast2"), "wb") as file, refused:
            free = os.statvfs(self.top).f_bavail * space.f_frsize
            os.posix_fallocate(file.fileno(), 0, max(1, free - (18 << 20)))
        self.folder("late")
        with refused:
            for number in range(3000):
                os.mknod(self.at("late", str(number)), 0o100600)

    # What only NTFS has.

    def streams(self):
        self.folder("small")
        self.write(self.at("streams"), b"the unnamed one")
        for name, value in (("small", b"small"), ("große", self.rng.randbytes(60_000)), ("empty", b"")):
            self.xattr(self.at("streams"), "user." + name, value)
        for number in range(30):  # enough to need an attribute list
            self.xattr(self.at("streams"), f"user.stream {number}", self.rng.randbytes(200))
        self.xattr(self.at("small"), "user.of a folder", b"folders have streams too")
        self.write(self.at("one"), b"one file, many names")
        for number in range(300):  # so many that the list itself leaves the record
            os.link(self.at("one"), self.at("small", f"hard link {number} of one"))

    def compressed(self):
        """A folder whose files NTFS compresses, with all three kinds of units."""
        os.setxattr(self.folder("compressed"), "system.ntfs_attrib_be", bytes([0, 0, 8, 0]))
        text = self.text(300_000)
        self.write(self.at("compressed", "text"), text)
        self.write(self.at("compressed", "noise"), self.rng.randbytes(100_000))
        self.write(self.at("compressed", "mixed"), text[:70_000] + self.rng.randbytes(150_000) + text[:70_000])
        with open(self.at("compressed", "holes"), "wb", buffering=0) as file:
            os.pwrite(file.fileno(), text[:60_000], 0)
            os.pwrite(file.fileno(), text[:60_000], 900_000)

    def reparse_points(self):
        """A symbolic link of Windows, relative: substitute name and print name are the same."""
        name = "folder\\é\\x".encode("utf-16-le")
        words = struct.pack("<8H", 12 + len(name), 0, 0, len(name), 0, len(name), 1, 0)
        self.folder("folder/é")
        self.write(self.at("folder/é/x"), b"x")
        self.write(self.at("windows link"), b"")
        os.setxattr(self.at("windows link"), "system.ntfs_reparse_data", struct.pack("<I", 0xA000000C) + words + name)

    def gaps(self, step=2):
        """Fills the volume with files of one cluster, and frees some."""
        self.folder("fill")
        count = 0
        with refused:
            while True:
                self.write(self.at("fill", f"file number {count}"), self.rng.randbytes(max(self.block, 1024)))
                count += 1
        with refused:
            os.unlink(self.at("fill", f"file number {count}"))
        for number in range(0, count, step):
            os.unlink(self.at("fill", f"file number {number}"))
        return count

    def fragmented(self):
        self.gaps()
        with open(self.at("fragmented.bin"), "ab", buffering=0) as file, refused:
            for _ in range(3000):
                file.write(self.rng.randbytes(self.block))

    def fragmented_mft(self):
        """Leaves only gaps of one cluster, then makes $MFT grow into them."""
        count = self.gaps()
        for number in range(1, count, 4):
            self.write(self.at("fill", f"file number {number}"), b"")
        with refused:
            for number in range(count):
                self.write(self.at(str(number)), str(number).encode())
