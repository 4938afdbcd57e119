//! FAT against mtools, sleuthkit and fsck.fat, exFAT against exfat-fuse, sleuthkit and fsck.exfat: what they read is what
//! the map's extents read.

#[path = "fat/lab.rs"]
mod lab;
#[path = "ntfs/reader.rs"]
mod reader;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use imager_native::fs::{Content, File, Kind, Outcome, VolumeMap, map_volume};
use imager_native::volume::Volume;
use lab::{Loop, Random, Scratch, Seen, output, see};

/// What a tool shows of each path.
type Tree = BTreeMap<Vec<u8>, Seen>;

const SEED: u64 = 20_261_121;
const FAT_TOOLS: [&str; 7] = ["mkfs.fat", "mcopy", "mdel", "fls", "istat", "fsck.fat", "mattrib"];
const EXFAT_TOOLS: [&str; 6] = ["mkfs.exfat", "mount.exfat-fuse", "losetup", "umount", "fsck.exfat", "dump.exfat"];
/// Name, options of mkfs.fat, KiB, small files, type.
const VOLUMES: [(&str, &str, u64, u64, &str); 9] = [
    ("fat12 s1", "-F 12 -s 1", 1600, 100, "fat12"),
    ("fat12 s8 odd", "-F 12 -s 8", 15_003, 500, "fat12"),
    ("fat12 s64", "-F 12 -s 64", 60_001, 300, "fat12"),
    ("fat16 s1", "-F 16 -s 1", 30_000, 1500, "fat16"),
    ("fat16 s8", "-F 16 -s 8 -f 1 -R 9", 60_007, 1500, "fat16"),
    ("fat16 S4096", "-F 16 -s 1 -S 4096", 60_000, 1500, "fat16"),
    ("fat32 s1", "-F 32 -s 1", 41_003, 3000, "fat32"),
    ("fat32 s8", "-F 32 -s 8", 290_001, 3000, "fat32"),
    ("fat32 S4096", "-F 32 -s 1 -S 4096", 270_000, 1500, "fat32"),
];

/// Prints why, and ends the test, where real volumes cannot be made.
macro_rules! needs {
    ($tools:expr) => {
        if let Some(reason) = lab::missing(&$tools) {
            // Not by eprintln, which is silent in a test that passes.
            let _ = writeln!(std::io::stderr(), "SKIPPED: real volumes cannot be made here: {reason}");
            return;
        }
    };
}

fn map_of(bytes: &Vec<u8>) -> VolumeMap {
    match map_volume(Volume::whole(bytes)) {
        Outcome::Mapped(map) => map,
        Outcome::Raw { found, reason } => panic!("{found}: {reason}"),
    }
}

#[test]
fn fat_volumes_read_as_mtools_reads_them() {
    needs!(FAT_TOOLS);
    for (name, options, kib, files, kind) in VOLUMES {
        let scratch = Scratch::new(&format!("fat-{}", name.replace(' ', "-")));
        let image = make_fat(&scratch, options, kib, files);
        let back = scratch.folder("back");
        lab::mtools("mcopy", &image, &["-s", "-m", "-Q", "::*"], Some(&back));
        let bytes = std::fs::read(&image).unwrap();
        let started = Instant::now();
        let map = map_of(&bytes);
        eprintln!("{name}: {} files, {} entries in {:?}", map.files.len(), map.entries.len(), started.elapsed());
        assert_eq!((map.file_system, map.label.as_str(), map.dirty), (kind, "LABEL", false), "{name}");
        assert_eq!((map.uuid.as_str(), &map.doubts), ("1234-ABCD", &Vec::new()), "{name}");
        reader::check(&map, 0, bytes.len() as u64);
        compare(name, &bytes, &map, &see(&back));
        compare_fsck(name, &image, &map, bytes.len() as u64);
        compare_sleuthkit(name, &image, &map);
        let fragments = paths(&map)["large.bin".as_bytes()].streams[0].content.clone();
        assert!(matches!(fragments, Content::Extents(extents) if extents.len() > 3), "{name}: not fragmented");
    }
}

/// Small files, long and other names, deep folders, and a large file in the holes that deleted ones leave.
fn make_fat(scratch: &Scratch, options: &str, kib: u64, files: u64) -> std::path::PathBuf {
    let image = scratch.image(kib << 10);
    output(Command::new("mkfs.fat").args(options.split(' ')).args(["-n", "LABEL", "-i", "1234ABCD"]).arg(&image));
    let source = scratch.folder("source");
    let mut random = Random(SEED + files);
    lab::fill(&source, &mut random, files);
    let names: Vec<_> = std::fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().path()).collect();
    let names: Vec<_> = names.iter().map(|path| path.to_str().unwrap()).collect();
    lab::mtools("mcopy", &image, &[&["-s", "-m", "-Q"], &names[..], &["::/"]].concat(), None);
    lab::mtools("mdel", &image, &["::/many/*[02468].del"], None);
    lab::forget_free(&image);
    let cluster = 512 * options.split(' ').nth(3).unwrap().parse::<usize>().unwrap();
    let large = scratch.path("large.bin");
    std::fs::write(&large, random.bytes(cluster * 9 + 60_000)).unwrap();
    lab::mtools("mcopy", &image, &["-m", large.to_str().unwrap(), "::/"], None);
    lab::mtools("mattrib", &image, &["+r", "::/large.bin"], None);
    image
}

/// All paths of the map, by its entries from the root down.
fn paths(map: &VolumeMap) -> BTreeMap<Vec<u8>, &File> {
    let mut paths = BTreeMap::new();
    let mut folders = vec![(Vec::new(), map.root)];
    while let Some((path, number)) = folders.pop() {
        let first = map.entries.partition_point(|entry| entry.parent < number);
        for entry in map.entries[first..].iter().take_while(|entry| entry.parent == number) {
            let mut path: Vec<u8> = path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(&entry.name);
            let at = map.files.binary_search_by_key(&entry.child, |file| file.number).unwrap();
            if map.files[at].kind == Kind::Directory {
                folders.push((path.clone(), entry.child));
            }
            paths.insert(path, &map.files[at]);
        }
    }
    paths
}

fn compare(name: &str, bytes: &Vec<u8>, map: &VolumeMap, seen: &Tree) {
    let paths = paths(map);
    let only = |path: &&Vec<u8>| paths.contains_key(*path) != seen.contains_key(*path);
    let different: Vec<_> = paths.keys().chain(seen.keys()).filter(only).map(|path| path.escape_ascii()).collect();
    let different: Vec<_> = different.into_iter().map(|path| path.to_string()).collect();
    assert!(different.is_empty(), "{name}: only on one side: {different:?}");
    assert_eq!(paths.len() + 1, map.files.len(), "{name}: files without a name");
    for (path, file) in paths {
        let content = (file.kind == Kind::File).then(|| {
            let bytes = reader::read(bytes, &file.streams[0], 64 << 20);
            (bytes.len() as u64, blake3::hash(&bytes))
        });
        // Tools set folders' times their own way.
        let modified = if content.is_some() { file.modified.seconds } else { seen[&path].modified };
        assert_eq!(Seen { content, modified }, seen[&path], "{name}: {}", path.escape_ascii());
    }
}

/// "image: 12 files, 34/567 clusters"
fn compare_fsck(name: &str, image: &Path, map: &VolumeMap, length: u64) {
    let text = String::from_utf8(output(Command::new("fsck.fat").arg("-n").arg(image))).unwrap();
    let last = text.lines().last().unwrap();
    let numbers = last.rsplit(": ").next().unwrap().split(|letter: char| !letter.is_ascii_digit());
    let numbers: Vec<u64> = numbers.filter_map(|word| word.parse().ok()).collect();
    let [files, used, all] = numbers[..] else { panic!("{name}: {last}") };
    // The label counts on some versions.
    assert!(files.abs_diff(map.entries.len() as u64) <= 1, "{name}: {last}, {} entries", map.entries.len());
    let allocated: u64 = map.allocated.iter().map(|range| range.length).sum();
    assert_eq!(allocated, length - (all - used) * u64::from(map.cluster_bytes), "{name}: {last}");
}

/// Its numbers are ours, counted from another place; and the sectors of some files.
fn compare_sleuthkit(name: &str, image: &Path, map: &VolumeMap) {
    let text = output(Command::new("fls").args(["-r", "-p", "-u"]).arg(image));
    let paths = paths(map);
    let mut distances = BTreeMap::new();
    let mut checked = 0;
    for line in text.split(|&byte| byte == b'\n') {
        let Some((head, path)) = line.iter().position(|&byte| byte == b'\t').map(|tab| line.split_at(tab)) else {
            continue;
        };
        let Some(file) = paths.get(&path[1..]) else { continue };
        let head = std::str::from_utf8(head).unwrap();
        let number: u64 = head.split(' ').nth(1).unwrap().trim_end_matches(':').parse().unwrap();
        *distances.entry(file.number as i64 - number as i64).or_insert(0) += 1;
        checked += 1;
        if path == b"\tlarge.bin" || (file.kind == Kind::File && checked % 400 == 0) {
            compare_sectors(name, image, number, file);
        }
    }
    assert!(checked * 10 > paths.len() * 9, "{name}: {checked} of {} compared", paths.len());
    assert_eq!(distances.len(), 1, "{name}: {distances:?}");
}

fn compare_sectors(name: &str, image: &Path, number: u64, file: &File) {
    let fsstat = String::from_utf8(output(Command::new("fsstat").arg(image))).unwrap();
    let sector = fsstat.lines().find_map(|line| line.strip_prefix("Sector Size: ")).unwrap().parse::<u64>().unwrap();
    let text = String::from_utf8(output(Command::new("istat").arg(image).arg(number.to_string()))).unwrap();
    let list = text.split("Sectors:").nth(1).unwrap();
    let theirs: Vec<u64> = list.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let Content::Extents(extents) = &file.streams[0].content else { panic!("{name}: resident") };
    let ours: Vec<u64> =
        extents.iter().flat_map(|extent| extent.disk / sector..(extent.disk + extent.length) / sector).collect();
    // They list what the size needs, and fill the last line with zeros.
    let needed = file.streams[0].size.div_ceil(sector) as usize;
    assert_eq!(theirs[..needed], ours[..needed], "{name}: inode {number}");
}

/// Bytes of the image as exfat-fuse left it, and what it showed.
fn make_exfat(scratch: &Scratch, options: &str, kib: u64, files: u64) -> Option<(Vec<u8>, Tree)> {
    let image = scratch.image(kib << 10);
    output(Command::new("mkfs.exfat").args(options.split(' ').filter(|word| !word.is_empty())).arg(&image));
    let mount = Loop::mount(&image, &scratch.folder("mount"))?;
    let mut random = Random(SEED + files);
    lab::fill(&mount.at, &mut random, files);
    std::fs::write(mount.at.join("größe 😀 日本.txt"), b"beyond the first plane").unwrap();
    for entry in std::fs::read_dir(mount.at.join("many")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_stem().unwrap().to_str().unwrap().ends_with(['0', '2', '4', '6', '8']) {
            std::fs::remove_file(path).unwrap();
        }
    }
    let largest = (kib << 10) as usize / 8;
    std::fs::write(mount.at.join("large.bin"), random.bytes(largest)).unwrap();
    mount.close();
    let mount = Loop::mount(&image, &scratch.folder("mount"))?;
    let seen = see(&mount.at);
    mount.close();
    let fsck = Command::new("fsck.exfat").arg("-n").arg(&image).output().unwrap();
    assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stdout));
    Some((std::fs::read(&image).unwrap(), seen))
}

#[test]
fn exfat_volumes_read_as_exfat_fuse_reads_them() {
    needs!(EXFAT_TOOLS);
    let volumes =
        [("-c 4K -L LABEL", 32 << 10, 700), ("-c 512 -L LABEL", 24_001, 700), ("-c 64K -L LABEL", 80 << 10, 300)];
    for (options, kib, files) in volumes {
        let scratch = Scratch::new(&format!("exfat-{kib}"));
        let Some((bytes, seen)) = make_exfat(&scratch, options, kib, files) else {
            let _ = writeln!(std::io::stderr(), "SKIPPED: exfat-fuse does not mount here");
            return;
        };
        let map = map_of(&bytes);
        assert_eq!((map.file_system, map.label.as_str(), map.dirty), ("exfat", "LABEL", false), "{options}");
        assert_eq!(map.doubts, Vec::<String>::new(), "{options}");
        reader::check(&map, 0, bytes.len() as u64);
        compare(options, &bytes, &map, &seen);
        compare_dump(&scratch, &map, bytes.len() as u64);
        compare_sleuthkit(options, &scratch.path("image"), &map);
        eprintln!("exfat {options}: {} files", map.files.len());
    }
}

fn compare_dump(scratch: &Scratch, map: &VolumeMap, length: u64) {
    let text = String::from_utf8(output(Command::new("dump.exfat").arg(scratch.path("image")))).unwrap();
    let free =
        text.lines().find_map(|line| line.strip_prefix("Free Clusters:")).unwrap().trim().parse::<u64>().unwrap();
    let allocated: u64 = map.allocated.iter().map(|range| range.length).sum();
    assert_eq!(allocated, length - free * u64::from(map.cluster_bytes));
}
