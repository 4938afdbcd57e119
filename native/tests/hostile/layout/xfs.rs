//! XFS: structures by their magic numbers, among what is read. Version 4 has no checksums.

use super::{Found, Governs, Reads, Region, Seal, seal_crc32c};
use crate::hostile::image::{Damaged, Sparse};

enum Length {
    Block,
    Inode,
    Bytes(u64),
}
use Length::{Block, Bytes, Inode};

/// Where the magic number is, its bytes, the length, whether it says what is free, and the checksum of version 5.
type Structure = (usize, &'static [u8], &'static str, Length, bool, Option<Seal>);

const STRUCTURES: [Structure; 25] = [
    (0, b"XFSB", "superblock", Bytes(512), true, Some(|d, r| seal_crc32c(d, r, 224))),
    (0, b"XAGF", "free space", Bytes(512), true, Some(|d, r| seal_crc32c(d, r, 216))),
    (0, b"XAGI", "inodes", Bytes(512), false, Some(|d, r| seal_crc32c(d, r, 312))),
    (0, b"XAFL", "free list", Bytes(512), true, Some(|d, r| seal_crc32c(d, r, 32))),
    (0, b"AB3B", "free space tree", Block, true, Some(|d, r| seal_crc32c(d, r, 52))),
    (0, b"AB3C", "free space tree", Block, true, Some(|d, r| seal_crc32c(d, r, 52))),
    (0, b"IAB3", "inode tree", Block, false, Some(|d, r| seal_crc32c(d, r, 52))),
    (0, b"FIB3", "inode tree", Block, false, Some(|d, r| seal_crc32c(d, r, 52))),
    (0, b"BMA3", "extent tree", Block, false, Some(|d, r| seal_crc32c(d, r, 64))),
    (0, b"XDB3", "directory", Block, false, Some(|d, r| seal_crc32c(d, r, 4))),
    (0, b"XDD3", "directory", Block, false, Some(|d, r| seal_crc32c(d, r, 4))),
    (0, b"XSLM", "link", Block, false, Some(|d, r| seal_crc32c(d, r, 12))),
    (0, b"XARM", "value", Block, false, Some(|d, r| seal_crc32c(d, r, 12))),
    (8, b"\x3b\xee", "attributes", Block, false, Some(|d, r| seal_crc32c(d, r, 12))),
    (8, b"\x3e\xbe", "attribute tree", Block, false, Some(|d, r| seal_crc32c(d, r, 12))),
    (0, b"IN", "inode", Inode, false, Some(|d, r| seal_crc32c(d, r, 100))),
    (0, b"ABTB", "free space tree", Block, true, None),
    (0, b"ABTC", "free space tree", Block, true, None),
    (0, b"IABT", "inode tree", Block, false, None),
    (0, b"FIBT", "inode tree", Block, false, None),
    (0, b"BMAP", "extent tree", Block, false, None),
    (0, b"XD2B", "directory", Block, false, None),
    (0, b"XD2D", "directory", Block, false, None),
    (8, b"\xfb\xee", "attributes", Block, false, None),
    (8, b"\xfe\xbe", "attribute tree", Block, false, None),
];

pub fn find(image: &Sparse, reads: &Reads, found: &mut Found) -> u64 {
    let good = Damaged::new(image);
    let big = |at: u64, count: usize| good.get(at, count).iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    let (block, v5, inode) = (big(4, 4), big(100, 2) & 0xf == 5, big(104, 2));
    let (ag_blocks, ag_block_log) = (big(84, 4), big(124, 1));
    let directory = block << big(192, 1);
    for (page_at, page) in image.stored() {
        for from in (0..page.len()).step_by(256) {
            let known = STRUCTURES.iter().find(|(offset, magic, ..)| page[from + offset..].starts_with(magic));
            let Some((_, _, kind, length, governs, seal)) = known else { continue };
            let at = page_at + from as u64;
            let length = match length {
                Block if *kind == "directory" => directory,
                Block => block,
                Inode => inode,
                Bytes(bytes) => *bytes,
            };
            if !reads.meet(at, length) || found.holds(at) || (*kind == "inode" && !at.is_multiple_of(inode)) {
                continue;
            }
            let (group, within) = (at / block / ag_blocks, at / block % ag_blocks);
            let number = match *kind {
                "inode" => (group << ag_block_log | within) * (block / inode) + at % block / inode,
                "inode tree" | "free space tree" => within,
                _ => group << ag_block_log | within,
            };
            let seal = seal.filter(|_| v5);
            found.add(kind, Region { at, length, number, governs: Governs::all(*governs), seal });
        }
    }
    block
}
