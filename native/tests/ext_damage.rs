//! Damaged ext images: whatever the bytes say, the map ends soon, does not panic, and stays inside the volume.
//! The images carry no checksums, or damage is kept off the checksummed parts, so that it reaches the parsers.
//! `IMAGER_MUTATIONS` sets the count, `IMAGER_SEED` repeats a run.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use imager_native::fs::{Content, VolumeMap, ext};
use imager_native::volume::Volume;

const MUTATIONS: u64 = 12_000;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const MOST: Duration = Duration::from_secs(1);
const KIB: usize = 1024;

/// mkfs options and KiB. Blocks of 1 KiB, so that trees are deep and groups many.
const IMAGES: [(&str, u64); 6] = [
    ("-t ext2 -b 1024 -I 128 -N 128", 512),
    ("-t ext3 -b 1024 -g 256 -N 256 -J size=1 -O ^sparse_super,^resize_inode", 3072),
    ("-t ext4 -b 1024 -N 256 -O ^metadata_csum,^has_journal,inline_data -I 256", 768),
    ("-t ext4 -b 1024 -g 256 -N 256 -O ^metadata_csum,^has_journal,meta_bg,^resize_inode,^64bit", 1024),
    ("-t ext4 -b 4096 -N 256 -O ^metadata_csum,^uninit_bg,^has_journal,bigalloc -C 16384", 1024),
    ("-t ext4 -b 1024 -N 256 -O metadata_csum,^has_journal", 768),
];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

#[test]
fn damage_never_panics_hangs_or_leaves_the_volume() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let mutations = variable("IMAGER_MUTATIONS").unwrap_or(MUTATIONS);
    let seed = variable("IMAGER_SEED").unwrap_or(SEED).max(1);
    let images = images();
    if images.is_empty() {
        println!("ext: skipped, mkfs.ext4 -d is not there");
        return;
    }
    // Pieces of 64 bytes that are not all zeros.
    let pieces = |image: &Vec<u8>| {
        (0..image.len() / 64).filter(|at| image[at * 64..][..64].iter().any(|&byte| byte != 0)).collect::<Vec<_>>()
    };
    let used: Vec<Vec<usize>> = images.iter().map(pieces).collect();
    let mut random = Random(seed);
    let (mut mapped, mut slowest) = (0, Duration::ZERO);
    for number in 0..mutations {
        let at = number as usize % images.len();
        let damaged = damage(&images[at], &used[at], &mut random);
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| ext::map(Volume::whole(&damaged))));
        let elapsed = started.elapsed();
        let outcome = outcome.unwrap_or_else(|_| panic!("mutation {number} of seed {seed} panicked"));
        assert!(elapsed < MOST, "mutation {number} of seed {seed} took {elapsed:?}");
        slowest = slowest.max(elapsed);
        if let Ok(map) = outcome {
            mapped += 1;
            check(&map, damaged.len() as u64, &format!("mutation {number} of seed {seed}"));
        }
    }
    println!("ext: {mutations} mutations, {mapped} mapped, slowest {slowest:?}");
    assert!(mapped * 10 > mutations, "most damage should reach the files");
}

/// Everything with a checksum, one flipped bit each, in an image whose checksums are all right.
#[test]
fn a_wrong_checksum_costs_what_it_covers() {
    let Some(image) = images().pop() else {
        println!("ext: skipped, mkfs.ext4 -d is not there");
        return;
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

/// What holds of every map, however bad the volume is.
fn check(map: &VolumeMap, length: u64, what: &str) {
    let mut end = 0;
    for range in &map.allocated {
        assert!(range.length > 0 && range.start >= end && range.end() <= length, "{what}: {range:?}");
        end = range.end();
    }
    assert!(map.files.windows(2).all(|pair| pair[0].number < pair[1].number), "{what}: files");
    let key = |at: usize| (map.entries[at].parent, &map.entries[at].name);
    assert!((1..map.entries.len()).all(|at| key(at - 1) < key(at)), "{what}: entries");
    for stream in map.files.iter().flat_map(|file| &file.streams) {
        match &stream.content {
            Content::Resident(bytes) => assert_eq!(bytes.len() as u64, stream.size, "{what}"),
            Content::Extents(extents) => {
                let mut end = 0;
                for extent in extents {
                    let inside = extent.length > 0 && extent.disk + extent.length <= length;
                    assert!(inside && extent.logical >= end, "{what}: {extent:?}");
                    let range = &map.allocated[map.allocated.partition_point(|range| range.start <= extent.disk) - 1];
                    assert!(extent.disk + extent.length <= range.end(), "{what}: {extent:?} is not kept");
                    end = extent.logical + extent.length;
                }
            }
        }
    }
}

/// One to twelve edits: half of them of 32-bit fields, most of them where the tables are.
fn damage(image: &[u8], used: &[usize], random: &mut Random) -> Vec<u8> {
    let mut bytes = image.to_vec();
    // A mutated superblock with checksums is refused at once.
    let sealed = bytes[1024 + 0x65] & 4 != 0;
    for _ in 0..1 + random.below(12) {
        let from = match random.below(8) {
            0 if !sealed => KIB + random.below(KIB),
            0..6 => used[random.below(used.len())] * 64 + random.below(64),
            _ => random.below(bytes.len() - 4),
        };
        if sealed && (KIB..3 * KIB).contains(&from) {
            continue;
        }
        let at = from.min(bytes.len() - 4) & !3;
        let value = match random.below(6) {
            0 => 0,
            1 => u32::MAX,
            2 => random.next() as u32 % 1024,
            3 => 1 << random.below(32),
            _ => random.next() as u32,
        };
        match random.below(3) {
            0 => bytes[at + random.below(4)] = value as u8,
            1 => bytes[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes()),
            _ => bytes[at..at + 4].copy_from_slice(&value.to_le_bytes()),
        }
    }
    bytes
}

fn images() -> Vec<Vec<u8>> {
    static MADE: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    MADE.get_or_init(make_images).clone()
}

fn make_images() -> Vec<Vec<u8>> {
    let directory = std::env::temp_dir().join(format!("imager-ext-damage-{}", std::process::id()));
    let source = directory.join("source");
    fill(&source);
    let image = directory.join("image");
    let made = IMAGES.iter().filter_map(|(options, kib)| {
        fs::File::create(&image).ok()?.set_len(kib * KIB as u64).ok()?;
        let mut mkfs = Command::new("mke2fs");
        mkfs.args(["-q", "-F"]).args(options.split(' ')).arg("-d").arg(&source).arg(&image);
        let output = mkfs.output().ok()?;
        if !output.status.success() {
            println!("ext: {options} left out: {}", String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        fs::read(&image).ok()
    });
    let images: Vec<_> = made.collect();
    let _ = fs::remove_dir_all(&directory);
    for image in &images {
        check(&ext::map(Volume::whole(image)).unwrap(), image.len() as u64, "undamaged");
    }
    images
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
