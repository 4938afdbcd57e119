//! Logical ranges that are met one by one.

use crate::base::ranges::{ByteRange, coalesce, push};

const RANGES_LEAST: usize = 1 << 16;

/// A set of ranges, coalesced now and then so that extents shared by many snapshots take no memory.
#[derive(Default)]
pub struct Ranges {
    ranges: Vec<ByteRange>,
    coalesce_at: usize,
}

impl Ranges {
    pub fn push(&mut self, start: u64, length: u64) {
        push(&mut self.ranges, ByteRange { start, length });
        if self.ranges.len() >= self.coalesce_at.max(RANGES_LEAST) {
            self.ranges = coalesce(std::mem::take(&mut self.ranges));
            self.coalesce_at = self.ranges.len() * 2;
        }
    }

    pub fn into_set(self) -> Vec<ByteRange> {
        coalesce(self.ranges)
    }
}
