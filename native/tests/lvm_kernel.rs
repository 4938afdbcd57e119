//! LVM as a kernel made it: a disk that User-Mode Linux filled through device-mapper, which this machine's own kernel may
//! lack. Every file must read back through the map as it did there, and device-mapper's tables must say the same.

mod skips;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use imager_native::base::ranges::ByteRange;
use imager_native::disk::volume::ReadAt;
use imager_native::fs::Outcome;
use imager_native::fs::volume_map::{Content, Extent, ExtentKind, Kind};
use imager_native::map::scan::{Listing, Scan};

const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;
/// Of the second partition.
const START: u64 = 4 * MIB;

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A disk with the partitions 1 and 2; what the guest says is in the folder `out`.
fn make(folder: &Path) -> Vec<u8> {
    let disk = folder.join("disk");
    let mut bytes = vec![0; 512];
    for (slot, start, length) in [(0, MIB, 3 * MIB), (1, START, 110 * MIB)] {
        let entry = &mut bytes[446 + 16 * slot..][..16];
        entry[4] = 0x8e;
        entry[8..12].copy_from_slice(&((start / SECTOR) as u32).to_le_bytes());
        entry[12..16].copy_from_slice(&((length / SECTOR) as u32).to_le_bytes());
    }
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes.resize(116 * MIB as usize, 0);
    fs::write(&disk, bytes).unwrap();
    let out = folder.join("out");
    fs::create_dir(&out).unwrap();
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lvm/guest.sh");
    let registers = folder.join("registers.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lvm/registers.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).args([&registers, &source]).status();
    assert!(compiled.unwrap().success());
    let status = Command::new("timeout")
        .env("LD_PRELOAD", &registers)
        .args(["-k", "2", "150", "linux.uml", "mem=256M", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"])
        .args(["con=null", "con0=null,fd:1", &format!("init={}", guest.display())])
        .args([format!("uml_dir={}", folder.display()), format!("ubd0={}", disk.display())])
        .arg(format!("IMAGER_OUT={}", out.display()))
        .stdin(std::process::Stdio::null())
        .output();
    let log = fs::read_to_string(out.join("log")).unwrap_or_default();
    assert!(out.join("done").exists(), "the guest did not finish: {status:?}\n{log}");
    fs::read(&disk).unwrap()
}

/// Every file below, by its path from there.
fn files(root: &Path, at: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(root, &path, found);
        } else {
            found.insert(format!("/{}", path.strip_prefix(root).unwrap().display()), fs::read(&path).unwrap());
        }
    }
}

fn content(disk: &Vec<u8>, size: u64, content: &Content) -> Vec<u8> {
    let extents: &[Extent] = match content {
        Content::Resident(bytes) => return bytes.clone(),
        Content::Extents(extents) => extents,
    };
    let mut bytes = vec![0; size as usize];
    for extent in extents.iter().filter(|extent| extent.kind == ExtentKind::Plain) {
        let to = (extent.logical + extent.length).min(size);
        disk.read_at(extent.disk, &mut bytes[extent.logical as usize..to as usize]).unwrap();
    }
    bytes
}

/// "office-root: 0 49152 linear 98:2 2048" for each stretch; device-mapper doubles dashes in names.
fn mapped(table: &str, name: &str) -> Vec<ByteRange> {
    let rows = table.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let mut pieces: Vec<ByteRange> = Vec::new();
    for row in rows {
        let words: Vec<&str> = row.split(' ').collect();
        assert_eq!(words[2], "linear");
        let number = |at: usize| words[at].parse::<u64>().unwrap() * SECTOR;
        pieces.push(ByteRange { start: START + number(4), length: number(1) });
    }
    pieces
}

fn absent() -> Vec<&'static str> {
    let there = |tool: &&str| ["/usr/bin", "/usr/sbin", "/sbin"].iter().any(|at| Path::new(at).join(tool).exists());
    ["linux.uml", "lvm", "insmod", "mkfs.ext4", "timeout"].into_iter().filter(|tool| !there(tool)).collect()
}

#[test]
fn files_on_logical_volumes_are_what_the_kernel_read() {
    if !absent().is_empty() {
        return skips::skipped(&format!("{} not installed", absent().join(", ")));
    }
    let folder = Folder(std::env::temp_dir().join(format!("imager-lvm-kernel-{}", std::process::id())));
    fs::create_dir(&folder.0).unwrap();
    let disk = make(&folder.0);
    let table = fs::read_to_string(folder.0.join("out/table")).unwrap();
    let scan = Scan::new(&disk, false).unwrap();
    let named: Vec<_> = scan.volumes.iter().map(|one| (one.partition.index, one.partition.name.as_str())).collect();
    assert_eq!(named, [(1, ""), (2, ""), (2001, "office/root"), (2002, "office/home"), (2003, "office/swap")]);
    for (at, name, mapping) in [(2, "root", "office-root"), (3, "home", "office-home-real"), (4, "swap", "office-swap")]
    {
        assert_eq!(scan.volumes[at].pieces, mapped(&table, mapping), "{name}");
        assert_eq!(scan.volumes[at].pieces.len(), 2, "{name}");
    }
    for (at, name) in [(2, "root"), (3, "home")] {
        let Outcome::Mapped(map) = &scan.volumes[at].outcome else { panic!("{name} is raw") };
        assert!(!map.dirty && map.doubts.is_empty(), "{name}: {:?}", map.doubts);
        let mut theirs = BTreeMap::new();
        files(&folder.0.join("out").join(name), &folder.0.join("out").join(name), &mut theirs);
        let mut ours = BTreeMap::new();
        Listing::new(&scan).next(&scan, usize::MAX, |one| {
            let Some(stream) = one.stream.filter(|_| std::ptr::eq(one.map, map) && one.file.kind == Kind::File) else {
                return;
            };
            let path = String::from_utf8(one.path.to_vec()).unwrap();
            ours.insert(path, content(&disk, stream.size, &stream.content));
        });
        assert!(theirs.len() > 10 && theirs.keys().eq(ours.keys()), "{name}");
        assert!(theirs.iter().all(|(path, bytes)| ours[path] == *bytes), "{name}");
    }
    // Both segments of the swap volume, behind its header; and nothing else of the disk but journals and that.
    let swap = scan.exclusions.iter().find(|one| one.what == "swap partition").unwrap();
    let [first, second] = scan.volumes[4].pieces[..] else { panic!("two pieces") };
    let behind = ByteRange { start: first.start + 4096, length: first.length - 4096 };
    assert_eq!((swap.partition, &swap.ranges), (2003, &vec![behind, second]));
    let held = scan.allocated();
    let free = ByteRange { start: START + 100 * MIB, length: MIB };
    assert!(!imager_native::base::ranges::meets(&held, free), "no logical volume has these extents");
    let store = mapped(&table, "office-before-cow")[0];
    assert!(held.iter().any(|range| range.start <= store.start && range.end() >= store.end()), "the snapshot's store");
}
