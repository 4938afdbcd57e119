//! Damaged XFS images: whatever the bytes say, the map ends soon, does not panic, and stays inside the volume. Most
//! edits hit a structure and mend its checksum, so that they reach the parsers. `IMAGER_MUTATIONS` sets the count,
//! `IMAGER_SEED` repeats a run. Version 4, which newer kernels do not mount, is filled by mkfs.xfs itself.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use imager_native::fs::{Content, File, Kind, VolumeMap, xfs};
use imager_native::volume::Volume;

const MUTATIONS: u64 = 3_000;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const MOST: Duration = Duration::from_secs(1);
const IMAGE_BYTES: u64 = 20 << 20;

/// Options of mkfs.xfs, and whether the kernel fills the image.
const IMAGES: [(&str, bool); 3] = [
    ("-m crc=0,finobt=0 -b size=1024 -i size=256 -l size=4m -d agcount=1", false),
    ("-m crc=0 -b size=4096 -n ftype=0 -l size=4m -d agcount=1", false),
    ("-b size=1024 -l size=4m -d agcount=1", true),
];

/// Structures: where the magic number is, its bytes, where the checksum is (none before version 5), and the length
/// where it is no block.
const STRUCTURES: [(usize, &[u8], usize, usize); 20] = [
    (0, b"XFSB", 224, 512),
    (0, b"XAGF", 216, 512),
    (0, b"XAGI", 312, 512),
    (0, b"AB3B", 52, 0),
    (0, b"IAB3", 52, 0),
    (0, b"BMA3", 64, 0),
    (0, b"XDB3", 4, 4096),
    (0, b"XDD3", 4, 4096),
    (8, b"\x3b\xee", 12, 0),
    (8, b"\x3e\xbe", 12, 0),
    (0, b"XARM", 12, 0),
    (0, b"XSLM", 12, 0),
    (0, b"IN", 100, 1),
    (0, b"ABTB", 0, 0),
    (0, b"IABT", 0, 0),
    (0, b"BMAP", 0, 0),
    (0, b"XD2B", 0, 0),
    (0, b"XD2D", 0, 0),
    (8, b"\xfb\xee", 0, 0),
    (8, b"\xfe\xbe", 0, 0),
];

const FILL: &str = r#"
import os, sys
top = sys.argv[1]
with open(top + "/holes", "wb", buffering=0) as file:
    for number in range(200):
        os.pwrite(file.fileno(), b"h" * 1024, number * 2048)
with open(top + "/many", "wb") as file:
    for number in range(100):
        os.setxattr(top + "/many", "user.%d" % number, b"v" * (number * 7 % 90))
    os.setxattr(top + "/many", "trusted.large", b"l" * 5000)
os.setxattr(top + "/holes", "user.short", b"value")
os.mkdir(top + "/folder")
for number in range(300):
    open(top + "/folder/a-longer-name-%d" % number, "wb").close()
os.mkdir(top + "/folder/small")
for number in range(40):
    open(top + "/folder/small/n%d" % number, "wb").close()
os.symlink("short", top + "/short")
os.symlink("long/" * 180, top + "/long")
os.sync()
"#;

struct Structure {
    at: usize,
    length: usize,
    crc: usize,
}

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
    let bench = Bench::new("damage");
    let mut images: Vec<Vec<u8>> = IMAGES.iter().filter_map(|(options, mount)| bench.make(options, *mount)).collect();
    if images.is_empty() {
        println!("xfs: skipped, mkfs.xfs --unsupported is not there");
        return;
    }
    let kinds: Vec<_> = images.iter().map(|image| structures(image)).collect();
    let mut random = Random(seed);
    let (mut mapped, mut slowest) = (0, Duration::ZERO);
    for number in 0..mutations {
        let which = number as usize % images.len();
        let undo = damage(&mut images[which], &kinds[which], &mut random);
        let image = &images[which];
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| xfs::map(Volume::whole(image))));
        let elapsed = started.elapsed();
        let outcome = outcome.unwrap_or_else(|_| panic!("mutation {number} of seed {seed} panicked"));
        assert!(elapsed < MOST, "mutation {number} of seed {seed} took {elapsed:?}");
        slowest = slowest.max(elapsed);
        if let Ok(map) = outcome {
            mapped += 1;
            check(&map, image.len() as u64, &format!("mutation {number} of seed {seed}"));
        }
        for (at, bytes) in undo.into_iter().rev() {
            images[which][at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }
    println!("xfs: {mutations} mutations of {} images, {mapped} mapped, slowest {slowest:?}", images.len());
    assert!(mapped * 10 > mutations * 3, "much of the damage should reach the files");
}

/// All of them by kind, outside the log.
fn structures(image: &[u8]) -> Vec<Vec<Structure>> {
    let be = |at: usize, count: usize| image[at..at + count].iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    let (block, v5, inode) = (be(4, 4), be(100, 2) & 0xf == 5, be(104, 2));
    // One group, so that packed numbers are linear.
    let log = be(48, 8) * block..(be(48, 8) + be(96, 4)) * block;
    let mut kinds: BTreeMap<&[u8], Vec<Structure>> = BTreeMap::new();
    for at in (0..image.len() - 65536).step_by(256).filter(|at| !log.contains(at)) {
        let found = STRUCTURES.iter().find(|(offset, magic, ..)| image[at + offset..].starts_with(magic));
        if let Some(&(_, magic, crc, length)) = found {
            let length = [block, inode].get(length).copied().unwrap_or(length);
            kinds.entry(magic).or_default().push(Structure { at, length, crc: if v5 { crc } else { 0 } });
        }
    }
    assert!(kinds.len() >= 6, "{:?}", kinds.keys());
    kinds.into_values().collect()
}

/// One to six edits; returns what was there before.
fn damage(image: &mut [u8], kinds: &[Vec<Structure>], random: &mut Random) -> Vec<(usize, Vec<u8>)> {
    let mut undo = Vec::new();
    for _ in 0..1 + random.below(6) {
        let kind = &kinds[random.below(kinds.len())];
        let Structure { at, length, crc } = kind[random.below(kind.len())];
        let bytes = &mut image[at..at + length];
        undo.push((at, bytes.to_vec()));
        for _ in 0..1 + random.below(3) {
            let within = if random.below(2) == 0 { random.below(length.min(256)) } else { random.below(length) };
            let field = within.min(length - 4) & !1;
            let value = match random.below(6) {
                0 => 0,
                1 => u32::MAX,
                2 => random.next() as u32 % 1024,
                3 => 1 << random.below(32),
                _ => random.next() as u32,
            };
            match random.below(3) {
                0 => bytes[within] = value as u8,
                1 => bytes[field..field + 2].copy_from_slice(&(value as u16).to_be_bytes()),
                _ => bytes[field..field + 4].copy_from_slice(&value.to_be_bytes()),
            }
        }
        if crc > 0 && random.below(8) > 0 {
            bytes[crc..crc + 4].fill(0);
            let sum = crc32c::crc32c(bytes);
            bytes[crc..crc + 4].copy_from_slice(&sum.to_le_bytes());
        }
    }
    undo
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

/// What mkfs.xfs was told to write is what the map says.
#[test]
fn version_4_holds_what_mkfs_wrote() {
    let bench = Bench::new("v4");
    for (options, _) in IMAGES.iter().filter(|(_, mount)| !mount) {
        let Some(image) = bench.make(options, false) else { continue };
        let map = xfs::map(Volume::whole(&image)).unwrap();
        assert_eq!(map.doubts, Vec::<String>::new());
        assert!(!map.dirty, "{options}");
        let files: HashMap<u64, &File> = map.files.iter().map(|file| (file.number, file)).collect();
        let mut contents = HashMap::new();
        for entry in &map.entries {
            let file = files[&entry.child];
            if matches!(file.kind, Kind::File | Kind::Symlink) {
                contents.insert(String::from_utf8(entry.name.clone()).unwrap(), content(file, &image));
            }
        }
        assert_eq!(contents, written());
        let device = map.entries.iter().find(|entry| entry.name == b"device").unwrap();
        assert_eq!((files[&device.child].kind, files[&device.child].device), (Kind::BlockDevice, 8 << 8 | 17));
        let text = bench.xfs_db(&["agf 0", "p freeblks"]);
        let free: u64 = text.trim().rsplit(' ').next().unwrap().parse().unwrap();
        let kept: u64 = map.allocated.iter().map(|range| range.length).sum();
        assert_eq!(image.len() as u64 - kept, free * u64::from(map.cluster_bytes), "{options}");
    }
}

/// Names and contents for the prototype: small and large, short and long targets, a folder of some blocks.
fn written() -> HashMap<String, Vec<u8>> {
    let pattern = |length: usize| (0..length).map(|at| (at * 31 % 251) as u8).collect::<Vec<_>>();
    let mut files: HashMap<_, _> =
        (0..300).map(|number| (format!("a-longer-name-{number}"), pattern(number % 7 * 500))).collect();
    files.insert("large".into(), pattern(1_000_000));
    files.insert("short".into(), b"target".to_vec());
    files.insert("long".into(), b"long/".repeat(120));
    files
}

fn content(file: &File, image: &[u8]) -> Vec<u8> {
    let stream = &file.streams[0];
    let extents = match &stream.content {
        Content::Resident(bytes) => return bytes.clone(),
        Content::Extents(extents) => extents,
    };
    let mut bytes = vec![0; stream.size as usize];
    for extent in extents.iter().filter(|extent| extent.logical < stream.size) {
        let length = extent.length.min(stream.size - extent.logical) as usize;
        bytes[extent.logical as usize..][..length].copy_from_slice(&image[extent.disk as usize..][..length]);
    }
    bytes
}

struct Bench {
    directory: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("imager-xfs-{name}-{}", std::process::id()));
        fs::create_dir_all(directory.join("mount")).unwrap();
        Self { directory }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// `None`, with a printed reason, where it cannot be made.
    fn make(&self, options: &str, mount: bool) -> Option<Vec<u8>> {
        let _ = fs::remove_file(self.at("image"));
        fs::File::create(self.at("image")).unwrap().set_len(IMAGE_BYTES).unwrap();
        let mut mkfs = Command::new("mkfs.xfs");
        mkfs.args(["--unsupported", "-q", "-f"]).args(options.split(' '));
        if !mount {
            mkfs.arg("-p").arg(self.prototype());
        }
        if !succeeds(mkfs.arg(self.at("image"))) || (mount && !self.fill()) {
            println!("xfs: {options} left out");
            return None;
        }
        let image = fs::read(self.at("image")).unwrap();
        check(&xfs::map(Volume::whole(&image)).unwrap(), IMAGE_BYTES, "undamaged");
        Some(image)
    }

    fn fill(&self) -> bool {
        if !succeeds(Command::new("mount").args(["-o", "loop"]).args([self.at("image"), self.at("mount")])) {
            return false;
        }
        let filled = succeeds(Command::new("python3").args(["-c", FILL]).arg(self.at("mount")));
        succeeds(Command::new("umount").arg(self.at("mount"))) && filled
    }

    /// The file that `mkfs.xfs -p` wants.
    fn prototype(&self) -> PathBuf {
        let mut text = String::from("boot 0 0\nd--755 0 0\n");
        for (name, bytes) in written() {
            let path = self.at(&name);
            match name.as_str() {
                "short" | "long" => writeln!(text, "{name} l--777 0 0 {}", String::from_utf8(bytes).unwrap()).unwrap(),
                _ => {
                    fs::write(&path, bytes).unwrap();
                    writeln!(text, "{name} ---644 1 2 {}", path.display()).unwrap();
                }
            }
        }
        text.push_str("device b--640 0 6 8 17\nempty d--700 3 4\n$\n$\n");
        let path = self.at("prototype");
        fs::write(&path, text).unwrap();
        path
    }

    fn xfs_db(&self, commands: &[&str]) -> String {
        let arguments = commands.iter().flat_map(|command| ["-c", command]);
        let output = Command::new("xfs_db").args(["-r", "-f"]).args(arguments).arg(self.at("image")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

fn succeeds(command: &mut Command) -> bool {
    match command.output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_string();
            println!("xfs: {command:?}: {text}");
            false
        }
        Err(_) => false,
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let mount: &Path = &self.at("mount");
        if fs::read_to_string("/proc/mounts").is_ok_and(|mounts| mounts.contains(&mount.display().to_string())) {
            let _ = Command::new("umount").arg("-l").arg(mount).status();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}
