//! Blocks in use: all that no free-space tree names, and those that files claim all the same (a log that was not
//! replayed may leave the trees older than the inodes). A block too many costs space, one too few the backup.

use std::cell::RefCell;

use super::superblock::Superblock;
use crate::base::ranges::ByteRange;
use crate::disk::volume::Volume;
use crate::fs::shared::{Doubts, Span, coalesce, push};

pub struct InUse {
    /// Sorted, disjoint, coalesced.
    spans: Vec<Span>,
    strays: RefCell<Vec<Span>>,
}

impl InUse {
    /// `free` is sorted and disjoint.
    pub fn all_but(free: &[Span], blocks_count: u64) -> Self {
        let mut spans = Vec::with_capacity(free.len() + 1);
        let mut at = 0;
        for &(start, end) in free {
            push(&mut spans, (at, start));
            at = end;
        }
        push(&mut spans, (at, blocks_count));
        Self { spans, strays: RefCell::default() }
    }

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
        let mut spans = self.spans;
        if !strays.is_empty() {
            spans = coalesce([spans, strays].concat());
            let count = sum(&spans) - before;
            doubts.push(format!("{count} blocks in use are free in the trees of free space, they are kept"));
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_free_is_in_use() {
        assert_eq!(InUse::all_but(&[(0, 2), (5, 6), (6, 9)], 9).spans, [(2, 5)]);
        assert_eq!(InUse::all_but(&[(3, 5)], 9).spans, [(0, 3), (5, 9)]);
        let in_use = InUse::all_but(&[(3, 5)], 9);
        in_use.claim(0, 3);
        assert!(in_use.strays.borrow().is_empty());
        in_use.claim(2, 2);
        assert_eq!(*in_use.strays.borrow(), [(2, 4)]);
        assert_eq!(coalesce(vec![(0, 3), (5, 9), (2, 4)]), [(0, 4), (5, 9)]);
    }
}
