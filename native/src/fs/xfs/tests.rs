//! One good volume of version 4 built by hand (no checksums in the way), and one named edit a test.

use super::*;
use crate::base::ranges::ByteRange;
use crate::fs::volume_map::{Content, ExtentKind, File};

const BLOCK: usize = 1024;
const INODE: usize = 256;
/// Groups of 500 blocks: 9 bits, of which 512 would be the power of two.
const GROUP_BLOCKS: usize = 500;
const GROUP_BITS: u32 = 9;
const GROUPS: usize = 2;
/// Blocks within each group. Inodes 64 to 127 are in blocks 16 to 31.
const FREE_TREE: usize = 4;
const INODE_TREE: usize = 5;
const CHUNK: u64 = 64;
const FREE_FROM: u32 = 200;
const ROOT: u64 = 64;
/// The file under test, and a second folder; both in the first group.
const FILE: u64 = 65;
const FOLDER: u64 = 66;
/// The same chunk of the second group.
const SECOND_GROUP: u64 = 1 << (GROUP_BITS + 2);

struct Small(Vec<u8>);

impl Small {
    const START: u64 = 4096;

    /// The root names FILE "file"; FILE is empty.
    fn new() -> Self {
        let mut small = Self(vec![0; GROUPS * GROUP_BLOCKS * BLOCK]);
        small.superblock();
        for group in 0..GROUPS {
            let at = group * GROUP_BLOCKS * BLOCK;
            small.header(at + 512, b"XAGF", group, [(16, FREE_TREE as u32), (28, 1), (52, 300), (48, 0)]);
            small.header(at + 1024, b"XAGI", group, [(16, 64), (20, INODE_TREE as u32), (24, 1), (28, 0)]);
            small.group_node(at + FREE_TREE * BLOCK, b"ABTB", 0, &[[FREE_FROM, 300, 0, 0]], 2);
            let free = if group == 0 { [u32::MAX, u32::MAX - 7] } else { [u32::MAX; 2] };
            small.group_node(at + INODE_TREE * BLOCK, b"IABT", 0, &[[CHUNK as u32, 61, free[0], free[1]]], 4);
        }
        small.inode(ROOT, 0o040755, 1, &[]);
        small.inode(FILE, 0o100644, 2, &[]);
        small.inode(FOLDER, 0o040755, 1, &[]);
        small.short_form(ROOT, &[(FILE, b"file"), (FOLDER, b"folder")]);
        small.short_form(FOLDER, &[]);
        small
    }

    fn superblock(&mut self) {
        self.0[..4].copy_from_slice(b"XFSB");
        for (at, value) in [(4, BLOCK), (12, GROUPS * GROUP_BLOCKS), (84, GROUP_BLOCKS), (88, GROUPS)] {
            self.put32(at, value as u32);
        }
        self.put32(60, ROOT as u32);
        for (at, value) in [(100, 0x2004), (102, 512), (104, INODE), (106, BLOCK / INODE)] {
            self.put16(at, value as u16);
        }
        self.0[120] = 10;
        self.0[123] = 2;
        self.0[124] = GROUP_BITS as u8;
    }

    fn header(&mut self, at: usize, magic: &[u8; 4], group: usize, fields: [(usize, u32); 4]) {
        self.0[at..at + 4].copy_from_slice(magic);
        for (field, value) in [(4, 1), (8, group as u32), (12, GROUP_BLOCKS as u32)].into_iter().chain(fields) {
            self.put32(at + field, value);
        }
    }

    /// `words` of each record.
    fn group_node(&mut self, at: usize, magic: &[u8; 4], level: u16, records: &[[u32; 4]], words: usize) {
        self.0[at..at + 4].copy_from_slice(magic);
        self.put16(at + 4, level);
        self.put16(at + 6, records.len() as u16);
        for (number, record) in records.iter().enumerate() {
            for (word, value) in record[..words].iter().enumerate() {
                self.put32(at + 16 + (number * words + word) * 4, *value);
            }
        }
    }

    fn put16(&mut self, at: usize, value: u16) {
        self.0[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    fn put64(&mut self, at: usize, value: u64) {
        self.0[at..at + 8].copy_from_slice(&value.to_be_bytes());
    }

    fn inode_at(number: u64) -> usize {
        let group = (number / SECOND_GROUP) as usize;
        group * GROUP_BLOCKS * BLOCK + (number % SECOND_GROUP) as usize * INODE
    }

    fn inode(&mut self, number: u64, mode: u16, format: u8, extents: &[[u64; 4]]) {
        let at = Self::inode_at(number);
        self.0[at..at + INODE].fill(0);
        self.0[at..at + 2].copy_from_slice(b"IN");
        self.put16(at + 2, mode);
        self.0[at + 4] = 2;
        self.0[at + 5] = format;
        self.put32(at + 16, 1);
        self.put32(at + 76, extents.len() as u32);
        self.records(at + 100, extents);
    }

    /// Unwritten, logical, packed block, count of each.
    fn records(&mut self, at: usize, extents: &[[u64; 4]]) {
        for (number, [unwritten, logical, block, count]) in extents.iter().enumerate() {
            self.put64(at + number * 16, unwritten << 63 | logical << 9 | block >> 43);
            self.put64(at + number * 16 + 8, block << 21 | count);
        }
    }

    fn extents(&mut self, extents: &[[u64; 4]]) {
        self.inode(FILE, 0o100644, 2, extents);
    }

    /// The root of FILE's tree of `level`, and how many extents it is said to have.
    fn tree(&mut self, level: u16, children: &[u64], extents: u32) {
        self.inode(FILE, 0o100644, 3, &[]);
        let at = Self::inode_at(FILE);
        self.put32(at + 76, extents);
        self.put16(at + 100, level);
        self.put16(at + 102, children.len() as u16);
        let room = (INODE - 104) / 16;
        for (number, child) in children.iter().enumerate() {
            self.put64(at + 104 + room * 8 + number * 8, *child);
        }
    }

    fn node(&mut self, block: usize, level: u16, count: u16) -> usize {
        let at = block * BLOCK;
        self.0[at..at + 4].copy_from_slice(b"BMAP");
        self.put16(at + 4, level);
        self.put16(at + 6, count);
        at + 24
    }

    fn short_form(&mut self, number: u64, names: &[(u64, &[u8])]) {
        let start = Self::inode_at(number) + 100;
        self.0[start] = names.len() as u8;
        let mut at = start + 6;
        for (child, name) in names {
            self.0[at] = name.len() as u8;
            self.0[at + 3..at + 3 + name.len()].copy_from_slice(name);
            self.put32(at + 3 + name.len(), *child as u32);
            at += 7 + name.len();
        }
        self.put64(start - 44, (at - start) as u64);
    }

    fn volume<T>(&self, act: impl Fn(Volume) -> T) -> T {
        let disk = [vec![0; Self::START as usize], self.0.clone(), vec![0; 100]].concat();
        act(Volume { source: &disk, start: Self::START, length: self.0.len() as u64 })
    }

    fn map(&self) -> VolumeMap {
        self.volume(map).unwrap()
    }

    /// FILE, or the doubts that took its place.
    fn file(&self) -> std::result::Result<File, Vec<String>> {
        let map = self.map();
        map.files.into_iter().find(|file| file.number == FILE).ok_or(map.doubts)
    }

    fn assert_left_out(&self, why: &str) {
        let doubts = self.file().unwrap_err();
        assert!(doubts[0].starts_with("inode 65") && doubts[0].contains(why), "{doubts:?}");
    }
}

fn names(map: &VolumeMap) -> Vec<String> {
    map.entries.iter().map(|entry| format!("{}/{}", entry.parent, String::from_utf8_lossy(&entry.name))).collect()
}

fn allocated(map: &VolumeMap) -> Vec<(u64, u64)> {
    let block = |byte: u64| (byte - Small::START) / BLOCK as u64;
    map.allocated.iter().map(|range| (block(range.start), block(range.end()))).collect()
}

#[test]
fn a_good_volume_is_mapped_at_its_place() {
    let mut small = Small::new();
    small.extents(&[[0, 0, 50, 2], [0, 2, 52, 1], [1, 5, 1 << GROUP_BITS | 50, 3]]);
    let map = small.map();
    assert_eq!((names(&map), map.doubts.len()), (vec!["64/file".into(), "64/folder".into()], 0), "{:?}", map.doubts);
    assert_eq!(allocated(&map), [(0, 200), (500, 700)]);
    assert_eq!(map.allocated[0], ByteRange { start: Small::START, length: 200 * 1024 });
    assert!(map.dirty, "no log to be seen");
    let Content::Extents(extents) = &map.files[1].streams[0].content else { panic!() };
    assert_eq!((extents.len(), extents[0].length, extents[0].disk), (2, 3 * 1024, Small::START + 50 * 1024));
    let second = (extents[1].kind, extents[1].logical, extents[1].disk);
    assert_eq!(second, (ExtentKind::Unwritten, 5 * 1024, Small::START + 550 * 1024), "groups are 500 blocks apart");
}

#[test]
fn blocks_of_files_are_kept_whatever_the_free_space_says() {
    let mut small = Small::new();
    small.extents(&[[0, 0, 199, 3], [0, 9, 1 << GROUP_BITS | 400, 1]]);
    let map = small.map();
    assert_eq!(allocated(&map), [(0, 202), (500, 700), (900, 901)]);
    assert!(map.doubts[0].starts_with("3 blocks in use are free"), "{:?}", map.doubts);
}

#[test]
fn a_group_whose_free_space_contradicts_itself_is_kept_whole() {
    let tree = FREE_TREE * BLOCK;
    for (at, value) in
        [(512, 0), (516, 2), (520, 1), (524, 499), (528, 0), (528, 500), (540, 0), (540, 2), (540, u32::MAX)]
            .into_iter()
            .chain([(564, 299), (tree, 0), (tree + 4, 0x1_0001), (tree + 4, 0), (tree + 4, 0xffff)])
            .chain([(tree + 16, 201), (tree + 16, 1), (tree + 20, u32::MAX), (tree + 20, 0)])
    {
        let mut small = Small::new();
        small.put32(at, value);
        let map = small.map();
        assert_eq!(allocated(&map), [(0, 700)], "{at} = {value}: {:?}", map.doubts);
        assert!(map.doubts.len() == 1 && map.files.len() == 3, "{at} = {value}: {:?}", map.doubts);
    }
}

#[test]
fn a_tree_of_free_space_that_points_to_itself_ends() {
    let mut small = Small::new();
    small.put32(540, 2);
    let at = FREE_TREE * BLOCK;
    small.put16(at + 4, 1);
    let room = (BLOCK - 16) / 12;
    small.put32(at + 16 + room * 8, FREE_TREE as u32);
    assert_eq!(allocated(&small.map()), [(0, 700)]);
}

#[test]
fn lost_inodes_cost_their_group() {
    for (at, value) in [(0, 0), (20, 0), (24, 0), (24, 20)] {
        let mut small = Small::new();
        small.put32(GROUP_BLOCKS * BLOCK + 1024 + at, value);
        let map = small.map();
        assert_eq!((map.files.len(), map.doubts.len()), (3, 1), "{at} = {value}");
        small.put32(1024 + at, value);
        assert_eq!(small.volume(super::map).unwrap_err().code(), "CORRUPT", "the root is lost");
    }
    let mut small = Small::new();
    small.put32(GROUP_BLOCKS * BLOCK + INODE_TREE * BLOCK + 16, 1990);
    small.put64(GROUP_BLOCKS * BLOCK + INODE_TREE * BLOCK + 24, 0);
    assert!(small.map().doubts[0].contains("outside the group"));
}

#[test]
fn trees_of_extents_are_walked() {
    let mut small = Small::new();
    small.tree(2, &[40], 3);
    let pointers = small.node(40, 1, 2) + (BLOCK - 24) / 16 * 8;
    small.put64(pointers, 41);
    small.put64(pointers + 8, 1 << GROUP_BITS | 42);
    let first = small.node(41, 0, 2);
    small.records(first, &[[0, 0, 60, 1], [0, 1, 70, 1]]);
    let second = small.node(500 + 42, 0, 1);
    small.records(second, &[[0, 9, 80, 2]]);
    let file = small.file().unwrap();
    let Content::Extents(extents) = &file.streams[0].content else { panic!() };
    assert_eq!(extents.iter().map(|extent| extent.logical / 1024).collect::<Vec<_>>(), [0, 1, 9]);

    small.put64(pointers + 8, 41);
    small.assert_left_out("out of order");
    small.put64(pointers + 8, 40);
    small.assert_left_out("level 1");
    small.put64(pointers + 8, 510);
    small.assert_left_out("outside");
    small.put16(second - 24 + 6, 0);
    small.put64(pointers + 8, 1 << GROUP_BITS | 42);
    small.assert_left_out("0 of");
    for level in [0, 17, u16::MAX] {
        small.tree(level, &[40], 3);
        small.assert_left_out("a root of level");
    }
}

#[test]
fn extents_out_of_order_or_outside_are_refused() {
    for extents in [
        [[0, 0, 50, 2], [0, 1, 60, 1]],
        [[0, 0, 50, 2], [0, 2, 60, 0]],
        [[0, 0, 50, 2], [0, 2, 499, 2]],
        [[0, 0, 50, 2], [0, 2, 505, 1]],
        [[0, 0, 50, 2], [0, 2, 2 << GROUP_BITS, 1]],
        [[0, 0, 50, 2], [0, (1 << 54) - 1, 60, 1]],
        [[0, 5, 50, 2], [0, 2, 60, 1]],
    ] {
        let mut small = Small::new();
        small.extents(&extents);
        small.assert_left_out("");
    }
    let mut small = Small::new();
    small.put32(Small::inode_at(FILE) + 76, u32::MAX);
    small.assert_left_out("room for");
}

#[test]
fn one_run_cannot_be_claimed_by_many() {
    let mut small = Small::new();
    small.put64(INODE_TREE * BLOCK + 24, 0);
    let extents: Vec<[u64; 4]> = (0..9).map(|number| [0, 2 * number, 50 + 2 * number, 1]).collect();
    for number in 67..128 {
        small.inode(number, 0o100644, 2, &extents);
    }
    small.put64(GROUP_BLOCKS * BLOCK + INODE_TREE * BLOCK + 24, 0);
    for number in 64..128 {
        small.inode(SECOND_GROUP + number, 0o100644, 2, &extents);
    }
    let map = small.map();
    assert!(map.files.len() < 120 && map.doubts[0].contains("more extents"), "{} {:?}", map.files.len(), map.doubts);
}

#[test]
fn directories_form_a_tree() {
    let mut small = Small::new();
    small.short_form(ROOT, &[(FILE, b"file"), (FILE, b"file"), (FOLDER, b"a"), (FOLDER, b"b"), (99, b"gone")]);
    small.short_form(FOLDER, &[(ROOT, b"root"), (FOLDER, b"self"), (FILE, b"hard"), (FILE, b"a/b"), (FILE, b"")]);
    let map = small.map();
    assert_eq!(names(&map), ["64/a", "64/file", "66/hard"]);
    assert_eq!(map.doubts.len(), 3, "{:?}", map.doubts);
    small.put64(Small::inode_at(FOLDER) + 56, 20);
    assert!(small.map().doubts[0].contains("cut"), "a shorter size");
}

#[test]
fn broken_directory_blocks_cost_their_names() {
    let block = 45;
    let good = || {
        let mut small = Small::new();
        small.inode(FOLDER, 0o040755, 2, &[[0, 0, block as u64, 1]]);
        let at = block * BLOCK;
        small.0[at..at + 4].copy_from_slice(b"XD2D");
        small.put64(at + 16, FILE);
        small.0[at + 24..at + 29].copy_from_slice(b"\x04name");
        small.put16(at + 32, 0xffff);
        small.put16(at + 34, (BLOCK - 32) as u16);
        small
    };
    assert_eq!(names(&good().map()), ["64/file", "64/folder", "66/name"]);
    for (at, value) in [(0, 0), (34, 0), (34, 4), (34, 12), (34, 1000), (24, 0xff6e), (24, 0x042f), (24, 0x006e)] {
        let mut small = good();
        small.put16(block * BLOCK + at, value);
        let map = small.map();
        assert_eq!((map.entries.len(), map.doubts.len()), (2, 1), "{at} = {value}: {:?}", map.doubts);
    }
    for count in [0, 200, u32::MAX] {
        let mut small = good();
        small.0[block * BLOCK + 3] = b'B';
        small.put32((block + 1) * BLOCK - 8, count);
        assert_eq!(small.map().entries.len(), 2, "an index of {count}");
    }
}

#[test]
fn attributes_in_the_inode() {
    let mut small = Small::new();
    let at = Small::inode_at(FILE);
    small.0[at + 82] = 8;
    small.0[at + 83] = 1;
    let fork = at + 100 + 64;
    small.0[fork..fork + 4].copy_from_slice(&[0, 22, 2, 0]);
    small.0[fork + 4..fork + 13].copy_from_slice(b"\x04\x02\x00namevv");
    small.0[fork + 13..fork + 18].copy_from_slice(b"\x01\x01\x04nv");
    let file = small.file().unwrap();
    assert_eq!(file.xattrs, [(b"user.name".to_vec(), b"vv".to_vec()), (b"security.n".to_vec(), b"v".to_vec())]);
    small.0[fork + 5] = 255;
    let map = small.map();
    assert_eq!((map.files[1].xattrs.len(), map.doubts.len()), (0, 1));
    small.0[at + 82] = 20;
    small.assert_left_out("attributes start");
}

#[test]
fn orphans_and_what_is_no_inode_are_left_out() {
    let mut small = Small::new();
    let at = Small::inode_at(FILE);
    small.put32(at + 16, 0);
    assert!(small.file().unwrap_err()[0].contains("1 names lead"));
    small.put32(at + 16, 1);
    for (field, value) in [(0, 0), (2, 0), (4, 0x0302), (4, 0x0209), (56, 0x8000), (90, 1)] {
        let mut small = Small(small.0.clone());
        small.put16(at + field, value);
        small.assert_left_out("");
    }
}

#[test]
fn superblocks_that_make_no_sense_are_refused() {
    for (at, value) in
        [(4, 0), (4, 1000), (12, 2000), (12, 400), (84, 0), (84, 63), (88, 3), (88, 0), (100, 0x2004_0000)]
            .into_iter()
            .chain([(104, 0x0100_0008), (104, 0x0040_0010), (120, 0x0b00_0002), (120, 10 << 24 | 2 << 8)])
    {
        let mut small = Small::new();
        small.put32(at, value);
        if at == 120 {
            small.0[123] = 2;
            small.0[124] = 8;
        }
        assert_eq!(small.volume(super::map).unwrap_err().code(), "CORRUPT", "{at} = {value}");
    }
    for (at, value) in [(20, 5), (100, 0x0004_0200), (100, 0x2006_0200)] {
        let mut small = Small::new();
        small.put32(at, value);
        assert_eq!(small.volume(super::map).unwrap_err().code(), "UNSUPPORTED", "{at} = {value}");
    }
    for length in [0, 3, 511] {
        assert!(!detect(Volume::whole(&Small::new().0[..length].to_vec())).unwrap());
    }
    assert!(detect(Volume::whole(&Small::new().0)).unwrap());
}

#[test]
fn only_an_unmount_record_at_the_head_is_clean() {
    let log = 100 * BLOCK;
    let good = |first: usize| {
        let mut small = Small::new();
        small.put32(52, 100);
        small.put32(96, 64);
        // Round 2 up to the record, round 1 behind it.
        for sector in 0..128 {
            small.put32(log + sector * 512, if sector < first + 2 { 2 } else { 1 });
        }
        let at = log + first * 512;
        for (field, value) in [(0, 0xfeed_babe), (4, 2), (8, 2), (12, 512), (16, 2), (20, first as u32), (40, 1)] {
            small.put32(at + field, value);
        }
        small.0[at + 512 + 9] = 0x20;
        small
    };
    for first in [0, 50, 126] {
        assert!(!good(first).map().dirty, "{first}");
        let at = log + first * 512;
        for (field, value) in [(4, 1), (12, 1024), (12, 0), (16, 1), (20, 7), (40, 2), (304, 1), (320, 65536), (520, 0)]
        {
            let mut small = good(first);
            small.put32(at + field, value);
            assert!(small.map().dirty, "{field} = {value} of the record at {first}");
        }
    }
    let mut small = good(50);
    small.put32(log + 60 * 512, 2);
    assert!(small.map().dirty, "a later record was begun");
    let mut small = good(50);
    small.0[126] = 1;
    assert!(small.map().dirty, "mkfs did not end");
}
