//! Whether a record that somebody else stored is the one that this appliance would have stored. Sealing is convergent: the same
//! block, compressed alike, is the same record to the byte. So the blocks of a batch are sealed in memory, and what is sent is a
//! question about a digest. A block that was compressed otherwise does not come out as long as the place is said to be; its record
//! has to be fetched and opened.

use crate::base::limits::SHARD_BYTES;
use crate::formats::record::{Domain, RECORD_OVERHEAD};
use crate::formats::shard::BODY_OFFSET;
use crate::snapshot::batch::{Batch, Item};
use crate::stripes::prove::digest;

/// Where the record of a batch's item is said to lie.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Which of the items that are not zeros.
    pub nth: u32,
    /// In its pack.
    pub offset: u32,
    pub length: u32,
    /// Bytes of the pack in each shard of its stripe.
    pub body: u32,
}

/// What the holder of a part of a record answers, if it has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Expected {
    pub nth: u32,
    /// Of the shard in its stripe.
    pub index: u32,
    /// Of the shard's file, end exclusive.
    pub start: u32,
    pub end: u32,
    pub digest: [u8; 32],
}

impl Batch {
    /// What is to be answered for each place whose length one of zstd's `levels` makes of its block, in their order; one that was
    /// right is tried first for the next block. Nothing for the others. The bytes must have been read. `domain`: an older one than
    /// that of the batch, too.
    pub fn expect(&self, domain: &Domain, nonce: &[u8; 32], places: &[Place], levels: &[i32]) -> Vec<Expected> {
        let (items, mut levels) = (self.stored(), levels.to_vec());
        let (mut expected, mut record) = (Vec::new(), Vec::new());
        for place in places {
            let Some(item) = items.get(place.nth as usize).filter(|item| place.may_hold(item)) else { continue };
            let (plain, key) = (self.plain(item), domain.block_key(self.plain(item)));
            let right = levels.iter().position(|level| {
                record.clear();
                domain.seal(&key, plain, *level, &mut record) == place.length as usize
            });
            let Some(right) = right else { continue };
            levels[..=right].rotate_right(1);
            expected.extend(place.parts(&record, nonce));
        }
        expected
    }

    /// Whether a record opens to the bytes of an item that is not zeros.
    pub fn opens(&self, domain: &Domain, nth: u32, record: &[u8]) -> bool {
        let item = self.stored().get(nth as usize).copied();
        item.is_some_and(|item| domain.open(&domain.block_key(self.plain(item)), record, item.length).is_ok())
    }

    fn stored(&self) -> Vec<&Item> {
        self.items.iter().filter(|item| !item.zero).collect()
    }

    fn plain(&self, item: &Item) -> &[u8] {
        &self.bytes[item.start..item.start + item.length]
    }
}

impl Place {
    /// Else no compression makes this length of that block, or no shard is that long.
    fn may_hold(&self, item: &Item) -> bool {
        (1..=SHARD_BYTES as u32).contains(&self.body) && self.length as usize <= item.length + RECORD_OVERHEAD
    }

    fn parts<'a>(&'a self, record: &'a [u8], nonce: &'a [u8; 32]) -> impl Iterator<Item = Expected> + 'a {
        let (mut at, mut rest) = (self.offset, record);
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (index, within) = (at / self.body, at % self.body);
            let length = rest.len().min((self.body - within) as usize);
            let (part, left) = rest.split_at(length);
            let start = BODY_OFFSET as u32 + within;
            let expected =
                Expected { nth: self.nth, index, start, end: start + length as u32, digest: digest(nonce, part) };
            (at, rest) = (at.wrapping_add(length as u32), left);
            Some(expected)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;

    fn batch(domain: &Domain, blocks: &[&[u8]]) -> Batch {
        let mut batch = Batch::of_pages(blocks.iter().map(|block| block.to_vec()));
        batch.hash(domain);
        batch
    }

    #[test]
    fn a_block_that_another_sealed_alike_is_proved_in_parts_at_whichever_level_it_was_sealed() {
        let domain = Domain::blocks(&Secret::new([1; 32]));
        let text: Vec<u8> =
            (0..60_000u32).flat_map(|at| ((at * at) >> 5).to_string().into_bytes()).take(60_000).collect();
        let batch = batch(&domain, &[&[0; 100], &text, b"short"]);
        let nonce = [5; 32];
        let mut sealed = Vec::new();
        for level in [1, 3, 9] {
            sealed.clear();
            let length = domain.seal(&domain.block_key(&text), &text, level, &mut sealed) as u32;
            let place = Place { nth: 0, offset: 7_000, length, body: 9_000 };
            let expected = batch.expect(&domain, &nonce, &[place], &[1, 3, 9]);
            let mut whole = 0;
            for (part, at) in expected.iter().zip(0..) {
                let bytes = &sealed[whole..whole + (part.end - part.start) as usize];
                assert_eq!((part.nth, part.index, &part.digest), (0, at, &digest(&nonce, bytes)));
                assert_eq!(part.start, if at == 0 { 4096 + 7_000 } else { 4096 });
                whole += bytes.len();
            }
            assert_eq!(whole, sealed.len());
            assert!(batch.opens(&domain, 0, &sealed) && !batch.opens(&domain, 1, &sealed));
            assert!(!batch.opens(&domain, 2, &sealed), "there are two that are not zeros");
            let longer = Place { length: length + 1, ..place };
            assert_eq!(batch.expect(&domain, &nonce, &[longer], &[1, 3, 9]), []);
        }
        let place = Place { nth: 0, offset: 0, length: sealed.len() as u32, body: 0 };
        assert_eq!(batch.expect(&domain, &nonce, &[place], &[9]), [], "a stripe without bytes");
        let place = Place { nth: 9, offset: u32::MAX, length: u32::MAX, body: 1 };
        assert_eq!(batch.expect(&domain, &nonce, &[place], &[1]), [], "no such block");
        let place = Place { nth: 1, offset: u32::MAX, length: 59, body: u32::MAX };
        assert_eq!(batch.expect(&domain, &nonce, &[place], &[1]), [], "no shard is that long");
        let place = Place { nth: 1, offset: u32::MAX, length: 59, body: SHARD_BYTES as u32 };
        assert!(batch.expect(&domain, &nonce, &[place], &[1]).len() <= 2, "no place at all");
    }

    #[test]
    fn the_level_that_was_right_is_tried_first() {
        let domain = Domain::blocks(&Secret::new([1; 32]));
        let mut levels = vec![1, 3, 6, 9];
        levels[..=2].rotate_right(1);
        assert_eq!(levels, [6, 1, 3, 9]);
        let batch = batch(&domain, &[b"a", b"b"]);
        let places = [0, 1].map(|nth| Place { nth, offset: 16, length: 55, body: 1000 });
        assert_eq!(batch.expect(&domain, &[0; 32], &places, &levels).len(), 2, "stored, whatever the level");
    }
}
