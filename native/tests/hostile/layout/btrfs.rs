//! btrfs: the superblocks, and the nodes that are read.

use super::{Found, Governs, Reads, Region, Seal};
use crate::hostile::image::{Damaged, PAGE, Sparse};

const SUPERBLOCKS: [u64; 2] = [64 << 10, 64 << 20];
/// Trees that say what is free, or lead to one that does: roots, extents, chunks, block groups.
const GOVERNING: [u64; 4] = [1, 2, 3, 11];
const TREES: [(u64, &str); 5] =
    [(1, "tree of roots"), (2, "tree of extents"), (3, "tree of chunks"), (5, "tree of files"), (11, "tree of groups")];

pub fn find(image: &Sparse, reads: &Reads, found: &mut Found) -> u64 {
    let good = Damaged::new(image);
    let length = 4096;
    for at in SUPERBLOCKS.into_iter().filter(|&at| reads.meet(at, length)) {
        found.add("superblock", Region { at, length, number: at, governs: Governs::All, seal: Some(seal) });
    }
    let fsid = good.get(SUPERBLOCKS[0] + 0x20, 16);
    let node_bytes = good.le32(SUPERBLOCKS[0] + 0x94);
    // Each with its checksum's right to be mended: a node is a whole number of pages, and begins one.
    for (at, page) in image.stored().filter(|(at, page)| page[0x20..0x30] == fsid[..] && !SUPERBLOCKS.contains(at)) {
        let tree = u64::from_le_bytes(page[0x58..0x60].try_into().unwrap());
        let logical = u64::from_le_bytes(page[0x30..0x38].try_into().unwrap());
        let kind = TREES.iter().find(|(number, _)| *number == tree).map_or("other tree", |(_, name)| name);
        if reads.meet(at, PAGE as u64) {
            let governs = Governs::all(GOVERNING.contains(&tree));
            found.add(kind, Region { at, length: node_bytes, number: logical, governs, seal: Some(seal as Seal) });
        }
    }
    4096
}

/// Only CRC-32C. Other kinds are not verified by the parser, but for SHA-256, of which no image is made.
fn seal(damaged: &mut Damaged, region: &Region) {
    if damaged.le16(SUPERBLOCKS[0] + 0xC4) != 0 {
        return;
    }
    let bytes = damaged.get(region.at + 32, region.length as usize - 32);
    damaged.set(region.at, &crc32c::crc32c(&bytes).to_le_bytes());
}
