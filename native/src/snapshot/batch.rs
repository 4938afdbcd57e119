//! A few MiB of blocks, or of pages, on their way from the disk into a pack: read, hashed, and sealed where unknown.

use crate::base::error::{Error, Result};
use crate::base::limits::{BLOCK_BYTES, MIB, PACK_RECORDS};
use crate::base::pool;
use crate::base::ranges::{ByteRange, coalesce};
use crate::disk::salvage;
use crate::disk::volume::ReadAt;
use crate::formats::page::MapEntry;
use crate::formats::record::{Domain, RECORD_OVERHEAD, signature};
use crate::map::cut::{Blocks, Cut, Piece, split_unreadable};
use crate::snapshot::reuse::{Known, Reuse};

/// Plain bytes of one batch: enough to fill both cores, few enough to have several in flight.
pub const BATCH_BYTES: usize = 8 * MIB;

/// One block or page of a batch.
#[derive(Clone, Debug, Default)]
pub struct Item {
    /// Where its plain bytes lie in the batch.
    pub start: usize,
    pub length: usize,
    pub zero: bool,
    pub key: [u8; 32],
    pub id: [u8; 32],
    /// Not known before: sealed and stored by this run.
    pub fresh: bool,
    /// 0 until known.
    pub birth: u64,
    /// Where its record lies in `records`, once sealed.
    pub record: (usize, usize),
    /// End of its pieces in `pieces`.
    pub pieces_end: usize,
    /// The key that it must have, where the last snapshot holds it and it was read to be sure. Of zeros: zeros.
    pub expected: Option<[u8; 32]>,
}

#[derive(Default)]
pub struct Batch {
    pub bytes: Vec<u8>,
    pub items: Vec<Item>,
    pub pieces: Vec<Piece>,
    pub records: Vec<u8>,
    /// Map entries of blocks that are not read, because the last snapshot holds them; and how many blocks these are.
    pub reused: Vec<MapEntry>,
    pub reused_blocks: usize,
    /// What `older_ids` asked for last: items, and their keys in that domain.
    asked: Vec<(usize, [u8; 32])>,
}

impl Batch {
    /// The next blocks of a cut, not read yet; `None` at its end. What `reuse` knows will not be read.
    pub fn of_blocks(walk: &mut Blocks, cut: &Cut, mut reuse: Option<&mut Reuse>) -> Result<Option<Self>> {
        let mut batch = Self::default();
        let mut total = 0;
        // A lookup has a cap too: one of 2^16 signatures.
        while total + BLOCK_BYTES <= BATCH_BYTES && batch.items.len().max(batch.reused.len()) < PACK_RECORDS {
            let from = batch.pieces.len();
            if !walk.next(cut, &mut batch.pieces) {
                break;
            }
            let mut expected = None;
            match reuse.as_mut().map_or(Ok(Known::No), |reuse| reuse.look(&batch.pieces[from..]))? {
                Known::No => {}
                Known::Sampled(key) => expected = Some(key),
                Known::Same(entries) => {
                    batch.reused.extend(entries);
                    batch.reused_blocks += 1;
                    batch.pieces.truncate(from);
                    continue;
                }
            }
            let length = batch.pieces[from..].iter().map(|piece| piece.length as usize).sum();
            let pieces_end = batch.pieces.len();
            batch.items.push(Item { start: total, length, pieces_end, expected, ..Item::default() });
            total += length;
        }
        Ok((!batch.items.is_empty() || !batch.reused.is_empty()).then_some(batch))
    }

    /// Pages that are already in memory.
    pub fn of_pages(pages: impl Iterator<Item = Vec<u8>>) -> Self {
        let mut batch = Self::default();
        for page in pages {
            let start = batch.bytes.len();
            batch.items.push(Item { start, length: page.len(), ..Item::default() });
            batch.bytes.extend_from_slice(&page);
        }
        batch
    }

    /// Reads every piece; neighbours on the disk and in the batch in one go. What the source refuses is zeros here, and
    /// its pieces are marked.
    pub fn read(&mut self, source: &dyn ReadAt) -> Result<()> {
        let total = self.items.iter().map(|item| item.length).sum();
        self.bytes = pool::take_filled(total);
        let (mut at, mut refused) = (0, Vec::new());
        let mut pieces = self.pieces.iter().peekable();
        while let Some(first) = pieces.next() {
            let mut length = first.length as usize;
            while let Some(next) = pieces.next_if(|next| next.disk == first.disk + length as u64) {
                length += next.length as usize;
            }
            refused.extend(salvage::read(source, first.disk, &mut self.bytes[at..at + length])?);
            at += length;
        }
        if !refused.is_empty() {
            self.mark(&coalesce(refused));
        }
        Ok(())
    }

    /// Splits the pieces where what was refused begins and ends.
    fn mark(&mut self, refused: &[ByteRange]) {
        let mut from = 0;
        let pieces = std::mem::take(&mut self.pieces);
        for item in &mut self.items {
            for piece in &pieces[from..item.pieces_end] {
                self.pieces.extend(split_unreadable(*piece, refused));
            }
            from = item.pieces_end;
            item.pieces_end = self.pieces.len();
        }
    }

    pub fn hash(&mut self, domain: &Domain) {
        for item in &mut self.items {
            let plain = &self.bytes[item.start..item.start + item.length];
            item.zero = is_zero(plain);
            if !item.zero {
                item.key = domain.block_key(plain);
                item.id = signature(&item.key);
            }
        }
    }

    /// Blocks of the last snapshot that are what it holds, in a domain that is not the newest any more.
    pub fn expect_older(&mut self, older: &[Domain]) {
        for item in &mut self.items {
            let plain = &self.bytes[item.start..item.start + item.length];
            let is_older = |expected: [u8; 32]| older.iter().any(|domain| domain.block_key(plain) == expected);
            if item.expected.is_some_and(|expected| expected != item.key && is_older(expected)) {
                item.expected = None;
            }
        }
    }

    /// The signatures that unknown items have in an older domain. `births` as for `Packer::claim`.
    pub fn older_ids(&mut self, domain: &Domain, births: &[u64]) -> Vec<u8> {
        let items = self.items.iter().enumerate().filter(|(_, item)| !item.zero);
        let unknown = items.zip(births).filter(|(_, birth)| **birth == 0);
        let key = |item: &Item| domain.block_key(&self.bytes[item.start..item.start + item.length]);
        self.asked = unknown.map(|((at, item), _)| (at, key(item))).collect();
        self.asked.iter().flat_map(|(_, key)| signature(key)).collect()
    }

    /// `found`: births of what `older_ids` asked for. What is there is that block from now on; returns all births.
    pub fn take_older(&mut self, births: &[u64], found: &[u64]) -> Result<Vec<u64>> {
        if found.len() != self.asked.len() {
            return Err(Error::invalid("births", format!("{} for {} items", found.len(), self.asked.len())));
        }
        for (&(at, key), _) in self.asked.iter().zip(found).filter(|(_, birth)| **birth != 0) {
            let item = &mut self.items[at];
            (item.key, item.id) = (key, signature(&key));
        }
        let mut found = found.iter().copied();
        let births = births.iter().map(|&birth| if birth == 0 { found.next().unwrap_or(0) } else { birth }).collect();
        Ok(births)
    }

    /// Blocks that are not what the last snapshot holds, although nothing said that they changed.
    pub fn surprises(&self) -> usize {
        let is_other = |item: &&Item| item.expected.is_some_and(|expected| expected != item.key);
        self.items.iter().filter(is_other).count()
    }

    /// Seals what was claimed as fresh, and lets go of the plain bytes.
    pub fn seal(&mut self, domain: &Domain, level: i32) {
        let fresh = self.items.iter().filter(|item| item.fresh);
        self.records = pool::take(fresh.map(|item| item.length + RECORD_OVERHEAD).sum());
        for item in self.items.iter_mut().filter(|item| item.fresh) {
            let plain = &self.bytes[item.start..item.start + item.length];
            let start = self.records.len();
            let length = domain.seal(&item.key, plain, level, &mut self.records);
            item.record = (start, length);
        }
        pool::give(std::mem::take(&mut self.bytes));
    }
}

/// 32 bytes at a time, which the compiler turns into vector compares.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (words, tail) = bytes.as_chunks::<32>();
    words.iter().all(|word| *word == [0; 32]) && tail.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;

    #[test]
    fn a_block_that_an_older_domain_holds_is_that_one() {
        let [newest, older, oldest] = [1, 2, 3].map(|seed| Domain::blocks(&Secret::new([seed; 32])));
        let mut batch = Batch::of_pages([b"new".to_vec(), vec![0; 9], b"old".to_vec(), b"hit".to_vec()].into_iter());
        batch.hash(&newest);
        let hit = batch.items[3].key;
        // The catalog knows the last one in the newest domain, and the one before in the older.
        let births = [0, 0, 7 << 16];
        let ids = [b"new", b"old"].map(|plain| signature(&older.block_key(plain))).concat();
        assert_eq!(batch.older_ids(&older, &births), ids);
        let births = batch.take_older(&births, &[0, 5 << 16]).unwrap();
        assert_eq!(births, [0, 5 << 16, 7 << 16]);
        assert_eq!((batch.items[2].key, batch.items[2].id), (older.block_key(b"old"), signature(&batch.items[2].key)));
        assert_eq!((batch.items[0].key, batch.items[3].key), (newest.block_key(b"new"), hit));
        assert_eq!(
            batch.older_ids(&oldest, &births),
            signature(&oldest.block_key(b"new")),
            "what is known is not asked"
        );
        assert!(batch.take_older(&births, &[0, 0]).is_err());
        assert_eq!(batch.take_older(&births, &[0]).unwrap(), births);
    }

    #[test]
    fn what_the_last_snapshot_holds_in_an_older_domain_is_no_surprise() {
        let [newest, older] = [1, 2].map(|seed| Domain::blocks(&Secret::new([seed; 32])));
        let mut batch = Batch::of_pages([b"same".to_vec(), b"same too".to_vec(), b"changed".to_vec()].into_iter());
        batch.items[0].expected = Some(newest.block_key(b"same"));
        batch.items[1].expected = Some(older.block_key(b"same too"));
        batch.items[2].expected = Some(older.block_key(b"what it was"));
        batch.hash(&newest);
        assert_eq!(batch.surprises(), 2);
        batch.expect_older(&[older]);
        assert_eq!(batch.surprises(), 1);
        batch.expect_older(&[]);
        assert_eq!(batch.surprises(), 1);
    }
}
