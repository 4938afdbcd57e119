//! One good volume built by hand, and one named edit a test.

use super::directory::tests::short;
use super::*;
use crate::fs::volume_map::{Content, Extent};

const SECTOR: usize = 512;
const FAT: usize = SECTOR;
const FAT_BYTES: usize = 9 * SECTOR;
const ROOT: usize = 19 * SECTOR;
const HEAP: usize = 33 * SECTOR;
const BYTES: usize = 2880 * SECTOR;
const END: u16 = 0xFFF;

/// A floppy disk whose root has FILE (clusters 2, 3, 5; 1,200 bytes) and SUB (cluster 4) with INNER (cluster 6).
struct Floppy(Vec<u8>);

impl Floppy {
    const START: u64 = 4096;

    fn new() -> Self {
        let mut floppy = Self(vec![0; BYTES]);
        floppy.0[..SECTOR].copy_from_slice(&boot::tests::floppy());
        for (cluster, next) in [(0, 0xFF0), (1, END), (2, 3), (3, 5), (4, END), (5, END), (6, END)] {
            floppy.link(cluster, next);
        }
        floppy.entry(ROOT, short(b"FILE       ", 0x21, 2, 1200));
        floppy.entry(ROOT + 32, short(b"SUB        ", 0x10, 4, 0));
        floppy.entry(HEAP + 2 * SECTOR, short(b".          ", 0x10, 4, 0));
        floppy.entry(HEAP + 2 * SECTOR + 32, short(b"..         ", 0x10, 0, 0));
        floppy.entry(HEAP + 2 * SECTOR + 64, short(b"INNER   TXT", 0x20, 6, 5));
        floppy
    }

    fn link(&mut self, cluster: usize, next: u16) {
        for copy in [FAT, FAT + FAT_BYTES] {
            let at = copy + cluster * 3 / 2;
            let old = u16::from_le_bytes([self.0[at], self.0[at + 1]]);
            let new = if cluster.is_multiple_of(2) { old & 0xF000 | next } else { old & 0x000F | next << 4 };
            self.0[at..at + 2].copy_from_slice(&new.to_le_bytes());
        }
    }

    fn entry(&mut self, at: usize, raw: [u8; 32]) {
        self.0[at..at + 32].copy_from_slice(&raw);
    }

    fn map(&self) -> VolumeMap {
        let disk = [vec![0; Self::START as usize], self.0.clone(), vec![0; 100]].concat();
        let volume = Volume { source: &disk, start: Self::START, length: self.0.len() as u64 };
        assert!(detect(volume).unwrap());
        map(volume).unwrap()
    }
}

fn names(map: &VolumeMap) -> Vec<String> {
    map.entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect()
}

fn extents(map: &VolumeMap, name: &str) -> Vec<(u64, u64, u64)> {
    let child = map.entries.iter().find(|entry| entry.name == name.as_bytes()).unwrap().child;
    let file = map.files.iter().find(|file| file.number == child).unwrap();
    let Content::Extents(extents) = &file.streams[0].content else { panic!("{name} is resident") };
    let heap = Floppy::START + HEAP as u64;
    let shape = |extent: &Extent| (extent.logical, (extent.disk - heap) / 512 + 2, extent.length);
    extents.iter().map(shape).collect()
}

#[test]
fn a_good_volume_is_read() {
    let map = Floppy::new().map();
    assert_eq!((map.file_system, map.label.as_str(), map.uuid.as_str()), ("fat12", "FLOPPY", "1234-ABCD"));
    assert_eq!(
        (names(&map), map.doubts.len(), map.dirty),
        (["FILE", "SUB", "INNER.TXT"].map(String::from).to_vec(), 0, false)
    );
    assert_eq!(extents(&map, "FILE"), [(0, 2, 1024), (1024, 5, 512)]);
    let numbers: Vec<u64> = map.files.iter().map(|file| file.number).collect();
    assert_eq!(numbers, [1, ROOT as u64 / 32, ROOT as u64 / 32 + 1, (HEAP + 2 * SECTOR + 64) as u64 / 32]);
    assert_eq!(map.files.iter().map(|file| file.mode).collect::<Vec<_>>(), [0o777, 0o444, 0o777, 0o666]);
    // 2,847 clusters of one sector reach the end.
    let used: Vec<_> = map.allocated.iter().map(|range| (range.start, range.length)).collect();
    assert_eq!(used, [(Floppy::START, (HEAP + 5 * SECTOR) as u64)]);
}

#[test]
fn a_broken_chain_costs_its_file() {
    for (next, why) in [
        (0, "does not exist"),
        (1, "does not exist"),
        (9, "is free"),
        (4000, "does not exist"),
        (2, "second time"),
        (END, "too few"),
    ] {
        let mut floppy = Floppy::new();
        floppy.link(3, next);
        let map = floppy.map();
        assert_eq!(names(&map), ["SUB", "INNER.TXT"], "{next}");
        if next == 0 {
            assert!(map.doubts[0].contains("cluster 3, which is free"), "{:?}", map.doubts);
        } else {
            assert!(map.doubts[0].contains(why), "{next}: {:?}", map.doubts);
        }
    }
}

#[test]
fn the_first_owner_keeps_a_cross_linked_cluster() {
    let mut floppy = Floppy::new();
    floppy.link(6, 3);
    let map = floppy.map();
    assert_eq!(names(&map), ["FILE", "SUB"]);
    assert!(map.doubts[0].contains("INNER") && map.doubts[0].contains("another's"), "{:?}", map.doubts);
}

#[test]
fn a_directory_in_itself_ends() {
    let mut floppy = Floppy::new();
    floppy.entry(HEAP + 2 * SECTOR + 64, short(b"AGAIN      ", 0x10, 4, 0));
    let map = floppy.map();
    assert_eq!((names(&map), map.doubts.len()), (["FILE", "SUB"].map(String::from).to_vec(), 1));
}

#[test]
fn bad_clusters_are_left_out() {
    let mut floppy = Floppy::new();
    floppy.link(20, 0xFF7);
    floppy.link(21, END);
    let map = floppy.map();
    assert!(map.doubts[0].contains("1 clusters are marked as bad"), "{:?}", map.doubts);
    let heap = Floppy::START + HEAP as u64;
    assert_eq!((map.allocated[1].start, map.allocated[1].length), (heap + 19 * 512, 512));
}

#[test]
fn what_follows_the_file_system_is_allocated() {
    let mut floppy = Floppy::new();
    floppy.0.extend([1; 5000]);
    let last = *floppy.map().allocated.last().unwrap();
    assert_eq!((last.start, last.length), (Floppy::START + BYTES as u64, 5000));
}

#[test]
fn a_name_given_twice_is_left_out_once() {
    let mut floppy = Floppy::new();
    floppy.entry(ROOT + 64, short(b"FILE       ", 0x20, 0, 0));
    let map = floppy.map();
    assert_eq!((names(&map).len(), map.doubts.len()), (3, 1));
    assert_eq!(extents(&map, "FILE").len(), 2, "the first stays");
}

#[test]
fn a_dirty_bit_is_seen() {
    let mut floppy = Floppy::new();
    floppy.0[0x25] = 1;
    assert!(floppy.map().dirty);
}
