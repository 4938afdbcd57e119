//! Everything in an ext image that has a checksum, and what a wrong one costs. Seeded damage of all kinds is in
//! `hostile.rs`.

mod skips;

use std::fs;
use std::path::Path;
use std::process::Command;

use imager_native::disk::volume::Volume;
use imager_native::fs::ext;

const KIB: usize = 1024;
const OPTIONS: &str = "-t ext4 -b 1024 -N 256 -O metadata_csum,^has_journal";
const IMAGE_KIB: u64 = 768;

#[test]
fn a_wrong_checksum_costs_what_it_covers() {
    let Some(image) = make() else {
        return skips::skipped("mke2fs -d makes no image");
    };
    let le32 = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize;
    let good = ext::map(Volume::whole(&image)).unwrap();
    assert_eq!((good.file_system, good.doubts.len()), ("ext4", 0));
    let (bitmap, table) = (le32(2 * KIB) * KIB, le32(2 * KIB + 8) * KIB);
    let flipped = |at: usize| {
        let mut damaged = image.clone();
        damaged[at] ^= 1;
        ext::map(Volume::whole(&damaged))
    };
    assert!(flipped(KIB + 0x88).unwrap_err().to_string().contains("s_checksum"));
    assert!(flipped(2 * KIB + 0xc).unwrap_err().to_string().contains("root"), "the only group's descriptor");

    let map = flipped(bitmap).unwrap();
    assert_eq!((map.allocated.len(), map.allocated[0].length), (1, image.len() as u64), "the whole group is kept");
    assert_eq!((map.doubts.len(), map.files.len()), (1, good.files.len()));

    let named = |name: &[u8]| good.entries.iter().find(|entry| entry.name == name).unwrap().child;
    let holes = named(b"holes");
    let inode = table + (holes as usize - 1) * 256;
    let map = flipped(inode + 0x10).unwrap();
    assert!(map.files.iter().all(|file| file.number != holes) && map.doubts.len() == 2, "{:?}", map.doubts);
    assert_eq!(map.allocated, good.allocated);
    // The root of its tree leads to a leaf: header, then ei_block and ei_leaf_lo.
    let map = flipped(le32(inode + 0x28 + 12 + 4) * KIB + 500).unwrap();
    assert!(map.doubts[0].contains("checksum of a node"), "{:?}", map.doubts);

    let below = table + (named(b"below") as usize - 1) * 256;
    let map = flipped(le32(below + 0x28 + 12 + 8) * KIB + 30).unwrap();
    assert!(map.doubts[0].contains("checksum of a block"), "{:?}", map.doubts);
    assert!(map.entries.len() < good.entries.len() && map.files.len() == good.files.len());
}
fn make() -> Option<Vec<u8>> {
    let directory = std::env::temp_dir().join(format!("imager-ext-damage-{}", std::process::id()));
    let (source, image) = (directory.join("source"), directory.join("image"));
    fill(&source);
    fs::File::create(&image).unwrap().set_len(IMAGE_KIB * KIB as u64).unwrap();
    let mut mkfs = Command::new("mke2fs");
    mkfs.args(["-q", "-F"]).args(OPTIONS.split(' ')).arg("-d").arg(&source).arg(&image);
    let made = mkfs.output().is_ok_and(|output| output.status.success());
    let bytes = made.then(|| fs::read(&image).unwrap());
    let _ = fs::remove_dir_all(&directory);
    bytes
}

/// A file with a tree of extents or indirect blocks, small ones, short and long targets, a directory of two blocks.
fn fill(source: &Path) {
    fs::create_dir_all(source.join("below/deeper")).unwrap();
    let mut holes = vec![0u8; 120 * KIB];
    holes.chunks_mut(8 * KIB).for_each(|chunk| chunk[..KIB].fill(7));
    fs::write(source.join("holes"), holes).unwrap();
    fs::write(source.join("whole"), vec![9; 40 * KIB]).unwrap();
    for number in 0..40usize {
        let name = format!("below/file-{}", "n".repeat(number));
        fs::write(source.join(name), vec![1; number * 7]).unwrap();
    }
    std::os::unix::fs::symlink("short", source.join("below/deeper/short")).unwrap();
    std::os::unix::fs::symlink("long/".repeat(30), source.join("below/deeper/long")).unwrap();
    let attribute = ["-n", "user.mime", "-v", "text/plain"];
    let _ = Command::new("setfattr").args(attribute).arg(source.join("whole")).output();
}
