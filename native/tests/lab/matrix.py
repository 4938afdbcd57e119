"""The images: one line each. A step is a method of Fill; `shows` is what the map must hold, so that no test passes
because its image came out too plain; `doubt` is in every sentence of doubt; `raw` is why nothing is mapped."""

from collections import namedtuple

Row = namedtuple("Row", "name fs mkfs mib mount steps block shows doubt raw")
SEEDS = 2

POSIX = "small many portable large holes odd_names nodes attributes times churn"
PORTABLE = "small many portable large churn"
#: Filled by mkfs itself, for what this kernel does not mount: from a folder.
TREE = "small many portable large near_holes churn"


def row(fs, name, mkfs, mib, mount="", steps=POSIX, more="", block=4096, shows="", doubt="", raw=""):
    shows = shows.split() if raw or "files:" in shows else ["files:1000", *shows.split()]
    return Row(f"{fs}-{name}", fs, mkfs, mib, mount, (steps + " " + more).split(), block, shows, doubt, raw)


def ext(name, options, mib=64, kind="ext4", block=4096, **more):
    return row("ext", name, f"mke2fs -q -F -t {kind} -b {block} {options}", mib, block=block, **more)


def tree(name, options, mib=96, kind="ext4", block=4096, **more):
    return ext(name, options + " -d {tree}", mib, kind, block, steps=TREE, mount="none", **more)


EXT = [
    ext("2-1k", "", kind="ext2", block=1024, shows="holes"),
    ext("2-2k", "-I 128", kind="ext2", block=2048),
    ext("2-4k", "-I 128", kind="ext2"),
    ext("2-old", "-r 0", kind="ext2", block=1024),
    ext("2-no-sparse-super", "-O ^sparse_super,^resize_inode -g 1024", kind="ext2", block=1024),
    ext("2-no-filetype", "-O ^filetype,^dir_index", kind="ext2", block=1024),
    ext("3-1k", "", kind="ext3", block=1024),
    ext("3-2k", "", kind="ext3", block=2048),
    ext("3-4k", "-I 128", kind="ext3"),
    ext("4k", "", shows="unwritten holes"),
    ext("2k", "", block=2048, shows="unwritten holes"),
    ext("1k", "", block=1024, shows="unwritten holes"),
    ext("sums", "-O metadata_csum,metadata_csum_seed,64bit", block=1024),
    ext("uninit-bg", "-O ^64bit,^metadata_csum,uninit_bg", block=1024),
    ext("no-sums", "-O ^64bit,^metadata_csum,^uninit_bg", block=1024),
    ext("32bit-sums", "-O ^64bit,metadata_csum", block=2048),
    ext("inode-128", "-I 128"),
    ext("inode-1024", "-I 1024"),
    ext("inline-256", "-O inline_data -I 256", block=1024, shows="resident"),
    ext("inline-512", "-O inline_data -I 512", shows="resident"),
    ext("inline-1024", "-O inline_data -I 1024", block=2048, shows="resident"),
    ext("bigalloc", "-O bigalloc -C 16384"),
    ext("bigalloc-64k", "-O bigalloc -C 65536", mib=128),
    ext("bigalloc-1k", "-O bigalloc -C 8192", block=1024),
    ext("bigalloc-inline", "-O bigalloc,inline_data -C 16384 -I 256", shows="resident"),
    ext("block-maps", "-O ^extents,^64bit,^bigalloc", block=1024),
    ext("block-maps-4k", "-O ^extents,^64bit"),
    ext("meta-bg", "-g 1024 -O meta_bg,^resize_inode", block=1024),
    ext("meta-bg-4k", "-O meta_bg,^resize_inode,^flex_bg"),
    ext("no-flex-bg", "-g 2048 -O ^flex_bg", block=1024),
    ext("flex-16", "-G 2 -g 1024", block=1024),
    ext("packed-tables", "-E packed_meta_blocks=1 -g 1024", block=1024),
    ext("no-journal", "-O ^has_journal,^sparse_super,^resize_inode"),
    ext("two-copies", "-O sparse_super2,^resize_inode -N 20000", block=1024),
    ext("one-copy", "-O sparse_super2,^resize_inode -E num_backup_sb=1"),
    ext("value-inodes", "-O ea_inode"),
    ext("large-dir", "-O large_dir", block=1024),
    ext("no-index", "-O ^dir_index,^dir_nlink", block=1024),
    ext("fast-commit", "-O fast_commit,orphan_file -J size=4"),
    ext("mmp", "-O mmp,verity,stable_inodes"),
    ext("small-inodes-extra", "-O ^extra_isize,^huge_file -I 256"),
    ext("lazy", "-E lazy_itable_init=1,lazy_journal_init=1,discard -g 2048", block=1024),
    ext("encrypt", "-O encrypt", more="secret", shows="encrypted", doubt="ciphertext"),
    ext("encrypt-inline", "-O encrypt,inline_data -I 256", block=1024, more="secret", shows="encrypted resident", doubt="ciphertext"),
    tree("casefold", "-O casefold -E encoding=utf8"),
    tree("quota", "-O quota,project -I 256"),
    tree("8k", "", block=8192),
    # Not with inline_data: this mke2fs copies files with holes wrongly then, as debugfs shows too.
    tree("16k", "", block=16384),
    tree("64k", "", mib=192, block=65536),
    tree("64k-maps", "-O ^extents,^64bit", mib=192, block=65536),
    tree("64k-bigalloc", "-O bigalloc -C 262144", mib=512, block=65536),
]


def xfs(name, options, mib=320, block=4096, more="many_attributes", **rest):
    return row("xfs", name, f"mkfs.xfs -q -f -b size={block} {options}", mib, more=more, block=block, **rest)


def old_xfs(name, options, block=4096):
    command = f"mkfs.xfs --unsupported -q -f -m crc=0 -b size={block} {options} -p {{proto}}"
    return row("xfs", name, command, 96, mount="none", steps=TREE, block=block)


SHARE = "many_attributes clones"
XFS = [
    xfs("default", "", more=SHARE, shows="unwritten holes shared"),
    xfs("1k", "-i nrext64=1 -m bigtime=1,inobtcount=1", block=1024, more=SHARE, shows="shared"),
    xfs("2k", "-n size=8192", block=2048, more=SHARE),
    xfs("8k", "", block=8192, mib=400),
    xfs("16k", "-m rmapbt=1", block=16384, mib=600, more=SHARE),
    xfs("64k", "-m reflink=0", block=65536, mib=2000),
    xfs("odd-groups", "-d size=700m", mib=700),
    xfs("rmap", "-m reflink=1,rmapbt=1 -d agcount=5", mib=500, more=SHARE, shows="shared"),
    xfs("sparse", "-i sparse=1,size=1024 -n size=8192", more=SHARE + " scattered_space"),
    xfs("no-sparse", "-i sparse=0"),
    xfs("old-times", "-s size=4096 -m bigtime=0,reflink=0 -n size=65536"),
    xfs("no-finobt", "-m finobt=0,inobtcount=0,reflink=0"),
    xfs("no-inobtcount", "-m inobtcount=0"),
    xfs("nrext64", "-i nrext64=1,size=2048", more=SHARE),
    xfs("inode-2048", "-i size=2048 -n size=16384"),
    xfs("inode-512-1k", "-i size=512 -n size=4096", block=1024),
    xfs("one-group", "-d agcount=1 --unsupported", mib=128),
    xfs("many-groups", "-d agcount=8 -l size=64m", mib=1000),
    xfs("stripe", "-d su=64k,sw=4 -l size=64m,su=32k", mib=640),
    old_xfs("v4", "-i size=256"),
    old_xfs("v4-1k", "-m finobt=0 -i size=256 -d agcount=2", block=1024),
    old_xfs("v4-512", "-i size=256 -n ftype=0", block=512),
    old_xfs("v4-no-ftype", "-n ftype=0 -i size=512"),
    old_xfs("v4-ci", "-n version=ci"),
]


def btrfs(name, options, mount="", mib=256, **more):
    more.setdefault("more", "clones subvolumes")
    return row("btrfs", name, f"mkfs.btrfs -q -f -L label {options}", mib, mount=mount, **more)


def btrfs_tree(name, options, **more):
    return btrfs(name, options + " --rootdir {tree}", mount="none", steps=TREE, more="", **more)


BTRFS = [
    btrfs("plain", "", shows="resident shared subvolumes:4 unwritten holes"),
    btrfs("single", "-m single -d single", mib=200),
    btrfs("dup", "-m dup -d dup", mib=400),
    btrfs("zlib", "-n 16384", "compress-force=zlib", shows="zlib"),
    btrfs("zstd", "-n 16384", "compress-force=zstd:3", shows="zstd"),
    btrfs("lzo", "-n 32768 -m single", "compress-force=lzo", shows="lzo"),
    btrfs("zlib-4k", "-n 4096 -m single", "compress=zlib", shows="zlib"),
    btrfs("zstd-64k", "-n 65536", "compress=zstd:9", mib=320, shows="zstd"),
    btrfs("lzo-64k", "-n 65536 -m single", "compress=lzo", shows="lzo"),
    btrfs("holes", "-O ^no-holes", "compress-force=zlib", shows="zlib"),
    btrfs("holes-plain", "-O ^no-holes -m single"),
    btrfs("mixed", "-M -n 4096", "compress=zstd", mib=160, shows="zstd"),
    btrfs("mixed-plain", "-M -n 4096", mib=160),
    btrfs("no-inline", "-m single", "max_inline=0", mib=200),
    btrfs("inline-4095", "-n 65536 -m single", "max_inline=4095", shows="resident"),
    btrfs("no-sums", "", "nodatasum"),
    btrfs("no-cow", "", "nodatacow"),
    btrfs("old-space-cache", "-R ^free-space-tree", "space_cache=v1"),
    btrfs("quota", "-R quota"),
    btrfs("fat-extents", "-O ^skinny-metadata,^extref"),
    btrfs("sha256", "--csum sha256 -m single", mib=200),
    btrfs("xxhash", "--csum xxhash", doubt="not verified"),
    btrfs("blake2", "--csum blake2", "compress=zstd", doubt="not verified"),
    btrfs_tree("sectors-8k", "-s 8192"),
    btrfs_tree("sectors-64k", "-s 65536 -n 65536", mib=600),
    btrfs("two-devices", "-m raid1 {second}", mount="none", steps="", more="", raw="2 devices"),
]


def fat(name, options, kib, files="", **more):
    sector = int(options.split("-S ")[1].split()[0]) if "-S " in options else 512
    block = sector * int(options.split("-s ")[1].split()[0])
    command = f"mkfs.fat {options} -n LABEL -i 1234ABCD"
    return row("fat", name, command, kib / 1024, mount="mtools", steps=files or PORTABLE, block=block, **more)


LITTLE = "small portable"
FAT = [
    fat("12-tiny", "-F 12 -s 1", 700, files="portable", shows="files:25"),
    fat("16-tiny", "-F 16 -s 1", 2600, files="portable", shows="files:25"),
    fat("32-tiny", "-F 32 -s 1", 34_000, files="portable", shows="files:25"),
    fat("12-s1", "-F 12 -s 1", 2040, files="portable", shows="files:25"),
    fat("12-s8", "-F 12 -s 8", 15_003, files=LITTLE, shows="files:200 fragments:4"),
    fat("12-s64", "-F 12 -s 64", 60_001, files=LITTLE, shows="files:200 fragments:4"),
    fat("12-one", "-F 12 -s 16 -f 1", 30_000, files=LITTLE, shows="files:200"),
    fat("16-s1", "-F 16 -s 1", 30_000, shows="fragments:4"),
    fat("16-s2", "-F 16 -s 2 -r 1024", 50_000),
    fat("16-s8", "-F 16 -s 8 -f 1 -R 9", 60_007),
    fat("16-s32", "-F 16 -s 32", 400_000),
    fat("16-s128", "-F 16 -s 128", 500_000),
    fat("16-S4096", "-F 16 -s 1 -S 4096", 60_000),
    fat("32-s1", "-F 32 -s 1", 41_003, shows="fragments:4"),
    fat("32-s2", "-F 32 -s 2", 90_000),
    fat("32-s8", "-F 32 -s 8", 290_001),
    fat("32-s64", "-F 32 -s 64", 2_200_000),
    fat("32-one", "-F 32 -s 1 -f 1", 50_000),
    fat("32-S1024", "-F 32 -s 1 -S 1024", 90_000),
    fat("32-S4096", "-F 32 -s 1 -S 4096", 290_000),
]


def exfat(name, options, mib, **more):
    return row("exfat", name, f"mkfs.exfat {options} -L LABEL", mib, **{"steps": PORTABLE, **more})


EXFAT = [
    exfat("tiny", "-b 4K -c 512", 1.25, steps="portable", block=512, shows="files:24"),
    exfat("512", "-c 512", 24, block=512),
    exfat("1k", "-c 1K", 40, block=1024),
    exfat("4k", "-c 4K", 40),
    exfat("32k", "-c 32K", 96),
    exfat("64k", "-c 64K", 160),
    exfat("128k", "-c 128K", 400),
    exfat("aligned", "-c 4K -b 4M", 64),
]

WINDOWS = "small many portable large near_holes odd_names nodes churn"


def ntfs(name, options, mib=64, mount="", steps=WINDOWS, **more):
    more.setdefault("shows", "resident valid streams")
    if steps is WINDOWS:
        more["more"] = "streams " + more.get("more", "")
    return row("ntfs", name, f"mkntfs -F -Q -q -L Größe {options}", mib, mount=mount, steps=steps, **more)


PACKED = {"more": "compressed", "shows": "resident valid streams compressed"}
NTFS = [
    ntfs("tiny", "-c 512", 4, block=512, steps="portable compressed streams fragmented", shows="files:300 compressed streams fragments:100"),
    ntfs("512", "-c 512", block=512, **PACKED),
    ntfs("1k", "-c 1024", block=1024, **PACKED),
    ntfs("2k", "-c 2048", block=2048, **PACKED),
    ntfs("4k", "-c 4096", **PACKED),
    ntfs("8k", "-c 8192"),
    ntfs("16k", "-c 16384", mib=96),
    ntfs("32k", "-c 32768", mib=160),
    ntfs("64k", "-c 65536", mib=256),
    ntfs("128k", "-c 131072", mib=400),
    ntfs("256k", "-c 262144", mib=700),
    ntfs("2m", "-c 2097152", mib=1200, steps="small portable", shows="files:280 resident"),
    ntfs("4Kn", "-s 4096 -c 4096", **PACKED),
    ntfs("4Kn-64k", "-s 4096 -c 65536", mib=256),
    ntfs("sectors-1k", "-s 1024 -c 1024", block=1024, **PACKED),
    ntfs("indexed", "-c 4096 -I"),
    ntfs("lists", "-c 4096", mib=48, steps="small fragmented", shows="resident fragments:400"),
    ntfs("mft", "-c 1024", mib=12, steps="fragmented_mft", block=1024, shows="resident"),
    ntfs("reparse", "-c 4096", mount="special_files=wsl", steps="small many large nodes reparse_points", shows="resident"),
]


def disk(name, table, sector, *members):
    return Row(f"disk-{name}", "disk", table, 0, "", members, sector, ["files:1000"], "", "")


DISKS = [
    disk("gpt-linux", "gpt", 512, "ext-4k", "xfs-default", "btrfs-plain"),
    disk("gpt-windows", "gpt", 512, "fat-32-s1", "ntfs-4k", "exfat-4k"),
    disk("gpt-4Kn", "gpt", 4096, "fat-32-S4096", "ext-4k", "ntfs-4Kn"),
    disk("gpt-4Kn-linux", "gpt", 4096, "xfs-old-times", "btrfs-zstd", "ext-inline-512"),
    disk("mbr", "dos", 512, "ntfs-4k", "ext-3-1k", "fat-16-s8", "ext-2-4k", "exfat-32k"),
    disk("mbr-4Kn", "dos", 4096, "fat-16-S4096", "ext-4k", "ntfs-4Kn-64k"),
]

ROWS = {row.name: row for row in EXT + XFS + BTRFS + FAT + EXFAT + NTFS + DISKS}
assert len(ROWS) == sum(map(len, (EXT, XFS, BTRFS, FAT, EXFAT, NTFS, DISKS)))
