"""Changes files of a mounted file system in seeded ways that leave as few traces as they can.

usage: incremental.py FOLDER SEED COUNT
"""
import ctypes, mmap, os, random, sys

folder, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
libc = ctypes.CDLL(None, use_errno=True)
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
PAGE = 4096


def fallocate(file, mode, at, length):
    libc.fallocate(file, mode, ctypes.c_long(at), ctypes.c_long(length))


def names():
    return sorted(name for name in os.listdir(folder) if os.path.isfile(os.path.join(folder, name)))


def create(path):
    with open(path, "wb") as file:
        file.write(rng.randbytes(rng.choice([0, 50, 5_000, 70_000, 300_000])))


def page_of(path):
    return rng.randrange(max(1, os.path.getsize(path) // PAGE)) * PAGE


def in_place(path):
    with open(path, "r+b") as file:
        file.seek(page_of(path))
        file.write(rng.randbytes(min(PAGE, os.path.getsize(path))))


def same_size(path):
    size = os.path.getsize(path)
    with open(path, "wb") as file:
        file.write(rng.randbytes(size))


def mapped(path):
    if os.path.getsize(path) < PAGE:
        return in_place(path)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        at = page_of(path)
        memory[at : at + 100] = rng.randbytes(100)


def direct(path):
    file = os.open(path, os.O_RDWR | os.O_DIRECT)
    try:
        buffer = mmap.mmap(-1, PAGE)
        buffer.write(rng.randbytes(PAGE))
        os.pwrite(file, buffer, page_of(path))
    finally:
        os.close(file)


def times_back(path):
    before = os.stat(path)
    in_place(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def punch(path):
    file = os.open(path, os.O_RDWR)
    fallocate(file, PUNCH_HOLE | KEEP_SIZE, page_of(path), PAGE * rng.randrange(1, 4))
    os.close(file)


def zero(path):
    file = os.open(path, os.O_RDWR)
    fallocate(file, ZERO_RANGE | KEEP_SIZE, page_of(path), PAGE)
    os.close(file)


def preallocate_and_write(path):
    file = os.open(path, os.O_RDWR)
    size = os.path.getsize(path)
    fallocate(file, KEEP_SIZE, size, 20 * PAGE)
    os.pwrite(file, rng.randbytes(3 * PAGE), size)
    os.close(file)


def append(path):
    with open(path, "ab") as file:
        file.write(rng.randbytes(rng.randrange(1, 10_000)))


def truncate(path):
    os.truncate(path, rng.randrange(os.path.getsize(path) + 1))


def rename_over(path):
    other = path + ".new"
    size = os.path.getsize(path)
    with open(other, "wb") as file:
        file.write(rng.randbytes(size))
    stat = os.stat(path)
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.rename(other, path)


def swap_names(path):
    other = os.path.join(folder, rng.choice(names()))
    if other != path:
        os.rename(path, path + ".x")
        os.rename(other, path)
        os.rename(path + ".x", other)


def replace(path):
    os.unlink(path)
    create(path)


CHANGES = [in_place, same_size, mapped, direct, times_back, punch, zero, preallocate_and_write, append, truncate,
           rename_over, swap_names, replace]
if not names():
    for number in range(60):
        create(os.path.join(folder, f"file {number}"))
else:
    for _ in range(count):
        rng.choice(CHANGES)(os.path.join(folder, rng.choice(names())))
