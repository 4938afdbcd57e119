//! Blocks in use: those that the tables of free space do not call free, and those that files claim all the same. Tables
//! without a checksum may be wrong, and are older than the inodes while a journal holds changes. A block too many costs
//! space, one too few the backup.

use std::cell::RefCell;

use super::shared::Doubts;
use crate::base::ranges::{ByteRange, coalesce, holds, push};
use crate::disk::volume::Volume;

/// The blocks of a file system, one behind the other from the volume's start on.
#[derive(Clone, Copy)]
pub struct Blocks<'a> {
    pub volume: Volume<'a>,
    pub block_bytes: u32,
    pub count: u64,
}

impl Blocks<'_> {
    /// From `start` to before `end`, both inside the file system; absolute.
    pub fn range(&self, start: u64, end: u64) -> ByteRange {
        let bytes = |blocks: u64| blocks * u64::from(self.block_bytes);
        ByteRange { start: self.volume.absolute(bytes(start)), length: bytes(end - start) }
    }
}

pub struct InUse<'a> {
    blocks: Blocks<'a>,
    /// A set.
    ranges: Vec<ByteRange>,
    strays: RefCell<Vec<ByteRange>>,
}

impl<'a> InUse<'a> {
    /// What the tables say, in any order.
    pub fn new(blocks: Blocks<'a>, ranges: Vec<ByteRange>) -> Self {
        Self { blocks, ranges: coalesce(ranges), strays: RefCell::default() }
    }

    /// `free` is sorted and disjoint: of each range the first block, and the one behind the last.
    pub fn all_but(blocks: Blocks<'a>, free: &[(u64, u64)]) -> Self {
        let mut ranges = Vec::with_capacity(free.len() + 1);
        let mut at = 0;
        for &(start, end) in free {
            push(&mut ranges, blocks.range(at, start));
            at = end;
        }
        push(&mut ranges, blocks.range(at, blocks.count));
        Self { blocks, ranges, strays: RefCell::default() }
    }

    /// A file or a table has these blocks, which lie inside the file system.
    pub fn claim(&self, block: u64, count: u64) {
        let range = self.blocks.range(block, block + count);
        if !holds(&self.ranges, range) {
            push(&mut self.strays.borrow_mut(), range);
        }
    }

    /// A set, absolute, with the bytes after the file system's end. `tables`: what calls blocks free.
    pub fn into_ranges(self, tables: &str, doubts: &mut Doubts) -> Vec<ByteRange> {
        let sum = |ranges: &[ByteRange]| ranges.iter().map(|range| range.length).sum::<u64>();
        let (strays, before) = (self.strays.into_inner(), sum(&self.ranges));
        let mut ranges = self.ranges;
        if !strays.is_empty() {
            ranges = coalesce([ranges, strays].concat());
            let count = (sum(&ranges) - before) / u64::from(self.blocks.block_bytes);
            doubts.push(format!("{count} blocks in use are free in the {tables}, they are kept"));
        }
        let Blocks { volume, count, .. } = self.blocks;
        let end = self.blocks.range(0, count).length;
        push(&mut ranges, ByteRange { start: volume.absolute(end), length: volume.length - end });
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_free_is_in_use() {
        let disk = vec![0; 9];
        let blocks = Blocks { volume: Volume::whole(&disk), block_bytes: 1, count: 9 };
        let pairs = |ranges: &[ByteRange]| ranges.iter().map(|range| (range.start, range.end())).collect::<Vec<_>>();
        assert_eq!(pairs(&InUse::all_but(blocks, &[(0, 2), (5, 6), (6, 9)]).ranges), [(2, 5)]);
        assert_eq!(pairs(&InUse::all_but(blocks, &[(3, 5)]).ranges), [(0, 3), (5, 9)]);
        let in_use = InUse::all_but(blocks, &[(3, 5)]);
        in_use.claim(0, 3);
        assert!(in_use.strays.borrow().is_empty());
        in_use.claim(2, 2);
        assert_eq!(pairs(&in_use.strays.borrow()), [(2, 4)]);
        assert_eq!(pairs(&in_use.into_ranges("table", &mut Doubts::default())), [(0, 4), (5, 9)]);
    }
}
