//! A few MiB of blocks, or of pages, on their way from the disk into a pack: read, hashed, and sealed where unknown.

use crate::base::error::Result;
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
