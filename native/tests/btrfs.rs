//! Real btrfs images against the kernel: every file's record, extents and content in every subvolume and snapshot,
//! every name; and what is in use against the kernel's trees as btrfs-progs print them. Needs root, loop devices,
//! btrfs-progs and python3; says so and passes where one is missing.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use imager_native::fs::btrfs::{inode_number, packed, subvolume_index};
use imager_native::fs::{ByteRange, Content, ExtentKind, File, Kind, Outcome, VolumeMap, map_volume};
use imager_native::volume::Volume;

const FILL: &str = include_str!("btrfs/fill.py");
const ORACLE: &str = include_str!("btrfs/oracle.py");
/// Larger sparse files are compared by their extents only.
const HASHED_BYTES: u64 = 1 << 27;
const MIB: u64 = 1 << 20;
const RESERVED: u64 = MIB;
/// Half a sector more than the file system uses.
const TAIL: u64 = 512;

/// Name, options of mkfs, options of mount, MiB.
const MATRIX: [(&str, &str, &str, u64); 10] = [
    ("plain", "", "", 256),
    ("single", "-m single -d single", "", 200),
    ("dup", "-m dup -d dup", "", 256),
    ("small-nodes", "-n 4096 -m single", "compress=zlib", 200),
    ("zstd", "-n 16384", "compress-force=zstd:3", 256),
    ("lzo", "-n 32768 -m single", "compress-force=lzo", 200),
    ("zlib", "-O ^no-holes", "compress-force=zlib", 256),
    ("mixed", "-M -n 4096", "compress=zstd", 128),
    ("sha256", "--csum sha256 -m single", "max_inline=0", 200),
    ("group-tree", "-O block-group-tree", "", 200),
];

#[test]
fn every_layout_agrees_with_the_kernel() {
    if !possible() {
        return;
    }
    let layouts: Vec<_> = (1u64..).zip(MATRIX).collect();
    std::thread::scope(|scope| {
        for half in layouts.chunks(layouts.len().div_ceil(2)) {
            scope.spawn(|| half.iter().for_each(|(seed, layout)| agree(*seed, *layout)));
        }
    });
}

fn agree(seed: u64, (name, mkfs, mount, mib): (&str, &str, &str, u64)) {
    let bench = Bench::new(name);
    if !bench.make(mkfs, mib) {
        println!("btrfs: {name} left out, mkfs.btrfs {mkfs} refused");
        return;
    }
    let options = if mount.is_empty() { "loop".into() } else { format!("loop,{mount}") };
    if !bench.mount(&options) {
        println!("btrfs: {name} left out, the kernel does not mount it");
        return;
    }
    let filled = bench.python(FILL, &[&bench.mount_point(), &seed.to_string()]);
    filled.unwrap_or_else(|why| panic!("{name}: {why}"));
    bench.unmount();
    let truth = {
        assert!(bench.mount("loop,ro"));
        let truth = bench.python(ORACLE, &[&bench.mount_point()]).unwrap();
        bench.unmount();
        truth
    };
    let image = fs::read(bench.image()).unwrap();
    let started = Instant::now();
    let map = mapped(&image);
    let elapsed = started.elapsed();
    assert_eq!(map.doubts, Vec::<String>::new(), "{name}");
    assert!(!map.dirty && map.file_system == "btrfs" && map.label == "label", "{name}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    assert!(map.files.iter().all(|file| (now - 600..=now + 60).contains(&file.created.seconds)), "{name}");
    let chunks = bench.chunks();
    compare(name, &truth, &render(&map, &image, &chunks));
    assert_eq!(map.allocated, bench.in_use(&chunks, image.len() as u64), "{name}");
    println!("btrfs: {name}: {} files, {} names in {elapsed:?}", map.files.len(), map.entries.len());
}

/// Bytes that are free may be anything: without them the kernel still finds everything.
#[test]
fn what_is_free_is_not_needed() {
    if !possible() {
        return;
    }
    let bench = Bench::new("free");
    assert!(bench.make("-m dup", 200) && bench.mount("loop,compress=zstd"));
    bench.python(FILL, &[&bench.mount_point(), "77"]).unwrap();
    bench.unmount();
    let map = mapped(&fs::read(bench.image()).unwrap());
    let file = fs::OpenOptions::new().write(true).open(bench.image()).unwrap();
    let mut at = 0;
    for range in map.allocated.iter().chain([&ByteRange { start: 200 * MIB, length: 0 }]) {
        for from in (at..range.start).step_by(MIB as usize) {
            file.write_all_at(&vec![0xa5; (range.start - from).min(MIB) as usize], from).unwrap();
        }
        at = range.end();
    }
    let check = Command::new("btrfs").args(["check", "--check-data-csum"]).arg(bench.image()).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

/// What was fsynced last is in the log tree only.
#[test]
fn a_log_is_dirt() {
    if !possible() {
        return;
    }
    let bench = Bench::new("log");
    assert!(bench.make("", 128) && bench.mount("loop"));
    let path = Path::new(&bench.mount_point()).join("file");
    let file = fs::File::create(&path).unwrap();
    // SAFETY: no arguments, no memory.
    unsafe { libc::sync() };
    file.write_all_at(&[1; 20_000], 0).unwrap();
    file.sync_all().unwrap();
    let image = fs::read(bench.image()).unwrap();
    drop(file);
    bench.unmount();
    assert!(mapped(&image).dirty);
    assert!(!mapped(&fs::read(bench.image()).unwrap()).dirty);
}

/// Their sums are not computed here, and the map says so.
#[test]
fn other_checksums_are_a_doubt() {
    if !possible() {
        return;
    }
    for kind in ["xxhash", "blake2"] {
        let bench = Bench::new(kind);
        assert!(bench.make(&format!("--csum {kind}"), 128));
        let map = mapped(&fs::read(bench.image()).unwrap());
        assert!(map.doubts.len() == 1 && map.doubts[0].contains("not verified"), "{:?}", map.doubts);
    }
}

#[test]
fn several_devices_are_refused() {
    if !possible() {
        return;
    }
    let (bench, other) = (Bench::new("two-a"), Bench::new("two-b"));
    for bench in [&bench, &other] {
        fs::File::create(bench.image()).unwrap().set_len(128 * MIB).unwrap();
    }
    let mut mkfs = Command::new("mkfs.btrfs");
    let made = mkfs.args(["-q", "-f", "-m", "raid1"]).arg(bench.image()).arg(other.image()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    match map_volume(Volume::whole(&fs::read(bench.image()).unwrap())) {
        Outcome::Raw { found, reason } => assert_eq!((found, reason.contains("2 devices")), ("btrfs", true)),
        Outcome::Mapped(_) => panic!("mapped"),
    }
}

fn mapped(image: &Vec<u8>) -> VolumeMap {
    match map_volume(Volume::whole(image)) {
        Outcome::Mapped(map) => map,
        Outcome::Raw { found, reason } => panic!("{found}: {reason}"),
    }
}

fn compare(name: &str, truth: &str, ours: &str) {
    let truth: BTreeSet<&str> = truth.lines().collect();
    let ours: BTreeSet<&str> = ours.lines().collect();
    let missing: Vec<_> = truth.difference(&ours).take(3).collect();
    let extra: Vec<_> = ours.difference(&truth).take(3).collect();
    assert!(missing.is_empty() && extra.is_empty(), "{name}: the kernel has {missing:#?}, the map has {extra:#?}");
    assert!(truth.len() > 2000, "{name}: the oracle listed {} lines", truth.len());
}

/// "5:257" of a file of the top level.
fn number(map: &VolumeMap, number: u64) -> String {
    format!("{}:{}", map.subvolumes[subvolume_index(number)], inode_number(number))
}

/// The map in the lines of oracle.py.
fn render(map: &VolumeMap, image: &[u8], chunks: &[Chunk]) -> String {
    let mut text = String::new();
    for file in &map.files {
        let kinds = [0o100000, 0o040000, 0o120000, 0o060000, 0o020000, 0o010000, 0o140000];
        let mode = kinds[file.kind as usize - 1] | u32::from(file.mode);
        let versioned = matches!(file.kind, Kind::File | Kind::Directory);
        let generation = if versioned { file.generation.to_string() } else { "-".into() };
        let nanoseconds = |time: imager_native::fs::Timestamp| {
            i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
        };
        let (size, hash, extents) = render_stream(file, image, chunks);
        let mut attributes: Vec<_> = file.xattrs.iter().collect();
        attributes.sort();
        let attributes: Vec<_> =
            attributes.iter().map(|(name, value)| format!("{}={}", hex(name), hex(value))).collect();
        writeln!(
            text,
            "F {} {generation} {mode:o} {} {} {} {size} {} {} {} {hash} {} {extents}",
            number(map, file.number),
            file.uid,
            file.gid,
            file.links,
            file.device,
            nanoseconds(file.modified),
            nanoseconds(file.changed),
            attributes.join(","),
        )
        .unwrap();
    }
    for entry in &map.entries {
        writeln!(text, "E {} {} {}", number(map, entry.parent), hex(&entry.name), number(map, entry.child)).unwrap();
    }
    text
}

fn render_stream(file: &File, image: &[u8], chunks: &[Chunk]) -> (u64, String, String) {
    let Some(stream) = file.streams.first() else { return (0, "-".into(), "-".into()) };
    if file.kind == Kind::Directory {
        return (stream.size, "-".into(), "-".into());
    }
    let hash = if stream.size < HASHED_BYTES { sha256(&content(file, image)) } else { "large".into() };
    let extents = match &stream.content {
        _ if file.kind == Kind::Symlink => "-".into(),
        Content::Resident(_) => "inline".into(),
        Content::Extents(extents) => extents
            .iter()
            .map(|extent| {
                let address = logical_address(chunks, extent.disk);
                match extent.kind {
                    ExtentKind::Packed { used, .. } => format!("{}:{address}:{used}c", extent.logical),
                    ExtentKind::Unwritten => format!("{}:{address}:{}u", extent.logical, extent.length),
                    _ => format!("{}:{address}:{}p", extent.logical, extent.length),
                }
            })
            .collect::<Vec<_>>()
            .join(","),
    };
    (stream.size, hash, extents)
}

fn logical_address(chunks: &[Chunk], disk: u64) -> u64 {
    let inside = |chunk: &&Chunk| (chunk.stripes[0]..chunk.stripes[0] + chunk.length).contains(&disk);
    let chunk = chunks.iter().find(inside).expect("the first copy of a chunk");
    chunk.logical + disk - chunk.stripes[0]
}

fn content(file: &File, image: &[u8]) -> Vec<u8> {
    let stream = &file.streams[0];
    let extents = match &stream.content {
        Content::Resident(bytes) => return bytes.clone(),
        Content::Extents(extents) => extents,
    };
    let mut bytes = vec![0; stream.size as usize];
    for extent in extents.iter().filter(|extent| extent.logical < stream.size) {
        let on_disk = &image[extent.disk as usize..][..extent.length as usize];
        let left = (stream.size - extent.logical) as usize;
        let target = &mut bytes[extent.logical as usize..];
        match extent.kind {
            ExtentKind::Plain => {
                let length = on_disk.len().min(left);
                target[..length].copy_from_slice(&on_disk[..length]);
            }
            ExtentKind::Packed { codec, raw_length, raw_offset, used } => {
                let raw = packed::unpack(codec, on_disk, raw_length as usize).unwrap();
                let length = (used as usize).min(left);
                target[..length].copy_from_slice(&raw[raw_offset as usize..][..length]);
            }
            _ => {}
        }
    }
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn possible() -> bool {
    let works = |program: &str, argument: &str| Command::new(program).arg(argument).output().is_ok();
    // SAFETY: no arguments, no memory.
    let root = unsafe { libc::geteuid() } == 0;
    let reason = if !root {
        "mounting needs root"
    } else if !works("mkfs.btrfs", "--version") || !works("btrfs", "--version") {
        "btrfs-progs are not installed"
    } else if !works("python3", "-V") {
        "python3 is not installed"
    } else if !fs::read_to_string("/proc/filesystems").is_ok_and(|known| known.contains("\tbtrfs")) {
        "this kernel does not know btrfs"
    } else {
        return true;
    };
    println!("btrfs: skipped, {reason}");
    false
}

/// As btrfs-progs print it.
struct Chunk {
    logical: u64,
    length: u64,
    stripes: Vec<u64>,
}

/// A directory with one image, mounted or not; unmounted and removed at the end.
struct Bench {
    directory: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("imager-btrfs-{}-{name}", std::process::id()));
        fs::create_dir_all(directory.join("mount")).unwrap();
        Self { directory }
    }

    fn image(&self) -> PathBuf {
        self.directory.join("image")
    }

    fn mount_point(&self) -> String {
        self.directory.join("mount").display().to_string()
    }

    fn make(&self, options: &str, mib: u64) -> bool {
        fs::File::create(self.image()).unwrap().set_len(mib * MIB + TAIL).unwrap();
        let mut mkfs = Command::new("mkfs.btrfs");
        let made = mkfs.args(["-q", "-f", "-L", "label"]).args(options.split_whitespace()).arg(self.image());
        let made = made.output().unwrap();
        print!("{}", String::from_utf8_lossy(&made.stderr));
        made.status.success()
    }

    fn mount(&self, options: &str) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-t", "btrfs", "-o", options]).arg(self.image()).arg(self.mount_point());
        mount.output().unwrap().status.success()
    }

    fn unmount(&self) {
        let status = Command::new("umount").arg(self.mount_point()).status().unwrap();
        assert!(status.success());
    }

    fn python(&self, script: &str, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("python3").args(["-c", script]).args(arguments).output().unwrap();
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout).unwrap());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn dump(&self, tree: &str) -> String {
        let mut dump = Command::new("btrfs");
        let output = dump.args(["inspect-internal", "dump-tree", "-t", tree]).arg(self.image()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn chunks(&self) -> Vec<Chunk> {
        let mut chunks: Vec<Chunk> = Vec::new();
        for line in self.dump("chunk").lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let Some(key) = key_of(line, "CHUNK_ITEM") {
                chunks.push(Chunk { logical: key.1, length: 0, stripes: vec![] });
            } else if let (["length", length, ..], Some(chunk)) = (words.as_slice(), chunks.last_mut()) {
                chunk.length = length.parse().unwrap();
            } else if let (["stripe", _, "devid", _, "offset", offset], Some(chunk)) =
                (words.as_slice(), chunks.last_mut())
            {
                chunk.stripes.push(offset.parse().unwrap());
            }
        }
        assert!(!chunks.is_empty());
        chunks
    }

    /// From the extent tree, with what lies outside of all chunks.
    fn in_use(&self, chunks: &[Chunk], length: u64) -> Vec<ByteRange> {
        let superblock = Command::new("btrfs").args(["inspect-internal", "dump-super"]).arg(self.image()).output();
        let superblock = String::from_utf8_lossy(&superblock.unwrap().stdout).into_owned();
        let field = |name: &str| -> u64 {
            let line = superblock.lines().find(|line| line.split_whitespace().next() == Some(name));
            line.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let (node_bytes, end) = (field("nodesize"), field("total_bytes"));
        let mut ranges = vec![(0, RESERVED), (64 * MIB, 64 * MIB + 4096), (end, length)];
        for line in self.dump("extent").lines() {
            let metadata = key_of(line, "METADATA_ITEM").map(|(logical, _)| (logical, node_bytes));
            let Some((logical, length)) = key_of(line, "EXTENT_ITEM").or(metadata) else { continue };
            let inside = |chunk: &&Chunk| (chunk.logical..chunk.logical + chunk.length).contains(&logical);
            let chunk = chunks.iter().find(inside).unwrap();
            ranges.extend(
                chunk.stripes.iter().map(|stripe| stripe + logical - chunk.logical).map(|at| (at, at + length)),
            );
        }
        ranges.sort_unstable();
        let mut merged: Vec<ByteRange> = Vec::new();
        for (start, end) in ranges {
            match merged.last_mut() {
                Some(last) if start <= last.end() => last.length = last.length.max(end - last.start),
                _ => merged.push(ByteRange { start, length: end - start }),
            }
        }
        merged
    }
}

/// Object and offset of "item 3 key (1048576 EXTENT_ITEM 4096) itemoff ..."; the object may have a name.
fn key_of(line: &str, kind: &str) -> Option<(u64, u64)> {
    let key = line.trim_start().strip_prefix("item ")?.split_once("key (")?.1.split_once(')')?.0;
    let words: Vec<&str> = key.split(' ').collect();
    (words.len() == 3 && words[1] == kind).then(|| (words[0].parse().unwrap_or(0), words[2].parse().unwrap_or(0)))
}

impl Drop for Bench {
    fn drop(&mut self) {
        if fs::read_to_string("/proc/mounts").is_ok_and(|mounts| mounts.contains(&self.mount_point())) {
            let _ = Command::new("umount").arg("-l").arg(self.mount_point()).status();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}
