//! ext by `mke2fs -d`, XFS and btrfs by mkfs and, where root may, by the kernel.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Bench, files};

const UUID: &str = "6f1b0f2a-52a5-4a34-9d35-2f1f4f0d6a01";

pub const EXT: [(&str, u64); 10] = [
    ("-t ext2 -b 1024 -I 128 -N 128", 768),
    ("-t ext3 -b 1024 -g 256 -N 256 -J size=1 -O ^sparse_super,^resize_inode", 3072),
    ("-t ext4 -b 1024 -N 256 -O ^metadata_csum,^has_journal,inline_data -I 256", 768),
    ("-t ext4 -b 1024 -g 256 -N 256 -O ^metadata_csum,^has_journal,meta_bg,^resize_inode,^64bit", 1024),
    ("-t ext4 -b 4096 -N 256 -O ^metadata_csum,^has_journal,bigalloc -C 16384", 2048),
    ("-t ext4 -b 1024 -N 256 -O metadata_csum,^has_journal,dir_index", 1024),
    (
        "-t ext4 -b 1024 -g 256 -N 256 -O metadata_csum,metadata_csum_seed,64bit,^flex_bg,^has_journal,^resize_inode",
        1280,
    ),
    ("-t ext4 -b 2048 -N 128 -O metadata_csum,inline_data,ea_inode,large_dir,project,quota,^has_journal -I 512", 1280),
    ("-t ext4 -b 1024 -N 256 -J size=1", 3072),
    ("-t ext4 -b 1024 -N 256 -O ^metadata_csum,uninit_bg,^has_journal", 1280),
];

pub fn ext(bench: &Bench, options: &str) -> Option<()> {
    let source = bench.path("source");
    files::unix(&source, 40)?;
    let options = format!("-q -F -U {UUID} -E hash_seed={UUID} {options} -d {}", source.display());
    bench.on_image("mke2fs", &options).map(drop)
}

/// Options that begin with "mount" are for the kernel to fill.
pub const XFS: [(&str, u64); 6] = [
    ("-m crc=0,finobt=0 -b size=1024 -i size=256 -l size=4m -d agcount=1", 20 << 10),
    ("-m crc=0 -b size=4096 -n ftype=0 -l size=4m -d agcount=1", 20 << 10),
    ("-b size=1024 -l size=4m -d agcount=1", 20 << 10),
    ("mount -b size=1024 -l size=4m -d agcount=2", 40 << 10),
    ("mount -b size=4096 -m rmapbt=1,reflink=1,bigtime=1,inobtcount=1 -n size=8192 -l size=16m -d agcount=2", 80 << 10),
    ("mount -b size=1024 -i size=512,nrext64=1 -m finobt=0 -l size=12m -d agcount=1", 40 << 10),
];

pub fn xfs(bench: &Bench, options: &str) -> Option<()> {
    let (mount, options) = options.strip_prefix("mount ").map_or((false, options), |rest| (true, rest));
    let uuid = if options.contains("crc=0") { String::new() } else { format!(" -m uuid={UUID}") };
    if mount {
        bench.on_image("mkfs.xfs", &format!("--unsupported -q -f{uuid} {options}"))?;
        return bench.kernel("loop", |top| {
            files::unix(top, 150)?;
            files::attribute(&top.join("whole"), "user.larger", &"l".repeat(9000));
            let holes = fs::OpenOptions::new().write(true).open(top.join("holes")).ok()?;
            use std::os::unix::fs::FileExt;
            (0..200).try_for_each(|number| holes.write_all_at(&[5; 1024], number * 2048)).ok()
        });
    }
    let prototype = prototype(bench);
    bench.on_image("mkfs.xfs", &format!("--unsupported -q -f{uuid} {options} -p {}", prototype.display())).map(drop)
}

/// The file that `mkfs.xfs -p` wants.
fn prototype(bench: &Bench) -> std::path::PathBuf {
    let (content, path) = (bench.path("content"), bench.path("prototype"));
    fs::write(&content, files::text(3000)).unwrap();
    let mut text = String::from("boot 0 0\nd--755 0 0\n");
    (0..120).for_each(|number| writeln!(text, "a-longer-name-{number} ---644 1 2 {}", content.display()).unwrap());
    writeln!(text, "short l--777 0 0 target\nlong l--777 0 0 {}", "long/".repeat(120)).unwrap();
    text.push_str("device b--640 0 6 8 17\nempty d--700 3 4\n$\n$\n");
    fs::write(&path, text).unwrap();
    path
}

pub const BTRFS: [(&str, u64); 4] = [
    ("zstd -M -m single -d single -n 4096", 64 << 10),
    ("lzo -M -m single -d single -n 4096 -O ^no-holes", 64 << 10),
    ("zlib -m dup -d single -n 4096 -R quota", 128 << 10),
    ("zstd -m single -d single -n 16384 --csum xxhash", 128 << 10),
];

pub fn btrfs(bench: &Bench, options: &str) -> Option<()> {
    let (compression, options) = options.split_once(' ')?;
    bench.on_image("mkfs.btrfs", &format!("-q -f -U {UUID} {options}"))?;
    bench.kernel(&format!("loop,compress-force={compression}"), |top| {
        files::unix(top, 40)?;
        let subvolume = |words: &[&str]| {
            let output = Command::new("btrfs").arg("subvolume").args(words).current_dir(top).output().ok()?;
            output.status.success().then_some(())
        };
        subvolume(&["create", "sub"])?;
        fill_more(&top.join("sub"))?;
        subvolume(&["snapshot", ".", "sub/snapshot"])?;
        subvolume(&["snapshot", "-r", "sub", "read-only"])
    })
}

fn fill_more(folder: &Path) -> Option<()> {
    files::plain(folder, 25)?;
    fs::write(folder.join("noise"), files::noise(100_000)).ok()?;
    fs::write(folder.join("text"), files::text(300_000)).ok()
}
