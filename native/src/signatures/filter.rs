//! Answers "surely not here" for most ids that a segment does not hold: a Bloom filter in blocks of one cache line.
//! Signatures are uniformly random already, so their own bits are the hash. The block follows from an id's first bytes,
//! as its position in the segment does: ascending ids walk through both in order.

use crate::signatures::row::prefix;

/// With 6 bits set for each, about 1 of 150 ids that are not there is taken for one that may be.
const BITS_PER_ROW: u64 = 12;
const BITS_SET: u32 = 6;
/// A filter can be halved so many times.
const HALVINGS: u32 = 6;

/// Without blocks it holds back nothing.
#[derive(Default)]
pub struct Filter(Vec<u8>);

impl Filter {
    pub const BLOCK_BYTES: usize = 64;
    const BLOCK_BITS: u64 = 512;

    pub fn for_rows(rows: u64) -> Self {
        let blocks = (rows * BITS_PER_ROW).div_ceil(Self::BLOCK_BITS).next_multiple_of(1 << HALVINGS);
        Self(vec![0; blocks as usize * Self::BLOCK_BYTES])
    }

    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn blocks(&self) -> u64 {
        (self.0.len() / Self::BLOCK_BYTES) as u64
    }

    pub fn add(&mut self, id: &[u8]) {
        let at = self.block(id);
        for bit in bits(id) {
            self.0[at + bit / 8] |= 1 << (bit % 8);
        }
    }

    pub fn may_hold(&self, id: &[u8]) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let at = self.block(id);
        bits(id).all(|bit| self.0[at + bit / 8] >> (bit % 8) & 1 == 1)
    }

    /// Half the memory, for more false alarms: neighbours become one. Nothing is left of a filter that is halved too often.
    pub fn halved(&self) -> Self {
        if self.blocks() % 2 == 1 {
            return Self::default();
        }
        let pairs = self.0.chunks_exact(2 * Self::BLOCK_BYTES);
        let join = |pair: &[u8]| {
            let (left, right) = pair.split_at(Self::BLOCK_BYTES);
            left.iter().zip(right).map(|(l, r)| l | r).collect::<Vec<u8>>()
        };
        Self(pairs.flat_map(join).collect())
    }

    /// Scales the prefix to the number of blocks, so that halving that number halves the result.
    fn block(&self, id: &[u8]) -> usize {
        let block = (u128::from(prefix(id)) * u128::from(self.blocks())) >> 64;
        block as usize * Self::BLOCK_BYTES
    }
}

fn bits(id: &[u8]) -> impl Iterator<Item = usize> {
    let source = prefix(&id[8..]);
    (0..BITS_SET).map(move |n| (source >> (9 * n) & 511) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> [u8; 32] {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    #[test]
    fn holds_back_most_of_what_is_absent_and_nothing_that_is_there() {
        let mut filter = Filter::for_rows(20_000);
        (0..20_000).for_each(|number| filter.add(&id(number)));
        let mut last = 0;
        while !filter.bytes().is_empty() {
            assert!((0..20_000).all(|number| filter.may_hold(&id(number))));
            let alarms = (20_000..40_000).filter(|number| filter.may_hold(&id(*number))).count();
            assert!(alarms >= last);
            assert!(last > 0 || alarms < 20_000 / 80, "{alarms} false alarms");
            last = alarms;
            filter = filter.halved();
        }
        assert!(filter.may_hold(&id(0)));
    }
}
