//! Real ext2, ext3 and ext4 images against the kernel: every file's record, extents and content, every name, and
//! every free block. Needs root, loop devices, e2fsprogs and python3; says so and passes where one is missing.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use imager_native::fs::{Content, ExtentKind, File, Kind, Outcome, VolumeMap, map_volume};
use imager_native::volume::Volume;

const FILL: &str = include_str!("ext/fill.py");
const ORACLE: &str = include_str!("ext/oracle.py");
/// Larger sparse files are compared by their extents only.
const HASHED_BYTES: u64 = 1 << 27;
const MIB: u64 = 1 << 20;

/// Name, mkfs, its options, MiB, block bytes.
const MATRIX: [(&str, &str, &str, u64, u32); 18] = [
    ("ext2-1k", "mkfs.ext2", "-b 1024", 24, 1024),
    ("ext2-4k", "mkfs.ext2", "-b 4096 -I 128", 32, 4096),
    ("ext3-1k", "mkfs.ext3", "-b 1024", 32, 1024),
    ("ext3-2k", "mkfs.ext3", "-b 2048", 40, 2048),
    ("plain", "mkfs.ext4", "-b 4096", 48, 4096),
    ("plain-1k", "mkfs.ext4", "-b 1024", 32, 1024),
    ("sums", "mkfs.ext4", "-b 1024 -O metadata_csum,metadata_csum_seed,64bit", 64, 1024),
    ("no-64bit", "mkfs.ext4", "-b 1024 -O ^64bit,^metadata_csum,uninit_bg", 64, 1024),
    ("inline", "mkfs.ext4", "-b 4096 -O inline_data -I 512", 48, 4096),
    ("inline-1k", "mkfs.ext4", "-b 1024 -O inline_data -I 256", 32, 1024),
    ("bigalloc", "mkfs.ext4", "-b 4096 -O bigalloc -C 16384", 64, 4096),
    ("bigalloc-1k", "mkfs.ext4", "-b 1024 -O bigalloc -C 8192", 48, 1024),
    ("no-extents", "mkfs.ext4", "-b 1024 -O ^extents,^64bit,^bigalloc", 32, 1024),
    ("meta-bg", "mkfs.ext4", "-b 1024 -g 1024 -O meta_bg,^resize_inode", 48, 1024),
    ("no-flex-bg", "mkfs.ext4", "-b 1024 -g 2048 -O ^flex_bg", 48, 1024),
    ("no-journal", "mkfs.ext4", "-b 4096 -O ^has_journal,^sparse_super,^resize_inode", 48, 4096),
    ("two-copies", "mkfs.ext4", "-b 1024 -O sparse_super2,^resize_inode,uninit_bg -N 20000", 48, 1024),
    ("value-inodes", "mkfs.ext4", "-b 4096 -O ea_inode", 48, 4096),
];

#[test]
fn every_layout_agrees_with_the_kernel() {
    if !possible(true) {
        return;
    }
    for (seed, (name, mkfs, options, mib, block_bytes)) in (1u64..).zip(MATRIX) {
        let bench = Bench::new(name);
        if !bench.make(mkfs, options, mib) {
            println!("ext: {name} left out, {mkfs} {options} refused");
            continue;
        }
        if !bench.mount("loop") {
            println!("ext: {name} left out, the kernel does not mount it");
            continue;
        }
        let filled = bench.python(FILL, &[&bench.mount_point(), &seed.to_string(), &block_bytes.to_string()]);
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
        assert!(!map.dirty, "{name}");
        assert_eq!(map.cluster_bytes, block_bytes);
        check_created(&map);
        compare(name, &truth, &render(&map, &image));
        assert_eq!(
            free_ranges(&map, image.len() as u64),
            bench.free_blocks(u64::from(block_bytes), cluster(options)),
            "{name}"
        );
        println!("ext: {name}: {} files, {} names in {elapsed:?}", map.files.len(), map.entries.len());
    }
}

/// The kernel mounts no blocks larger than its pages, so that `mkfs -d` fills the image, and content decides.
#[test]
fn blocks_of_64_kib_are_read() {
    if !possible(false) {
        return;
    }
    let bench = Bench::new("64k");
    let source = bench.directory.join("source");
    fs::create_dir_all(source.join("below/deeper")).unwrap();
    let mut expected = HashMap::new();
    for number in 0..300usize {
        let content: Vec<u8> = (0..number * 997).map(|at| (at * 31 + number) as u8).collect();
        let path = format!("below/deeper/file-{number}-{}", "x".repeat(number % 200));
        fs::write(source.join(&path), &content).unwrap();
        expected.insert(path, sha256(&content));
    }
    let options = format!("-b 65536 -d {}", source.display());
    if !bench.make("mkfs.ext4", &options, 128) {
        println!("ext: 64k left out, mkfs.ext4 {options} refused");
        return;
    }
    let image = fs::read(bench.image()).unwrap();
    let map = mapped(&image);
    assert_eq!((map.doubts.len(), map.cluster_bytes), (0, 65536), "{:?}", map.doubts);
    let mut found = HashMap::new();
    let parents: HashMap<u64, (u64, String)> = map
        .entries
        .iter()
        .map(|entry| (entry.child, (entry.parent, String::from_utf8(entry.name.clone()).unwrap())))
        .collect();
    for file in map.files.iter().filter(|file| file.kind == Kind::File) {
        let (mut at, mut path) = (file.number, String::new());
        while let Some((parent, name)) = parents.get(&at) {
            path = if path.is_empty() { name.clone() } else { format!("{name}/{path}") };
            at = *parent;
        }
        found.insert(path, sha256(&content(file, &image)));
    }
    assert_eq!(found, expected);
    assert_eq!(free_ranges(&map, image.len() as u64), bench.free_blocks(65536, None));
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
    assert!(truth.len() > 3000, "{name}: the oracle listed {} lines", truth.len());
}

/// The map in the lines of oracle.py.
fn render(map: &VolumeMap, image: &[u8]) -> String {
    let mut text = String::new();
    for file in &map.files {
        let kinds = [0o100000, 0o040000, 0o120000, 0o060000, 0o020000, 0o010000, 0o140000];
        let mode = kinds[file.kind as usize - 1] | u32::from(file.mode);
        let versioned = matches!(file.kind, Kind::File | Kind::Directory);
        let generation = if versioned { file.generation.to_string() } else { "-".into() };
        let nanoseconds = |time: imager_native::fs::Timestamp| {
            i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
        };
        let (size, hash, extents) = render_stream(file, image);
        let mut attributes: Vec<_> = file.xattrs.iter().collect();
        attributes.sort();
        let attributes: Vec<_> =
            attributes.iter().map(|(name, value)| format!("{}={}", hex(name), hex(value))).collect();
        writeln!(
            text,
            "F {} {generation} {mode:o} {} {} {} {size} {} {} {} {hash} {} {extents}",
            file.number,
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
        writeln!(text, "E {} {} {}", entry.parent, hex(&entry.name), entry.child).unwrap();
    }
    text
}

fn render_stream(file: &File, image: &[u8]) -> (u64, String, String) {
    let Some(stream) = file.streams.first().filter(|_| file.kind != Kind::Directory) else {
        return (0, "-".into(), "-".into());
    };
    let hash = if stream.size < HASHED_BYTES { sha256(&content(file, image)) } else { "large".into() };
    let extents = match &stream.content {
        _ if file.kind == Kind::Symlink => "-".into(),
        Content::Resident(_) => "inline".into(),
        Content::Extents(extents) => extents
            .iter()
            .map(|extent| {
                let kind = if extent.kind == ExtentKind::Unwritten { 'u' } else { 'p' };
                format!("{}:{}:{}{kind}", extent.logical, extent.disk, extent.length)
            })
            .collect::<Vec<_>>()
            .join(","),
    };
    (stream.size, hash, extents)
}

fn content(file: &File, image: &[u8]) -> Vec<u8> {
    let stream = &file.streams[0];
    let extents = match &stream.content {
        Content::Resident(bytes) => return bytes.clone(),
        Content::Extents(extents) => extents,
    };
    let mut bytes = vec![0; stream.size as usize];
    for extent in extents.iter().filter(|extent| extent.kind == ExtentKind::Plain && extent.logical < stream.size) {
        let length = extent.length.min(stream.size - extent.logical) as usize;
        bytes[extent.logical as usize..][..length].copy_from_slice(&image[extent.disk as usize..][..length]);
    }
    bytes
}

fn check_created(map: &VolumeMap) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let known: Vec<i64> = map.files.iter().map(|file| file.created.seconds).filter(|&seconds| seconds != 0).collect();
    assert!(known.iter().all(|&seconds| (now - 600..=now + 60).contains(&seconds)));
    assert!(map.file_system == "ext2" || map.file_system == "ext3" || known.len() > 1000);
}

fn free_ranges(map: &VolumeMap, length: u64) -> Vec<(u64, u64)> {
    let mut free = Vec::new();
    let mut at = 0;
    for range in &map.allocated {
        assert!(range.start >= at && range.length > 0 && (range.start > at || at == 0), "sorted, disjoint, coalesced");
        if range.start > at {
            free.push((at, range.start));
        }
        at = range.end();
    }
    assert!(at <= length);
    if at < length {
        free.push((at, length));
    }
    free
}

/// The number after "-C".
fn cluster(options: &str) -> Option<u64> {
    options.split_once("-C ").map(|(_, bytes)| bytes.parse().unwrap())
}

fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn possible(mounts: bool) -> bool {
    let works = |program: &str, argument: &str| Command::new(program).arg(argument).output().is_ok();
    // SAFETY: no arguments, no memory.
    let root = unsafe { libc::geteuid() } == 0;
    let reason = if mounts && !root {
        "mounting needs root"
    } else if !works("mkfs.ext4", "-V") || !works("dumpe2fs", "-V") {
        "e2fsprogs are not installed"
    } else if mounts && !works("python3", "-V") {
        "python3 is not installed"
    } else {
        return true;
    };
    println!("ext: skipped, {reason}");
    false
}

/// A directory with one image, mounted or not; unmounted and removed at the end.
struct Bench {
    directory: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("imager-ext-{}-{name}", std::process::id()));
        fs::create_dir_all(directory.join("mount")).unwrap();
        Self { directory }
    }

    fn image(&self) -> PathBuf {
        self.directory.join("image")
    }

    fn mount_point(&self) -> String {
        self.directory.join("mount").display().to_string()
    }

    fn make(&self, mkfs: &str, options: &str, mib: u64) -> bool {
        // Half a block more than the file system uses.
        fs::File::create(self.image()).unwrap().set_len(mib * MIB + 512).unwrap();
        let made = Command::new(mkfs).args(["-q", "-F"]).args(options.split(' ')).arg(self.image()).output().unwrap();
        print!("{}", String::from_utf8_lossy(&made.stderr));
        made.status.success()
    }

    fn mount(&self, options: &str) -> bool {
        let mount = Command::new("mount").args(["-o", options]).arg(self.image()).arg(self.mount_point()).output();
        mount.unwrap().status.success()
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

    /// "  Free blocks: 12-15, 20" of every group, as coalesced byte ranges. With clusters, the last number is the
    /// first block of the last cluster.
    fn free_blocks(&self, block_bytes: u64, cluster_bytes: Option<u64>) -> Vec<(u64, u64)> {
        let output = Command::new("dumpe2fs").arg(self.image()).output().unwrap();
        let mut free: Vec<(u64, u64)> = Vec::new();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for list in text.lines().filter_map(|line| line.strip_prefix("  Free blocks: ")) {
            for range in list.split(", ").filter(|range| !range.is_empty()) {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let start = first.parse::<u64>().unwrap() * block_bytes;
                let end = last.parse::<u64>().unwrap() * block_bytes + cluster_bytes.unwrap_or(block_bytes);
                match free.last_mut() {
                    Some(before) if before.1 == start => before.1 = end,
                    _ => free.push((start, end)),
                }
            }
        }
        assert!(!free.is_empty());
        free
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if is_mounted(Path::new(&self.mount_point())) {
            let _ = Command::new("umount").arg("-l").arg(self.mount_point()).status();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn is_mounted(path: &Path) -> bool {
    fs::read_to_string("/proc/mounts").is_ok_and(|mounts| mounts.contains(&path.display().to_string()))
}
