//! One good volume built by hand, and one named edit a test.

use super::inode::{FLAG_ENCRYPT, FLAG_EXTENTS, FLAG_INLINE_DATA};
use super::*;
use crate::base::ranges::ByteRange;
use crate::fs::volume_map::{Content, ExtentKind, File};

const BLOCK: usize = 1024;
const INODE: usize = 256;
const BITMAP: usize = 3;
const TABLE: usize = 5;
/// The root's only block, and the first one that is free.
const ROOT: usize = 30;
const FREE: usize = 40;
/// The file under test.
const FILE: u32 = 12;
const MODE_FILE: u16 = 0o100644;
const MODE_DIRECTORY: u16 = 0o040755;

/// 1,024 blocks of 1 KiB in one group, 64 inodes of 256 bytes, no checksums. Partition of a disk, from byte 4096.
struct Small(Vec<u8>);

impl Small {
    const START: u64 = 4096;

    /// The root names FILE "file"; FILE is an empty regular file with an extent tree.
    fn new() -> Self {
        let mut small = Self(vec![0; 1 << 20]);
        small.0[BLOCK..2 * BLOCK].copy_from_slice(&superblock::tests::plain());
        small.put16(BLOCK + 0x58, INODE as u16);
        for (at, block) in [(0, BITMAP), (4, BITMAP + 1), (8, TABLE)] {
            small.put32(2 * BLOCK + at, block as u32);
        }
        // Blocks 1 to 128.
        small.0[BITMAP * BLOCK..BITMAP * BLOCK + 16].fill(0xff);
        small.inode(ROOT_INODE, MODE_DIRECTORY, BLOCK as u32, FLAG_EXTENTS);
        small.extents(ROOT_INODE, &[(0, 1, ROOT as u32)]);
        small.entries(ROOT, &[(2, b"."), (2, b".."), (FILE, b"file")]);
        small.inode(FILE, MODE_FILE, 0, FLAG_EXTENTS);
        small.extents(FILE, &[]);
        small
    }

    fn put16(&mut self, at: usize, value: u16) {
        self.0[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn inode_at(number: u32) -> usize {
        TABLE * BLOCK + (number as usize - 1) * INODE
    }

    fn inode(&mut self, number: u32, mode: u16, size: u32, flags: u32) {
        let at = Self::inode_at(number);
        self.put16(at, mode);
        self.put32(at + 0x4, size);
        self.put16(at + 0x1a, 1);
        self.put32(at + 0x20, flags);
        self.put16(at + 0x80, 32);
    }

    /// Logical block, ee_len and block of each.
    fn node(&mut self, at: usize, depth: u16, max: u16, entries: &[(u32, u16, u32)]) {
        for (field, value) in [0xf30a, entries.len() as u16, max, depth].into_iter().enumerate() {
            self.put16(at + 2 * field, value);
        }
        for (number, (logical, length, block)) in entries.iter().enumerate() {
            let at = at + 12 + 12 * number;
            self.put32(at, *logical);
            // ee_len, ee_start_hi, ee_start_lo; or ei_leaf_lo, ei_leaf_hi.
            self.put32(at + 4, if depth == 0 { u32::from(*length) } else { *block });
            self.put32(at + 8, if depth == 0 { *block } else { 0 });
        }
    }

    fn extents(&mut self, number: u32, entries: &[(u32, u16, u32)]) {
        self.node(Self::inode_at(number) + 0x28, 0, 4, entries);
    }

    fn index(&mut self, number: u32, depth: u16, entries: &[(u32, u16, u32)]) {
        self.node(Self::inode_at(number) + 0x28, depth, 4, entries);
    }

    fn entries(&mut self, block: usize, entries: &[(u32, &[u8])]) {
        let mut at = block * BLOCK;
        for (number, (child, name)) in entries.iter().enumerate() {
            let last = number + 1 == entries.len();
            let length = if last { (block + 1) * BLOCK - at } else { 8 + name.len().next_multiple_of(4) };
            self.put32(at, *child);
            self.put16(at + 4, length as u16);
            self.put16(at + 6, name.len() as u16);
            self.0[at + 8..at + 8 + name.len()].copy_from_slice(name);
            at += length;
        }
    }

    fn map(&self) -> VolumeMap {
        let disk = [vec![0; Self::START as usize], self.0.clone(), vec![0; 100]].concat();
        let volume = Volume { source: &disk, start: Self::START, length: self.0.len() as u64 };
        map(volume).unwrap()
    }

    /// FILE, or the doubts that took its place.
    fn file(&self) -> std::result::Result<File, Vec<String>> {
        let map = self.map();
        map.files.into_iter().find(|file| file.number == u64::from(FILE)).ok_or(map.doubts)
    }

    fn assert_left_out(&self, why: &str) {
        let doubts = self.file().unwrap_err();
        assert!(doubts[0].starts_with("inode 12") && doubts[0].contains(why), "{doubts:?}");
    }
}

fn names(map: &VolumeMap) -> Vec<String> {
    map.entries.iter().map(|entry| format!("{}/{}", entry.parent, String::from_utf8_lossy(&entry.name))).collect()
}

#[test]
fn a_good_volume_is_mapped_at_its_place() {
    let mut small = Small::new();
    small.extents(FILE, &[(0, 2, 40), (2, 1, 42), (5, 32768 + 3, 50)]);
    let map = small.map();
    assert_eq!((map.doubts.len(), names(&map)), (0, vec!["2/file".to_string()]), "{:?}", map.doubts);
    assert_eq!(map.allocated[0], ByteRange { start: Small::START, length: 129 * BLOCK as u64 });
    let Content::Extents(extents) = &map.files[1].streams[0].content else { panic!() };
    assert_eq!(extents.len(), 2);
    assert_eq!((extents[0].length, extents[0].disk), (3 * 1024, Small::START + 40 * 1024));
    assert_eq!((extents[1].kind, extents[1].logical, extents[1].length), (ExtentKind::Unwritten, 5 * 1024, 3 * 1024));
}

#[test]
fn blocks_of_files_are_kept_whatever_the_bitmap_says() {
    let mut small = Small::new();
    small.index(FILE, 1, &[(0, 0, 200)]);
    small.node(200 * BLOCK, 0, 84, &[(0, 10, 120), (10, 2, 300), (12, 2, 301)]);
    small.put32(Small::inode_at(FILE) + 0x68, 400);
    let map = small.map();
    let starts: Vec<_> = map.allocated.iter().map(|range| (range.start - Small::START) / 1024).collect();
    assert_eq!(starts, [0, 200, 300, 400]);
    assert_eq!(map.allocated[0].length, 130 * 1024);
    assert!(map.doubts.last().unwrap().starts_with("6 blocks in use are free"), "{:?}", map.doubts);
}

#[test]
fn a_leaf_that_points_to_itself_is_refused() {
    let mut small = Small::new();
    small.index(FILE, 1, &[(0, 0, FREE as u32)]);
    small.node(FREE * BLOCK, 1, 84, &[(0, 0, FREE as u32)]);
    small.assert_left_out("depth 1");
}

#[test]
fn a_node_met_twice_is_refused() {
    let mut small = Small::new();
    small.index(FILE, 1, &[(0, 0, FREE as u32), (10, 0, FREE as u32)]);
    small.node(FREE * BLOCK, 0, 84, &[(0, 1, 100)]);
    small.assert_left_out("out of place");
    small.node(FREE * BLOCK, 0, 84, &[]);
    small.assert_left_out("0 of 84 entries");
}

#[test]
fn absurd_nodes_are_refused() {
    for (entries, max, depth) in [(5, 5, 0), (u16::MAX, u16::MAX, 0), (3, 2, 0), (0, 4, 1), (0, 4, 6), (1, 4, u16::MAX)]
    {
        let mut small = Small::new();
        let at = Small::inode_at(FILE) + 0x28;
        for (field, value) in [entries, max, depth].into_iter().enumerate() {
            small.put16(at + 2 + 2 * field, value);
        }
        small.assert_left_out("");
    }
}

#[test]
fn extents_out_of_order_or_outside_are_refused() {
    for extents in [
        [(0, 2, 40), (1, 1, 60)],
        [(0, 2, 40), (2, 0, 60)],
        [(0, 2, 40), (2, 1, 0)],
        [(0, 2, 40), (2, 1, 1)],
        [(0, 2, 40), (2, 2, 1023)],
        [(0, 2, 40), (2, 1, u32::MAX)],
        [(0, 2, 40), (u32::MAX, 2, 60)],
        [(5, 2, 40), (2, 1, 60)],
    ] {
        let mut small = Small::new();
        small.extents(FILE, &extents);
        small.assert_left_out("");
        assert_eq!(small.map().entries.len(), 0, "nor is it named");
    }
}

#[test]
fn indirect_blocks_that_point_to_themselves_end() {
    let mut small = Small::new();
    small.inode(FILE, MODE_FILE, 5000, 0);
    let at = Small::inode_at(FILE) + 0x28;
    small.0[at..at + 60].fill(0);
    small.put32(at + 4 * 14, FREE as u32);
    for pointer in 0..BLOCK / 4 {
        small.put32(FREE * BLOCK + 4 * pointer, FREE as u32);
    }
    small.assert_left_out("than it has blocks");
}

#[test]
fn one_tree_cannot_be_claimed_by_many() {
    let mut small = Small::new();
    let extents: Vec<_> = (0..84).map(|number| (2 * number, 1, 100 + 2 * number)).collect();
    for leaf in 0..4 {
        let shifted: Vec<_> = extents.iter().map(|(logical, n, block)| (logical + 1000 * leaf, *n, *block)).collect();
        small.node((FREE + leaf as usize) * BLOCK, 0, 84, &shifted);
    }
    for number in FILE..64 {
        small.inode(number, MODE_FILE, 1 << 20, FLAG_EXTENTS);
        small.index(number, 1, &[0, 1, 2, 3].map(|leaf| (1000 * leaf, 0, FREE as u32 + leaf)));
    }
    let map = small.map();
    assert!(map.files.len() < 30 && map.doubts[0].contains("more extents"), "{} {:?}", map.files.len(), map.doubts);
}

#[test]
fn broken_entries_cost_their_block_or_name() {
    for (at, value) in [(4, 0), (4, 8), (4, 13), (4, 1020), (6, 0), (6, 255), (8, 0x2f), (0, 65)] {
        let mut small = Small::new();
        small.entries(ROOT, &[(2, b"."), (2, b".."), (FILE, b"file")]);
        let third = ROOT * BLOCK + 24;
        small.put16(third + at, value);
        let map = small.map();
        assert_eq!((map.entries.len(), map.files.len()), (0, 2), "{at} = {value}: {:?}", names(&map));
        assert_eq!(map.doubts.len(), 1, "{at} = {value}");
    }
}

#[test]
fn directories_form_a_tree() {
    let mut small = Small::new();
    let directory = 13;
    small.inode(directory, MODE_DIRECTORY, BLOCK as u32, FLAG_EXTENTS);
    small.extents(directory, &[(0, 1, FREE as u32)]);
    small.entries(ROOT, &[(FILE, b"file"), (FILE, b"file"), (directory, b"a"), (directory, b"b"), (14, b"gone")]);
    small.entries(FREE, &[(2, b"root"), (directory, b"self"), (FILE, b"hard")]);
    let map = small.map();
    assert_eq!(names(&map), ["2/a", "2/file", "13/hard"]);
    assert_eq!(map.doubts.len(), 2);
}

#[test]
fn inline_data_and_its_continuation() {
    let mut small = Small::new();
    small.inode(FILE, MODE_FILE, 70, FLAG_INLINE_DATA);
    let at = Small::inode_at(FILE);
    small.0[at + 0x28..at + 0x28 + 60].fill(b'a');
    // One entry: system.data of 8 bytes, kept 40 bytes after the magic.
    let area = at + 128 + 32;
    small.put32(area, 0xea02_0000);
    small.0[area + 4..area + 6].copy_from_slice(&[4, 7]);
    small.put16(area + 6, 40);
    small.put32(area + 12, 8);
    small.0[area + 20..area + 24].copy_from_slice(b"data");
    small.0[area + 44..area + 52].fill(b'b');
    let file = small.file().unwrap();
    let Content::Resident(bytes) = &file.streams[0].content else { panic!() };
    assert_eq!(*bytes, [vec![b'a'; 60], vec![b'b'; 8], vec![0; 2]].concat());
    assert!(file.xattrs.is_empty());
    small.put16(area + 6, 90);
    small.assert_left_out("outside its area");
    small.put16(area + 6, 40);
    small.put32(at + 4, 1 << 30);
    small.assert_left_out("inline data of");
}

#[test]
fn broken_attributes_cost_the_attributes() {
    for (at, value) in [(6, 0xffff), (12, 0xffff), (14, 0xffff), (8, 70), (8, FILE as u16)] {
        let mut small = Small::new();
        let area = Small::inode_at(FILE) + 128 + 32;
        small.put32(area, 0xea02_0000);
        small.0[area + 4..area + 6].copy_from_slice(&[1, 1]);
        small.put16(area + 6, 40);
        small.put32(area + 12, 8);
        assert_eq!(small.file().unwrap().xattrs.len(), 1);
        small.put16(area + at, value);
        let map = small.map();
        assert_eq!((map.files[1].xattrs.len(), map.doubts.len()), (0, 1), "{at} = {value}");
    }
}

#[test]
fn encrypted_content_is_said_to_be() {
    let mut small = Small::new();
    small.inode(FILE, MODE_FILE, 5000, FLAG_EXTENTS | FLAG_ENCRYPT);
    small.extents(FILE, &[(0, 2, 40), (2, 32768 + 1, 42)]);
    let file = small.file().unwrap();
    let Content::Extents(extents) = &file.streams[0].content else { panic!() };
    assert_eq!([extents[0].kind, extents[1].kind], [ExtentKind::Encrypted, ExtentKind::Unwritten]);
}

#[test]
fn a_volume_without_a_root_is_refused() {
    let mut small = Small::new();
    small.put32(2 * BLOCK + 8, u32::MAX);
    assert_eq!(map(Volume::whole(&small.0)).unwrap_err().code(), "CORRUPT");
    for length in [0, 1023, 1024, 1500, 2047] {
        assert!(!detect(Volume::whole(&small.0[..length].to_vec())).unwrap());
    }
}
