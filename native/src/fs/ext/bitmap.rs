//! Block bitmaps into ranges of bytes in use. Where a bitmap cannot be believed, its group is in use: a block too
//! many costs space, a block too few costs the backup.

use std::cell::RefCell;

use super::checksum::crc32c;
use super::group::{self, Group};
use super::superblock::Superblock;
use crate::base::error::{Error, Result};
use crate::base::ranges::ByteRange;
use crate::disk::volume::Volume;
use crate::fs::shared::{Doubts, Span, coalesce, push};

/// Blocks in use: those of the bitmaps, and those that files claim all the same.
pub struct InUse {
    /// Sorted, disjoint, coalesced.
    spans: Vec<Span>,
    strays: RefCell<Vec<Span>>,
}

impl InUse {
    /// A file claims these blocks. Bitmaps without a checksum may be wrong, and older than the inodes while a journal
    /// holds their changes.
    pub fn claim(&self, block: u64, count: u64) {
        let after = self.spans.partition_point(|(start, _)| *start <= block);
        let end = if after > 0 { self.spans[after - 1].1 } else { 0 };
        if block + count > end {
            push(&mut self.strays.borrow_mut(), (block, block + count));
        }
    }

    /// Absolute ranges, with the bytes after the file system's end.
    pub fn into_ranges(self, volume: Volume, superblock: &Superblock, doubts: &mut Doubts) -> Vec<ByteRange> {
        let sum = |spans: &[Span]| spans.iter().map(|(start, end)| end - start).sum::<u64>();
        let (strays, before) = (self.strays.into_inner(), sum(&self.spans));
        if strays.is_empty() {
            return byte_ranges(volume, superblock, self.spans);
        }
        let spans = coalesce([self.spans, strays].concat());
        let count = sum(&spans) - before;
        doubts.push(format!("{count} blocks of files are free in the block bitmaps, they are kept"));
        byte_ranges(volume, superblock, spans)
    }
}

/// What the bitmaps say, the tables themselves, and what lies before the first block group.
pub fn read_all(volume: Volume, superblock: &Superblock, groups: &[Group], doubts: &mut Doubts) -> InUse {
    let mut spans = Vec::new();
    for (number, group) in (0..).zip(groups) {
        let first = superblock.group_first_block(number);
        let blocks = superblock.group_blocks(number);
        match read(volume, superblock, number, group) {
            Ok(Some(bitmap)) => push_set_bits(&mut spans, superblock, number, &bitmap),
            Ok(None) if group.block_uninit => {}
            Ok(None) => push(&mut spans, (first, first + blocks)),
            Err(error) => {
                doubts.push(format!("block group {number}: {error}; all its blocks are kept"));
                push(&mut spans, (first, first + blocks));
            }
        }
    }
    // A group's tables may lie in another group whose bitmap was never written.
    spans.extend(table_spans(superblock, groups));
    InUse { spans: coalesce(spans), strays: RefCell::default() }
}

/// Where superblocks, descriptors, bitmaps and inode tables lie: absolute, a set.
pub fn tables(volume: Volume, superblock: &Superblock, groups: &[Group]) -> Vec<ByteRange> {
    let span = |(start, end): Span| ByteRange {
        start: volume.absolute(superblock.bytes(start)),
        length: superblock.bytes(end - start),
    };
    coalesce(table_spans(superblock, groups)).into_iter().map(span).collect()
}

fn table_spans(superblock: &Superblock, groups: &[Group]) -> Vec<Span> {
    let mut spans = vec![(0, u64::from(superblock.first_data_block))];
    for (number, group) in (0..).zip(groups).filter(|(_, group)| group.trusted) {
        let first = superblock.group_first_block(number);
        let base = group::base_blocks(superblock, number).min(superblock.group_blocks(number));
        spans.push((first, first + base));
        spans.push((group.block_bitmap, group.block_bitmap + 1));
        spans.push((group.inode_bitmap, group.inode_bitmap + 1));
        spans.push((group.inode_table, group.inode_table + superblock.inode_table_blocks()));
    }
    spans
}

fn byte_ranges(volume: Volume, superblock: &Superblock, spans: Vec<Span>) -> Vec<ByteRange> {
    let mut ranges: Vec<ByteRange> = spans
        .into_iter()
        .map(|(start, end)| ByteRange {
            start: volume.absolute(superblock.bytes(start)),
            length: superblock.bytes(end - start),
        })
        .collect();
    let end = superblock.bytes(superblock.blocks_count);
    let tail = ByteRange { start: volume.absolute(end), length: volume.length - end };
    match ranges.last_mut() {
        _ if tail.length == 0 => {}
        Some(last) if last.end() == tail.start => last.length += tail.length,
        _ => ranges.push(tail),
    }
    ranges
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

/// A bit is a cluster; bits past the file system's last block are padding.
fn push_set_bits(spans: &mut Vec<Span>, superblock: &Superblock, number: u32, bitmap: &[u8]) {
    let first = superblock.group_first_block(number);
    let end = first + superblock.group_blocks(number);
    let clusters = superblock.group_blocks(number).div_ceil(1 << superblock.cluster_bits);
    let mut bit = 0;
    while bit < clusters {
        let start = next(bitmap, bit, clusters, true);
        let stop = next(bitmap, start, clusters, false);
        if start < stop {
            let block = |bit: u64| (first + (bit << superblock.cluster_bits)).min(end);
            push(spans, (block(start), block(stop)));
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
