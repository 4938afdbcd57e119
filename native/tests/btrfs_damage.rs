//! Damaged btrfs images: whatever the bytes say, the map ends soon, does not panic, and stays inside the volume.
//! Checksums are computed again after each edit, so that it reaches the parsers. Needs root, loop devices, btrfs-progs
//! and python3; says so and passes where one is missing.
//! `IMAGER_MUTATIONS` sets the count, `IMAGER_SEED` repeats a run.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

use imager_native::fs::{Content, ExtentKind, VolumeMap, btrfs};
use imager_native::volume::Volume;

const MUTATIONS: u64 = 5_000;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const MOST: Duration = Duration::from_secs(1);
const NODE: usize = 4096;
const SUPERBLOCK: usize = 65536;
const FSID: usize = 0x20;
const HEADER: usize = 0x65;
const FILL: &str = r#"
import os, subprocess, sys
os.chdir(sys.argv[1])
def write(name, data):
    with open(name, "wb") as file: file.write(data)
def btrfs(*arguments): subprocess.run(["btrfs", *arguments], check=True, stdout=subprocess.DEVNULL)
btrfs("subvolume", "create", "sub")
for folder in (".", "sub"):
    for number in range(25):
        write(f"{folder}/file{number}" + "n" * number, b"some text " * number * number * 3)
os.setxattr("file3nnn", "user.mime", b"text/plain" * 10)
os.symlink("target", "link")
os.mknod("device", 0o060640, os.makedev(8, 17))
with open("holes", "wb") as file:
    for number in range(20): os.pwrite(file.fileno(), os.urandom(4096), number * 9000)
btrfs("subvolume", "snapshot", ".", "sub/snapshot")
"#;

#[test]
fn no_damage_hurts() {
    let Some(mut image) = make() else { return };
    let whole = btrfs::map(Volume::whole(&image)).unwrap();
    check(&whole, image.len() as u64);
    assert!(whole.doubts.is_empty() && whole.files.len() > 80, "{:?}", whole.doubts);
    let nodes = live_nodes(&image, &whole);
    assert!(nodes.len() > 10, "{} nodes", nodes.len());
    let number = |name: &str, other: u64| std::env::var(name).map_or(other, |text| text.parse().unwrap());
    let (mutations, seed) = (number("IMAGER_MUTATIONS", MUTATIONS), number("IMAGER_SEED", SEED));
    let (mut refused, mut doubted, mut unmoved) = (0, 0, 0);
    let mut random = Random(seed);
    for mutation in 0..mutations {
        let at = if random.below(20) == 0 { SUPERBLOCK } else { nodes[random.below(nodes.len())] };
        let before = image[at..at + NODE].to_vec();
        edit(&mut image, at, &nodes, &mut random);
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let map = btrfs::map(Volume::whole(&image));
            map.inspect(|map| check(map, image.len() as u64))
        }));
        let elapsed = started.elapsed();
        assert!(elapsed < MOST, "seed {seed}, mutation {mutation}: {elapsed:?}");
        match outcome {
            Ok(Err(_)) => refused += 1,
            Ok(Ok(map)) if map.doubts.is_empty() => unmoved += 1,
            Ok(Ok(_)) => doubted += 1,
            Err(_) => panic!("seed {seed}, mutation {mutation} panicked"),
        }
        image[at..at + NODE].copy_from_slice(&before);
    }
    println!("btrfs: {mutations} edits, seed {seed}: {refused} refused, {doubted} with doubts, {unmoved} without");
    assert!(mutations < 1000 || refused > 0 && doubted > 0);
}

/// What every map must hold, whatever it was made from.
fn check(map: &VolumeMap, length: u64) {
    assert!(map.files.windows(2).all(|pair| pair[0].number < pair[1].number));
    assert!(map.entries.windows(2).all(|pair| (pair[0].parent, &pair[0].name) < (pair[1].parent, &pair[1].name)));
    assert!(map.allocated.windows(2).all(|pair| pair[0].end() < pair[1].start));
    assert!(map.allocated.iter().all(|range| range.length > 0 && range.end() <= length));
    let inside = |from: u64, to: u64| {
        let range = map.allocated.partition_point(|range| range.start <= from).checked_sub(1);
        range.is_some_and(|range| map.allocated[range].end() >= to)
    };
    for file in &map.files {
        assert!(btrfs::subvolume_index(file.number) < map.subvolumes.len() && file.number < 1 << 48);
        for stream in &file.streams {
            match &stream.content {
                Content::Resident(bytes) => assert_eq!(bytes.len() as u64, stream.size),
                Content::Extents(extents) => {
                    let mut end = 0;
                    for extent in extents {
                        assert!(extent.logical >= end && extent.length > 0);
                        assert!(inside(extent.disk, extent.disk + extent.length), "in use");
                        end = extent.logical
                            + match extent.kind {
                                ExtentKind::Packed { raw_length, raw_offset, used, .. } => {
                                    assert!(raw_offset + used <= raw_length);
                                    u64::from(used)
                                }
                                _ => extent.length,
                            };
                    }
                }
            }
        }
    }
}

/// Nodes that the trees use; others are remains of earlier transactions.
fn live_nodes(image: &[u8], map: &VolumeMap) -> Vec<usize> {
    let fsid = &image[SUPERBLOCK + FSID..SUPERBLOCK + FSID + 16];
    let ranges = map.allocated.iter().filter(|range| range.end() < image.len() as u64);
    let places = ranges.flat_map(|range| (range.start as usize..range.end() as usize).step_by(NODE));
    let is_node = |at: &usize| {
        let node = &image[*at..*at + NODE];
        let sum = u32::from_le_bytes(node[..4].try_into().unwrap());
        node[FSID..FSID + 16] == *fsid && *at != SUPERBLOCK && sum == crc32c::crc32c(&node[32..])
    };
    places.filter(|at| at + NODE <= image.len()).filter(is_node).collect()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }
}

/// One to three changes of the headers, the items' heads or their data, then the checksum.
fn edit(image: &mut [u8], at: usize, nodes: &[usize], random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let offset = match random.below(4) {
            0 => 0x20 + random.below(HEADER - 0x20),
            1 => HEADER + random.below(400),
            2 => 0x20 + random.below(NODE - 0x20 - 8),
            _ => NODE - 8 - random.below(1500),
        };
        let other = nodes[random.below(nodes.len())] as u64;
        let interesting = [0, 1, 4096, 0x7fff_ffff, u64::MAX, 1 << 63, other, u64::MAX - 4095];
        let value = match random.below(3) {
            0 => interesting[random.below(interesting.len())],
            1 => random.next() % 300,
            _ => random.next(),
        };
        let place = at + offset;
        match random.below(4) {
            0 => image[place] = value as u8,
            1 => image[place] ^= 1 << random.below(8),
            2 => image[place..place + 4].copy_from_slice(&(value as u32).to_le_bytes()),
            _ => image[place..place + 8].copy_from_slice(&value.to_le_bytes()),
        }
    }
    let sum = crc32c::crc32c(&image[at + 32..at + NODE]);
    image[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}

fn make() -> Option<Vec<u8>> {
    let directory = std::env::temp_dir().join(format!("imager-btrfs-damage-{}", std::process::id()));
    let (image, mount) = (directory.join("image"), directory.join("mount"));
    fs::create_dir_all(&mount).unwrap();
    fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.is_ok_and(|output| output.status.success())
    };
    let (image_text, mount_text) = (image.display().to_string(), mount.display().to_string());
    let made = run("mkfs.btrfs", &["-q", "-f", "-M", "-m", "single", "-d", "single", "-n", "4096", &image_text])
        && run("mount", &["-t", "btrfs", "-o", "loop,compress=zstd", &image_text, &mount_text]);
    let filled = made && run("python3", &["-c", FILL, &mount_text]);
    if made {
        assert!(run("umount", &[&mount_text]));
    }
    let bytes = filled.then(|| fs::read(&image).unwrap());
    let _ = fs::remove_dir_all(&directory);
    if bytes.is_none() {
        println!("btrfs: skipped, no image: it needs root, loop devices, btrfs-progs and python3");
    }
    bytes
}
