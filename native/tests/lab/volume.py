"""Images: made, mounted and checked. What is mounted or attached is gone again at the end of the `with`."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from fill import Fill
from matrix import ROWS

MIB = 1 << 20
#: Bytes behind what the file system uses; FAT, exFAT and NTFS use all.
TAIL = {"ext": 512, "xfs": 512, "btrfs": 512}
SYSTEM_ID = {"fat": "c", "ntfs": "7", "exfat": "7"}
CHECKS = {
    "ext": "e2fsck -fn",
    # One allocation group has no second superblock to compare with: only an order makes xfs_repair look at it.
    "xfs": "xfs_repair -n -f -o force_geometry",
    "btrfs": "btrfs check --readonly --check-data-csum",
    "fat": "fsck.fat -n",
    "exfat": "fsck.exfat -n",
    "ntfs": "ntfsfix -n",
}


class Impossible(Exception):
    """This machine cannot make the image: a reason, not a failure."""


def run(*words, **more):
    """What a command prints; LC_ALL and TZ are those of the map."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC", "MTOOLS_SKIP_CHECK": "1"}
    words = [str(word) for word in words]
    if not shutil.which(words[0]):
        raise Impossible(f"{words[0]} is not installed")
    done = subprocess.run(words, capture_output=True, env=environment, **more)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:9])}: {(done.stderr + done.stdout)[-2000:].decode(errors='replace')}")
    return done.stdout


@contextlib.contextmanager
def scratch():
    # Memory where there is some: the work waits for the disk again and again.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="imager-lab-", dir=memory) as folder:
        yield Path(folder)


@contextlib.contextmanager
def attached(image, sector=512):
    device = run("losetup", "--find", "--show", "--sector-size", sector, image).decode().strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@contextlib.contextmanager
def mounted(image, fs, options=""):
    with contextlib.ExitStack() as stack:
        top = stack.enter_context(scratch())
        if fs == "ntfs":
            options = ",".join(filter(None, ["no_detach,streams_interface=xattr,compression", options]))
            stack.enter_context(daemon(top, "ntfs-3g", "-o", options, image, top))
        elif fs == "exfat":  # it wants a block device; with -d its end can be waited for
            device = stack.enter_context(attached(image))
            stack.enter_context(daemon(top, "mount.exfat-fuse", "-d", device, top))
        else:
            kind = [] if fs == "ext" else ["-t", fs]
            try:
                run("mount", *kind, "-o", ",".join(filter(None, ["loop", options])), image, top)
            except RuntimeError as error:
                raise Impossible(f"this kernel does not mount it: {error}") from error
            stack.callback(run, "umount", top)
        yield top


@contextlib.contextmanager
def daemon(top, *words):
    if not shutil.which(words[0]):
        raise Impossible(f"{words[0]} is not installed")
    before = os.stat(top).st_dev
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen([str(word) for word in words], **quiet)
    while os.stat(top).st_dev == before:
        if child.poll() is not None:
            raise Impossible(f"{words[0]} ended with {child.returncode}")
        time.sleep(0.005)
    try:
        yield
    finally:
        run("umount", top)
        child.wait()  # only then is the volume whole


def make(name, seed, image):
    """The image of a row. Beside one that nobody mounts here, its folder: IMAGE.tree."""
    row = ROWS[name]
    if row.fs == "disk":
        return make_disk(row, seed, image)
    size = int(row.mib * MIB) // 512 * 512 + TAIL.get(row.fs, 0)
    with open(image, "wb") as file:
        file.truncate(size)
    if row.mount == "mtools":
        run(*row.mkfs.split(), image)
        return fill_with_mtools(row, seed, image)
    if row.mount == "none":
        return make_from_folder(row, seed, image)
    run(*row.mkfs.split(), image)
    with mounted(image, row.fs, row.mount) as top:
        work(row, seed, top)


def work(row, seed, top):
    fill = Fill(top, seed, row.block)
    for step in row.steps:
        getattr(fill, step)()
    fill.sync()


def make_from_folder(row, seed, image):
    folder = Path(f"{image}.tree")
    folder.mkdir()
    work(row, seed, folder)
    with scratch() as aside:
        proto, second = aside / "proto", aside / "second"
        if "{second}" in row.mkfs:
            second.touch()
            os.truncate(second, os.path.getsize(image))
        if "{proto}" in row.mkfs:
            proto.write_text(prototype(folder))
        words = row.mkfs.format(tree=folder, proto=proto, second=second).split()
        run(*words, image)
        if "-O quota" in row.mkfs:
            # mke2fs fills the folder, but not the quota files: they are an error until its check has made them right.
            subprocess.run(["e2fsck", "-fy", image], capture_output=True, check=False)


def prototype(folder):
    """What `mkfs.xfs -p` wants. It knows no names with blanks and no second names: these leave the folder."""
    lines, seen = ["/", "0 0", "d--755 0 0"], set()

    def visit(below):
        for entry in sorted(os.scandir(below), key=lambda entry: entry.name):
            if entry.is_dir():
                lines.append(f"{entry.name} d--750 3 4")
                visit(entry.path)
                lines.append("$")
            elif " " in entry.name or entry.inode() in seen:
                os.unlink(entry.path)
            else:
                seen.add(entry.inode())
                lines.append(f"{entry.name} ---640 1 2 {entry.path}")

    visit(folder)
    return "\n".join([*lines, "$", ""])


def fill_with_mtools(row, seed, image):
    """In two rounds with deletions between them, so that the second goes into the holes of the first."""
    with scratch() as aside:
        for number in range(2):
            folder = aside / str(number)
            folder.mkdir()
            work(row, seed + 1000 * number, folder)
            if number == 0:
                run("mcopy", "-i", image, "-s", "-m", "-Q", *sorted(folder.iterdir()), "::/")
                if "small" in row.steps:
                    run("mdel", "-i", image, "::/small/f*[12]")
                forget_free(image)
            else:
                run("mmd", "-i", image, "::/second")
                noise = aside / "scattered.bin"
                noise.write_bytes(Fill(aside, seed, 1).rng.randbytes(row.block * 9 + 60_000))
                run("mcopy", "-i", image, "-m", noise, "::/")
                if "large" in row.steps:
                    run("mcopy", "-i", image, "-s", "-m", "-Q", *sorted(folder.iterdir()), "::/second")
                run("mattrib", "-i", image, "+r", "::/scattered.bin")


def forget_free(image):
    """Where FAT32 looks for the next free cluster: unknown, so that the holes in front are filled first."""
    with open(image, "r+b") as file:
        for sector in (512, 1024, 4096):
            file.seek(sector)
            if file.read(4) == b"RRaA":
                file.seek(sector + 488)
                file.write(b"\xff" * 8)


def make_disk(row, seed, image):
    """A table of `row.mkfs` over the images of other rows, each at a multiple of 1 MiB."""
    with scratch() as aside:
        parts, at, lines = [], MIB, [f"label: {row.mkfs}"]
        for number, name in enumerate(row.steps):
            part = aside / f"part{number}"
            make(name, seed, part)
            size = -(-os.path.getsize(part) // row.block) * row.block
            os.truncate(part, size)
            logical = row.mkfs == "dos" and len(row.steps) > 4 and number >= 3
            if logical and number == 3:
                rest = sum(int(ROWS[name].mib + 3) * MIB for name in row.steps[3:])
                lines.append(f"start={at // row.block}, size={rest // row.block}, type=f")
            at += MIB * logical
            kind = SYSTEM_ID.get(ROWS[name].fs, "83") if row.mkfs == "dos" else "L"
            lines.append(f"start={at // row.block}, size={size // row.block}, type={kind}")
            parts.append((part, at))
            at = -(-(at + size) // MIB) * MIB
        with open(image, "wb") as file:
            file.truncate(at + 4 * MIB)
        with attached(image, row.block) as device:
            table = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", device]
            run(*table, input="\n".join(lines).encode())
        for part, at in parts:
            run("dd", f"if={part}", f"of={image}", "bs=1M", f"seek={at // MIB}", "conv=notrunc,sparse", "status=none")


@contextlib.contextmanager
def volumes(name, image):
    """Index, file system and image of each volume; those on a disk are carved out where sfdisk says they are."""
    row = ROWS[name]
    if row.fs != "disk":
        yield [(0, row.fs, Path(image))]
        return
    with scratch() as aside, attached(image, row.block) as device:
        found = []
        dump = run("sfdisk", "--dump", device).decode()
        for index, start, size, kind in re.findall(r"p?(\d+) : start= *(\d+), size= *(\d+), type=([^,\s]+)", dump):
            if kind == "f":
                continue
            part = aside / index
            skip, count = int(start) * row.block, int(size) * row.block
            flags = ["iflag=skip_bytes,count_bytes", "conv=sparse", "status=none"]
            run("dd", f"if={image}", f"of={part}", "bs=64K", f"skip={skip}", f"count={count}", *flags)
            found.append((int(index), ROWS[row.steps[len(found)]].fs, part))
        yield found


def check(name, image):
    """The file system's own check of each volume."""
    with volumes(name, image) as found:
        for _, fs, path in found:
            run(*CHECKS[fs].split(), path)
