//! Block bitmaps into ranges of bytes in use. Where a bitmap cannot be believed, its group is in use.

use super::checksum::crc32c;
use super::group::{self, Group};
use super::superblock::Superblock;
use crate::base::error::{Error, Result};
use crate::base::ranges::{ByteRange, coalesce, push};
use crate::disk::volume::Volume;
use crate::fs::in_use::InUse;
use crate::fs::shared::Doubts;

/// What the bitmaps say, the tables themselves, and what lies before the first block group.
pub fn read_all<'a>(volume: Volume<'a>, superblock: &Superblock, groups: &[Group], doubts: &mut Doubts) -> InUse<'a> {
    let blocks = superblock.blocks(volume);
    let mut ranges = Vec::new();
    for (number, group) in (0..).zip(groups) {
        let first = superblock.group_first_block(number);
        let whole = blocks.range(first, first + superblock.group_blocks(number));
        match read(volume, superblock, number, group) {
            Ok(Some(bitmap)) => {
                set_bits(superblock, number, &bitmap, |start, end| push(&mut ranges, blocks.range(start, end)));
            }
            Ok(None) if group.block_uninit => {}
            Ok(None) => push(&mut ranges, whole),
            Err(error) => {
                doubts.push(format!("block group {number}: {error}; all its blocks are kept"));
                push(&mut ranges, whole);
            }
        }
    }
    // A group's tables may lie in another group whose bitmap was never written.
    ranges.extend(tables(volume, superblock, groups));
    InUse::new(blocks, ranges)
}

/// Where superblocks, descriptors, bitmaps and inode tables lie: absolute, a set.
pub fn tables(volume: Volume, superblock: &Superblock, groups: &[Group]) -> Vec<ByteRange> {
    let blocks = superblock.blocks(volume);
    let mut ranges = vec![blocks.range(0, superblock.first_data_block.into())];
    for (number, group) in (0..).zip(groups).filter(|(_, group)| group.trusted) {
        let first = superblock.group_first_block(number);
        let base = group::base_blocks(superblock, number).min(superblock.group_blocks(number));
        ranges.push(blocks.range(first, first + base));
        ranges.push(blocks.range(group.block_bitmap, group.block_bitmap + 1));
        ranges.push(blocks.range(group.inode_bitmap, group.inode_bitmap + 1));
        ranges.push(blocks.range(group.inode_table, group.inode_table + superblock.inode_table_blocks()));
    }
    coalesce(ranges)
}

/// `None` where there is no bitmap to read. The checksum covers the bits of a whole group.
fn read(volume: Volume, superblock: &Superblock, number: u32, group: &Group) -> Result<Option<Vec<u8>>> {
    if !group.trusted || group.block_uninit {
        return Ok(None);
    }
    let at = superblock.bytes(group.block_bitmap);
    let bitmap = volume.read_vec(at, superblock.block_bytes as usize)?;
    let clusters = (superblock.blocks_per_group >> superblock.cluster_bits) as usize;
    if superblock.metadata_checksums() {
        let sum = crc32c(superblock.checksum_seed, &bitmap[..clusters / 8]);
        if sum & group.bitmap_checksum_mask != group.bitmap_checksum {
            let why = format!("the checksum of the block bitmap of group {number} does not match");
            return Err(Error::corrupt("ext block bitmap", at, why));
        }
    }
    Ok(Some(bitmap))
}

/// Calls `each` with the first block of every run, and the one behind. A bit is a cluster; bits past the file system's last block are padding.
fn set_bits(superblock: &Superblock, number: u32, bitmap: &[u8], mut each: impl FnMut(u64, u64)) {
    let first = superblock.group_first_block(number);
    let end = first + superblock.group_blocks(number);
    let clusters = superblock.group_blocks(number).div_ceil(1 << superblock.cluster_bits);
    let mut bit = 0;
    while bit < clusters {
        let start = next(bitmap, bit, clusters, true);
        let stop = next(bitmap, start, clusters, false);
        if start < stop {
            let block = |bit: u64| (first + (bit << superblock.cluster_bits)).min(end);
            each(block(start), block(stop));
        }
        bit = stop;
    }
}

/// The first bit from `bit` on that is `set`, or `end`. Eight bytes at a time: a TiB has 2^28 bits.
fn next(bitmap: &[u8], mut bit: u64, end: u64, set: bool) -> u64 {
    while bit < end {
        let word_at = (bit / 64 * 8) as usize;
        let word = u64::from_le_bytes(bitmap[word_at..word_at + 8].try_into().expect("blocks are whole words"));
        let wanted = (if set { word } else { !word }) >> (bit % 64);
        if wanted != 0 {
            return (bit + u64::from(wanted.trailing_zeros())).min(end);
        }
        bit = (bit / 64 + 1) * 64;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_bits_are_found_across_words() {
        let mut bitmap = vec![0u8; 32];
        for bit in (3..5).chain(60..130).chain(255..256) {
            bitmap[bit / 8] |= 1 << (bit % 8);
        }
        let mut runs = Vec::new();
        let mut bit = 0;
        while bit < 256 {
            let start = next(&bitmap, bit, 256, true);
            bit = next(&bitmap, start, 256, false);
            runs.push((start, bit));
        }
        assert_eq!(runs, [(3, 5), (60, 130), (255, 256)]);
        assert_eq!(next(&bitmap, 131, 200, true), 200);
    }
}
