//! One good volume built by hand, and one named edit a test.

use super::*;
use crate::base::ranges::ByteRange;
use crate::fs::volume_map::{Content, ExtentKind};

const NODE: usize = 4096;
const LENGTH: usize = 8 << 20;
/// All trees and data lie in one chunk: DUP, at these offsets in the volume.
const LOGICAL: u64 = 16 << 20;
const CHUNK: u64 = 1 << 20;
const FIRST: u64 = 2 << 20;
const SECOND: u64 = 4 << 20;
const GENERATION: u64 = 9;
const CHUNK_TREE: u64 = LOGICAL;
const ROOT_TREE: u64 = LOGICAL + 0x1000;
const EXTENT_TREE: u64 = LOGICAL + 0x2000;
const TOP: u64 = LOGICAL + 0x3000;
const SUBVOLUME: u64 = LOGICAL + 0x4000;
const DATA: u64 = LOGICAL + 0x8000;
const DATA_BYTES: u64 = 0x2000;

type Item = ((u64, u8, u64), Vec<u8>);

/// Partition of a disk, from byte 4096.
struct Small {
    bytes: Vec<u8>,
    top: Vec<Item>,
    subvolume: Vec<Item>,
    extents: Vec<Item>,
    profile: u64,
}

impl Small {
    const START: u64 = 4096;

    /// The root names 257 "file", which has DATA, and subvolume 256 "sub", which holds 257 "inner".
    fn new() -> Self {
        let node = |at: u64| ((at, 169, 0), vec![0; 24]);
        let mut extents: Vec<Item> = [CHUNK_TREE, ROOT_TREE, EXTENT_TREE, TOP, SUBVOLUME].map(node).into();
        extents.push(((DATA, 168, DATA_BYTES), vec![0; 24]));
        let used = 5 * NODE as u64 + DATA_BYTES;
        extents.insert(1, ((LOGICAL, 192, CHUNK), [used, 256, 0].map(u64::to_le_bytes).concat()));
        let regular = regular(0, DATA, DATA_BYTES, 0, DATA_BYTES);
        Self {
            bytes: vec![0; LENGTH],
            top: vec![
                ((256, 1, 0), inode(0o40755, 0)),
                ((256, 96, 2), name((257, 1, 0), b"file")),
                ((256, 96, 3), name((256, 132, 0), b"sub")),
                ((257, 1, 0), inode(0o100644, DATA_BYTES)),
                ((257, 108, 0), regular),
            ],
            subvolume: vec![
                ((256, 1, 0), inode(0o40755, 0)),
                ((256, 96, 2), name((257, 1, 0), b"inner")),
                ((257, 1, 0), inode(0o100600, 5)),
                ((257, 108, 0), inline(0, 5, b"hello")),
            ],
            extents,
            profile: 0x27,
        }
    }

    fn build(mut self) -> Vec<u8> {
        let chunk = self.chunk();
        let chunk_key = (256, 228, LOGICAL);
        let entrance = [&le(256), &le(0), [3, 0].as_slice(), b"sub"].concat();
        let roots = vec![
            ((2, 132, 0), root(EXTENT_TREE)),
            ((5, 132, 0), root(TOP)),
            ((5, 156, 256), entrance),
            ((256, 132, 0), root(SUBVOLUME)),
        ];
        self.leaf(CHUNK_TREE, &[(chunk_key, chunk.clone())]);
        self.leaf(ROOT_TREE, &roots);
        for (at, items) in [
            (EXTENT_TREE, std::mem::take(&mut self.extents)),
            (TOP, std::mem::take(&mut self.top)),
            (SUBVOLUME, std::mem::take(&mut self.subvolume)),
        ] {
            self.leaf(at, &items);
        }
        let array = [key(chunk_key), chunk].concat();
        let mut block = vec![0; 4096];
        let fields: [(usize, &[u8]); 14] = [
            (0x20, &[7; 16]),
            (0x30, &le(65536)),
            (0x40, b"_BHRfS_M"),
            (0x48, &le(GENERATION)),
            (0x50, &le(ROOT_TREE)),
            (0x58, &le(CHUNK_TREE)),
            (0x70, &le(LENGTH as u64 - 4096)),
            (0x88, &le(1)),
            (0x90, &[0, 16, 0, 0, 0, 16, 0, 0]),
            (0xa0, &(array.len() as u32).to_le_bytes()),
            (0xa4, &le(GENERATION)),
            (0xc9, &le(1)),
            (0x12b, b"label"),
            (0x32b, &array),
        ];
        for (at, value) in fields {
            block[at..at + value.len()].copy_from_slice(value);
        }
        self.bytes[65536..65536 + 4096].copy_from_slice(&block);
        seal(&mut self.bytes, 65536);
        self.bytes
    }

    fn chunk(&self) -> Vec<u8> {
        let stripe = |offset: u64| [le(1), le(offset), vec![0; 16]].concat();
        let head = [CHUNK, 2, 65536, self.profile].map(u64::to_le_bytes).concat();
        let tail = [0, 16, 0, 0, 0, 16, 0, 0, 0, 16, 0, 0, 2, 0, 0, 0].to_vec();
        [head, tail, stripe(FIRST), stripe(SECOND)].concat()
    }

    /// In both copies.
    fn leaf(&mut self, logical: u64, items: &[Item]) {
        let mut node = vec![0; NODE];
        node[0x20..0x30].fill(7);
        node[0x30..0x38].copy_from_slice(&le(logical));
        node[0x50..0x58].copy_from_slice(&le(GENERATION));
        node[0x60..0x64].copy_from_slice(&(items.len() as u32).to_le_bytes());
        let mut end = NODE;
        for (number, (item_key, data)) in items.iter().enumerate() {
            let at = 0x65 + 25 * number;
            end -= data.len();
            node[end..end + data.len()].copy_from_slice(data);
            node[at..at + 17].copy_from_slice(&key(*item_key));
            node[at + 17..at + 21].copy_from_slice(&(end as u32 - 0x65).to_le_bytes());
            node[at + 21..at + 25].copy_from_slice(&(data.len() as u32).to_le_bytes());
        }
        for copy in [FIRST, SECOND] {
            let at = (copy + logical - LOGICAL) as usize;
            self.bytes[at..at + NODE].copy_from_slice(&node);
            seal(&mut self.bytes, at);
        }
    }

    fn map(self) -> VolumeMap {
        map_bytes(self.build()).unwrap()
    }
}

fn map_bytes(bytes: Vec<u8>) -> Result<VolumeMap> {
    let disk = [vec![0; Small::START as usize], bytes, vec![0; 100]].concat();
    map(Volume { source: &disk, start: Small::START, length: LENGTH as u64 })
}

fn seal(bytes: &mut [u8], at: usize) {
    let sum = crc32c::crc32c(&bytes[at + 32..at + NODE]);
    bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}

/// Edits a node in both copies, or the superblock.
fn edit(bytes: &mut [u8], logical: u64, offset: usize, value: &[u8]) {
    for copy in [FIRST, SECOND] {
        let at = (copy + logical - LOGICAL) as usize;
        bytes[at + offset..at + offset + value.len()].copy_from_slice(value);
        seal(bytes, at);
    }
}

fn le(value: u64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

fn key((objectid, kind, offset): (u64, u8, u64)) -> Vec<u8> {
    [le(objectid), vec![kind], le(offset)].concat()
}

fn inode(mode: u32, size: u64) -> Vec<u8> {
    let mut item = vec![0; 160];
    item[16..24].copy_from_slice(&le(size));
    item[40] = 1;
    item[52..56].copy_from_slice(&mode.to_le_bytes());
    item
}

fn name(location: (u64, u8, u64), name: &[u8]) -> Vec<u8> {
    [key(location), le(1), vec![0, 0, name.len() as u8, 0, 1], name.to_vec()].concat()
}

fn regular(compression: u8, at: u64, length: u64, offset: u64, used: u64) -> Vec<u8> {
    let raw = if compression == 0 { length } else { 1 << 17 };
    [le(1), le(raw), vec![compression, 0, 0, 0, 1], le(at), le(length), le(offset), le(used)].concat()
}

fn inline(compression: u8, raw: u64, data: &[u8]) -> Vec<u8> {
    [le(1), le(raw), vec![compression, 0, 0, 0, 0], data.to_vec()].concat()
}

fn root(logical: u64) -> Vec<u8> {
    let mut item = vec![0; 239];
    item[160..168].copy_from_slice(&le(GENERATION));
    item[176..184].copy_from_slice(&le(logical));
    item[216] = 1;
    item
}

fn content(map: &VolumeMap, number: u64) -> Option<&Content> {
    let file = map.files.iter().find(|file| file.number == number)?;
    Some(&file.streams[0].content)
}

#[test]
fn a_good_volume_is_read_whole() {
    let map = Small::new().map();
    assert_eq!(map.doubts, Vec::<String>::new());
    assert_eq!((map.root, map.label.as_str(), &map.subvolumes), (256, "label", &vec![5, 256]));
    let names: Vec<_> = map.entries.iter().map(|e| (e.parent, e.name.as_slice(), e.child)).collect();
    let sub = (1 << 32) + 256;
    assert_eq!(names, [(256, b"file".as_slice(), 257), (256, b"sub", sub), (sub, b"inner", sub + 1)]);
    match content(&map, 257).unwrap() {
        Content::Extents(extents) => {
            assert_eq!((extents[0].disk, extents[0].length), (Small::START + FIRST + 0x8000, DATA_BYTES));
        }
        Content::Resident(_) => panic!("resident"),
    }
    assert!(matches!(content(&map, sub + 1), Some(Content::Resident(bytes)) if bytes == b"hello"));
    let range = |start, length| ByteRange { start: Small::START + start, length };
    let copies = [FIRST, SECOND].map(|copy| [range(copy, 0x5000), range(copy + 0x8000, DATA_BYTES)]);
    let tail = range(LENGTH as u64 - 4096, 4096);
    assert_eq!(map.allocated, [&[range(0, 1 << 20)], copies.as_flattened(), &[tail]].concat());
}

#[test]
fn the_second_copy_stands_in_for_the_first() {
    let mut bytes = Small::new().build();
    bytes[(FIRST + TOP - LOGICAL) as usize + 200] ^= 1;
    assert_eq!(map_bytes(bytes.clone()).unwrap().doubts, Vec::<String>::new());
    bytes[(SECOND + TOP - LOGICAL) as usize + 200] ^= 1;
    assert!(map_bytes(bytes).is_err(), "the root directory is lost");
}

#[test]
fn nodes_of_another_place_time_or_level_are_lost() {
    for (offset, value) in [(0x20, vec![8]), (0x30, le(TOP)), (0x50, le(GENERATION + 1)), (0x64, vec![1])] {
        let mut bytes = Small::new().build();
        edit(&mut bytes, SUBVOLUME, offset, &value);
        let map = map_bytes(bytes).unwrap();
        assert!(map.doubts[0].starts_with("subvolume 256: btrfs node"), "{:?}", map.doubts);
        assert_eq!(map.files.len(), 2);
        let chunk = ByteRange { start: Small::START + FIRST, length: 0x5000 };
        assert!(map.allocated.contains(&chunk), "its blocks are still held");
    }
}

#[test]
fn a_block_group_that_disagrees_makes_its_chunk_used() {
    let mut small = Small::new();
    small.extents.pop();
    let map = small.map();
    assert!(map.doubts[0].contains("its block group says"), "{:?}", map.doubts);
    let chunk = |copy: u64| ByteRange { start: Small::START + copy, length: CHUNK };
    assert!(map.allocated.contains(&chunk(FIRST)) && map.allocated.contains(&chunk(SECOND)));
}

#[test]
fn what_files_use_is_never_free() {
    let mut small = Small::new();
    small.extents.pop();
    small.extents[1].1[..8].copy_from_slice(&le(5 * NODE as u64));
    let map = small.map();
    assert!(map.doubts[0].contains("are free by the extent tree"), "{:?}", map.doubts);
    assert!(map.allocated.contains(&ByteRange { start: Small::START + FIRST + 0x8000, length: DATA_BYTES }));
}

#[test]
fn impossible_extents_cost_their_file_only() {
    let items = [
        regular(0, LOGICAL + CHUNK, DATA_BYTES, 0, DATA_BYTES),
        regular(0, DATA, DATA_BYTES, 4096, DATA_BYTES),
        regular(0, DATA, DATA_BYTES, 0, 0),
        regular(0, DATA + 1, DATA_BYTES, 0, DATA_BYTES),
        regular(0, DATA, u64::MAX - 4095, 0, DATA_BYTES),
        regular(3, DATA, DATA_BYTES, 1 << 17, DATA_BYTES),
        regular(4, DATA, DATA_BYTES, 0, DATA_BYTES),
        inline(3, 5, b"no frame"),
        inline(0, 1 << 40, b""),
        vec![0; 20],
    ];
    for (number, item) in items.into_iter().enumerate() {
        let mut small = Small::new();
        small.top[4].1 = item;
        let map = small.map();
        assert!(map.doubts[0].starts_with("subvolume 5: inode 257"), "{number}: {:?}", map.doubts);
        assert!(content(&map, 257).is_none() && content(&map, (1 << 32) + 257).is_some());
    }
    let mut small = Small::new();
    small.top.push(((257, 108, 4096), regular(0, DATA, DATA_BYTES, 0, DATA_BYTES)));
    assert!(small.map().doubts[0].contains("overlaps"));
}

#[test]
fn a_packed_extent_says_which_part_is_the_files() {
    let mut small = Small::new();
    small.top[4].1 = regular(3, DATA, DATA_BYTES, 8192, 4096);
    let map = small.map();
    let Some(Content::Extents(extents)) = content(&map, 257) else { panic!("resident") };
    let codec = crate::fs::volume_map::Codec::Zstd;
    let kind = ExtentKind::Packed { codec, raw_length: 1 << 17, raw_offset: 8192, used: 4096 };
    assert_eq!((extents[0].kind, extents[0].length), (kind, DATA_BYTES));
}

#[test]
fn a_file_number_beyond_32_bits_is_left_out() {
    let mut small = Small::new();
    small.top.push(((1 << 33, 1, 0), inode(0o100644, 0)));
    let map = small.map();
    assert!(map.doubts[0].contains("more than 32 bits"));
}

#[test]
fn other_profiles_and_devices_are_refused() {
    for profile in [0x8, 0x10, 0x40, 0x80, 0x100, 0x200, 0x400] {
        let small = Small { profile: profile | 7, ..Small::new() };
        assert_eq!(map_bytes(small.build()).unwrap_err().code(), "UNSUPPORTED");
    }
    for (offset, value) in [(0x88, 2), (0xbc, 1 << 13), (0xc9, 2), (0xc4, 9)] {
        let mut bytes = Small::new().build();
        bytes[65536 + offset..65536 + offset + 1].copy_from_slice(&[value as u8]);
        bytes[65536 + offset + 1] = (value >> 8) as u8;
        seal(&mut bytes, 65536);
        assert_eq!(map_bytes(bytes).unwrap_err().code(), "UNSUPPORTED", "{offset:#x}");
    }
}

#[test]
fn a_log_tree_is_dirt() {
    let mut bytes = Small::new().build();
    bytes[65536 + 0x60] = 1;
    seal(&mut bytes, 65536);
    assert!(map_bytes(bytes).unwrap().dirty);
}

#[test]
fn cut_and_forged_streams_are_refused() {
    use crate::fs::volume_map::Codec::{Lzo, Zlib, Zstd};
    for bytes in [&b""[..], b"\x78\x9c", b"\x78\x9c\x07", &[0xff; 64], &[0; 64]] {
        assert!(packed::unpack(Zlib, bytes, 4096).is_err());
        assert!(packed::unpack(Zstd, bytes, 4096).is_err() || bytes.is_empty());
        let _ = packed::unpack(Lzo, bytes, 4096);
    }
    // A stored block, behind it padding.
    let stored = [b"\x78\x01\x01\x03\x00\xfc\xffabc".as_slice(), &[0; 9]].concat();
    assert_eq!(packed::unpack(Zlib, &stored, 3).unwrap(), b"abc");
    // 18 literals and the end; then a distance before the start.
    let segment = [&[17 + 18], [b'x'; 18].as_slice(), &[17, 0, 0]].concat();
    let length = segment.len() as u8;
    let framed = [&[length + 8, 0, 0, 0, length, 0, 0, 0], segment.as_slice()].concat();
    assert_eq!(packed::unpack(Lzo, &framed, 18).unwrap(), [b'x'; 18]);
    let forged = [13, 0, 0, 0, 5, 0, 0, 0, 18, b'x', 0x7c, 0xff, 0];
    assert!(packed::unpack(Lzo, &forged, 18).is_err());
}
