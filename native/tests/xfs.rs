//! Real XFS images against the kernel: every file's record, extents and content, every name, and every free block
//! (xfs_db). Needs root, loop devices, xfsprogs and python3; says so and passes where one is missing.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use imager_native::error::{Error, Result};
use imager_native::fs::{Content, ExtentKind, File, Kind, Outcome, VolumeMap, map_volume};
use imager_native::volume::{ReadAt, Volume};

const FILL: &str = include_str!("ext/fill.py");
const FILL_MORE: &str = include_str!("xfs/fill.py");
const ORACLE: &str = include_str!("ext/oracle.py");
/// Larger files are compared by their extents only.
const HASHED_BYTES: u64 = 1 << 27;
const MIB: u64 = 1 << 20;

/// Name, options of mkfs.xfs, MiB, block bytes. 700 MiB: groups of 44,800 blocks, not a power of two.
const MATRIX: [(&str, &str, u64, u32); 6] = [
    ("default", "-b size=4096", 320, 4096),
    ("odd-groups", "-d size=700m", 700, 4096),
    ("rmap", "-m reflink=1,rmapbt=1 -d agcount=5", 500, 4096),
    ("sparse", "-i sparse=1,size=1024 -n size=8192", 320, 4096),
    ("small", "-b size=1024 -i nrext64=1 -m bigtime=1,inobtcount=1", 320, 1024),
    ("old-times", "-s size=4096 -m bigtime=0,reflink=0 -n size=65536", 320, 4096),
];

struct Image(fs::File);

impl ReadAt for Image {
    fn length(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.read_exact_at(buffer, offset).map_err(|error| Error::io("reading", error))
    }
}

#[test]
fn every_layout_agrees_with_the_kernel() {
    if !possible() {
        return;
    }
    for (seed, (name, options, mib, block_bytes)) in (1u64..).zip(MATRIX) {
        let bench = Bench::new(name);
        if !bench.make(options, mib) {
            println!("xfs: {name} left out, mkfs.xfs {options} refused");
            continue;
        }
        let image = Image(fs::File::open(bench.image()).unwrap());
        let empty = mapped(&image);
        assert!(!empty.dirty && empty.files.len() == 1, "{name}: new");
        if !bench.mount("loop") {
            println!("xfs: {name} left out, the kernel does not mount it");
            continue;
        }
        for script in [FILL, FILL_MORE] {
            let filled = bench.python(script, &[&bench.mount_point(), &seed.to_string(), &block_bytes.to_string()]);
            filled.unwrap_or_else(|why| panic!("{name}: {why}"));
        }
        assert!(mapped(&image).dirty, "{name}: in use");
        bench.unmount();
        let started = Instant::now();
        let map = mapped(&image);
        let elapsed = started.elapsed();
        assert_eq!(map.doubts, Vec::<String>::new(), "{name}");
        assert!(!map.dirty, "{name}");
        assert_eq!(map.cluster_bytes, block_bytes);
        bench.compare_free(name, &map, image.length());
        let truth = {
            assert!(bench.mount("loop,ro"));
            let truth = bench.python(ORACLE, &[&bench.mount_point()]).unwrap();
            bench.unmount();
            truth
        };
        check_created(&map, options.contains("crc=0"));
        compare(name, &truth, &render(&map, &image));
        assert!(name != "sparse" || bench.sparse_chunks() > 0, "the fill leaves room for whole chunks of inodes");
        println!("xfs: {name}: {} files, {} names in {elapsed:?}", map.files.len(), map.entries.len());
    }
}

fn mapped(image: &Image) -> VolumeMap {
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
fn render(map: &VolumeMap, image: &Image) -> String {
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

fn render_stream(file: &File, image: &Image) -> (u64, String, String) {
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

fn content(file: &File, image: &Image) -> Vec<u8> {
    let stream = &file.streams[0];
    let extents = match &stream.content {
        Content::Resident(bytes) => return bytes.clone(),
        Content::Extents(extents) => extents,
    };
    let mut bytes = vec![0; stream.size as usize];
    for extent in extents.iter().filter(|extent| extent.kind == ExtentKind::Plain && extent.logical < stream.size) {
        let length = extent.length.min(stream.size - extent.logical) as usize;
        image.read_at(extent.disk, &mut bytes[extent.logical as usize..][..length]).unwrap();
    }
    bytes
}

/// Version 4 keeps no such time.
fn check_created(map: &VolumeMap, none: bool) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let good = |seconds: i64| if none { seconds == 0 } else { (now - 600..=now + 60).contains(&seconds) };
    assert!(map.files.iter().all(|file| good(file.created.seconds)));
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
    } else if !works("mkfs.xfs", "-V") || !works("xfs_db", "-V") {
        "xfsprogs are not installed"
    } else if !works("python3", "-V") {
        "python3 is not installed"
    } else {
        return true;
    };
    println!("xfs: skipped, {reason}");
    false
}

/// A directory with one image, mounted or not; unmounted and removed at the end.
struct Bench {
    directory: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Self {
        // Memory where there is some: the fill waits for the disk again and again.
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let directory = parent.join(format!("imager-xfs-{}-{name}", std::process::id()));
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
        // A little more than the file system uses.
        fs::File::create(self.image()).unwrap().set_len(mib * MIB + 512).unwrap();
        let made = Command::new("mkfs.xfs").args(["-q", "-f"]).args(options.split(' ')).arg(self.image()).output();
        let made = made.unwrap();
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

    fn python(&self, script: &str, arguments: &[&str]) -> std::result::Result<String, String> {
        let output = Command::new("python3").args(["-c", script]).args(arguments).output().unwrap();
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout).unwrap());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn xfs_db(&self, commands: &[String]) -> String {
        let arguments = commands.iter().flat_map(|command| ["-c", command]);
        let output = Command::new("xfs_db").args(["-r", "-f"]).args(arguments).arg(self.image()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Records of the first groups' inode trees whose second field, the hole mask, is not zero.
    fn sparse_chunks(&self) -> usize {
        let commands = (0..4).flat_map(|group| [format!("agi {group}"), "addr root".into(), "p recs".into()]);
        let records = self.xfs_db(&commands.collect::<Vec<_>>());
        let masks = records.lines().filter_map(|line| line.split_once(":[")?.1.split(',').nth(1));
        masks.filter(|mask| *mask != "0").count()
    }

    /// `freesp -d` prints group, block and length of all free extents and of each block of the free lists; the
    /// latter are in use to us, and counted by `flcount`. AGFs count what is free without them.
    fn compare_free(&self, name: &str, map: &VolumeMap, length: u64) {
        let value = |text: &str| text.trim().rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        let geometry = self.xfs_db(&["sb 0", "p agblocks", "p agcount", "p dblocks"].map(String::from));
        let [ag_blocks, ag_count, blocks] = geometry.lines().map(value).collect::<Vec<_>>()[..] else { panic!() };
        let mut free = BTreeSet::new();
        for line in self.xfs_db(&["freesp -d".into()]).lines() {
            let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            if let ([group, block, count], 3) = (&numbers[..], line.split_whitespace().count()) {
                free.extend((*block..block + count).map(|block| group * ag_blocks + block));
            }
        }
        let (mut listed, mut counted) = (0, 0);
        for group in 0..ag_count {
            let text = self.xfs_db(&[format!("agf {group}"), "p freeblks".into(), "p flcount".into()]);
            let [freeblks, flcount] = text.lines().map(value).collect::<Vec<_>>()[..] else { panic!("{text}") };
            (counted, listed) = (counted + freeblks, listed + flcount);
        }
        let cluster = u64::from(map.cluster_bytes);
        let ours: Vec<u64> = free_ranges(map, length)
            .into_iter()
            .flat_map(|(start, end)| start / cluster..end / cluster)
            .filter(|&block| block < blocks)
            .collect();
        assert_eq!(ours.len() as u64, counted, "{name}: free blocks");
        assert_eq!(free.len() as u64, counted + listed, "{name}: free blocks with the free lists");
        assert!(ours.iter().all(|block| free.contains(block)), "{name}: a block that xfs_db has in use");
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
