//! Fills packs with the records of batches, in the order of the batches, and knows the birth number of everything that
//! this run has stored.
//!
//! Invariants: an id is sealed once while it is remembered; stripes are numbered from 0 in the order in which their packs
//! are begun, and records in a pack from 0 in theirs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::base::error::{Error, Result};
use crate::base::limits::{PACK_RECORDS, SHARD_BYTES};
use crate::base::pool;
use crate::base::secret::Secret;
use crate::formats::names::{NUMBER_BITS, RunName, Runs};
use crate::formats::pack::{self, Row};
use crate::formats::record::{Domain, Type};
use crate::formats::references::References;
use crate::snapshot::batch::Batch;

/// Ids of this run that are remembered: what is older is committed, and the catalog knows it.
const REMEMBERED: usize = 1 << 18;

/// A full pack.
pub struct Pack {
    pub stripe: u64,
    pub run: RunName,
    pub bytes: Vec<u8>,
    pub rows: Vec<Row>,
}

pub struct Packer {
    trailer_key: Secret,
    capacity: usize,
    runs: Arc<Mutex<Runs>>,
    run: u64,
    /// Of the next stripe.
    number: u64,
    open: Option<Pack>,
    /// Birth numbers of what this run stored; `None` from claim to append.
    recent: HashMap<[u8; 32], Option<u64>>,
    order: VecDeque<[u8; 32]>,
    references: References,
}

impl Packer {
    /// Packs of at most k shards, of the stripes of `run`, a number of `runs`.
    pub fn new(trailer_key: Secret, k: usize, runs: Arc<Mutex<Runs>>, run: u32) -> Self {
        Self {
            trailer_key,
            capacity: k * SHARD_BYTES,
            runs,
            run: run.into(),
            number: 0,
            open: None,
            recent: HashMap::new(),
            order: VecDeque::new(),
            references: References::default(),
        }
    }

    /// Decides for each item that is not zeros: known to the catalog (`births` has its number, in the order of the
    /// items), stored by this run already, or fresh.
    pub fn claim(&mut self, batch: &mut Batch, births: &[u64]) -> Result<()> {
        let wanted = batch.items.iter().filter(|item| !item.zero).count();
        if wanted != births.len() {
            return Err(Error::invalid("births", format!("{} for {wanted} items", births.len())));
        }
        for (item, &birth) in batch.items.iter_mut().filter(|item| !item.zero).zip(births) {
            // Taken now: by the time this batch is appended it may be forgotten.
            let known = self.recent.get(&item.id);
            item.birth = if birth == 0 { known.copied().flatten().unwrap_or(0) } else { birth };
            item.fresh = birth == 0 && known.is_none();
            if item.fresh {
                self.recent.insert(item.id, None);
            }
        }
        Ok(())
    }

    /// Puts the fresh records of a sealed batch into packs and gives every item its birth number. Returns the packs
    /// that became full. Batches are appended in the order in which they were claimed.
    pub fn append(&mut self, batch: &mut Batch, domain: &Domain, kind: Type) -> Result<Vec<Pack>> {
        let mut full = Vec::new();
        for item in batch.items.iter_mut().filter(|item| !item.zero) {
            if item.fresh {
                let (start, length) = item.record;
                let record = &batch.records[start..start + length];
                item.birth = self.push(record, item.id, domain, kind, &mut full)?;
                self.remember(item.id, item.birth);
            } else if item.birth == 0 {
                let known = self.recent.get(&item.id).copied().flatten();
                item.birth = known.ok_or_else(|| Error::invalid("batch", "appended out of order"))?;
            }
            self.references.add(item.birth);
        }
        let reused = batch.reused.iter().filter(|entry| entry.block.is_stored());
        reused.for_each(|entry| self.references.add(entry.block.birth));
        pool::give(std::mem::take(&mut batch.records));
        Ok(full)
    }

    fn push(&mut self, record: &[u8], id: [u8; 32], domain: &Domain, kind: Type, full: &mut Vec<Pack>) -> Result<u64> {
        let fits = |pack: &Pack| {
            pack.rows.len() < PACK_RECORDS
                && pack.bytes.len() + record.len() + pack::trailer_bound(pack.rows.len() + 1) <= self.capacity
        };
        if self.open.as_ref().is_some_and(|pack| !fits(pack)) {
            full.extend(self.flush()?);
        }
        if pack::HEADER_BYTES + record.len() + pack::trailer_bound(1) > self.capacity {
            return Err(Error::invalid("record", format!("{} bytes do not fit in any pack", record.len())));
        }
        if self.open.is_none() {
            if self.number >> NUMBER_BITS != 0 {
                return Err(Error::unsupported("more than 2^24 stripes in one run"));
            }
            let stripe = self.run << NUMBER_BITS | self.number;
            let (run, _) = self.names().stripe(stripe)?;
            self.number += 1;
            self.open = Some(Pack { stripe, run, bytes: pack::start(self.capacity), rows: Vec::new() });
        }
        let pack = self.open.as_mut().expect("opened above");
        let birth = pack.stripe << 16 | pack.rows.len() as u64;
        let (offset, length) = (pack.bytes.len() as u32, record.len() as u32);
        pack.rows.push(Row { birth, kind: kind as u8, domain: domain.id, id, offset, length });
        pack.bytes.extend_from_slice(record);
        Ok(birth)
    }

    fn remember(&mut self, id: [u8; 32], birth: u64) {
        self.recent.insert(id, Some(birth));
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
    }

    /// Closes the open pack, if there is one.
    pub fn flush(&mut self) -> Result<Option<Pack>> {
        let Some(mut pack) = self.open.take() else { return Ok(None) };
        pack::finish(&mut pack.bytes, &pack.rows, pack.stripe, &self.names(), &self.trailer_key)?;
        Ok(Some(pack))
    }

    /// The reference bitmap of all that was appended.
    pub fn references(&self) -> Result<Vec<u8>> {
        self.references.encode(&self.names())
    }

    fn names(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunName = RunName { writer: [6; 32], run: [7; 8] };
    const STRIPE: u64 = 1 << NUMBER_BITS;

    fn packer(key: Secret) -> Packer {
        let mut runs = Runs::default();
        assert_eq!(runs.number(&RUN).unwrap(), 1);
        Packer::new(key, 1, Arc::new(Mutex::new(runs)), 1)
    }

    fn sealed(domain: &Domain, packer: &mut Packer, pages: &[&[u8]], births: &[u64]) -> Batch {
        let mut batch = Batch::of_pages(pages.iter().map(|page| page.to_vec()));
        batch.hash(domain);
        packer.claim(&mut batch, births).unwrap();
        batch.seal(domain, 1);
        batch
    }

    #[test]
    fn what_repeats_is_stored_once_and_zeros_never() {
        let (key, domain) = (Secret::new([1; 32]), Domain::blocks(&Secret::new([2; 32])));
        let mut packer = packer(key.clone());
        let known = 3 << 40 | 5;
        let mut first = sealed(&domain, &mut packer, &[b"a", b"b", b"a", &[0; 99], b"known"], &[0, 0, 0, known]);
        let mut second = sealed(&domain, &mut packer, &[b"b", b"c"], &[0, 0]);
        for batch in [&mut first, &mut second] {
            assert!(packer.append(batch, &domain, Type::Block).unwrap().is_empty());
        }
        let births = |batch: &Batch| batch.items.iter().map(|item| item.birth).collect::<Vec<_>>();
        let birth = STRIPE << 16;
        assert_eq!(births(&first), [birth, birth | 1, birth, 0, known]);
        assert_eq!(births(&second), [birth | 1, birth | 2]);
        let pack = packer.flush().unwrap().unwrap();
        let (trailer, _) = pack::read_header(&pack.bytes).unwrap();
        let mut runs = packer.runs.lock().unwrap();
        let rows = pack::read_trailer(&pack.bytes[trailer..], trailer, (&RUN, 0), &mut runs, &key).unwrap();
        assert_eq!(rows, pack.rows);
        let record = &pack.bytes[rows[2].offset as usize..][..rows[2].length as usize];
        assert_eq!(domain.open(&domain.block_key(b"c"), record, 100).unwrap(), b"c");
    }

    #[test]
    fn what_is_forgotten_between_claim_and_append_keeps_its_number() {
        let (key, domain) = (Secret::new([1; 32]), Domain::blocks(&Secret::new([2; 32])));
        let mut packer = packer(key);
        let mut first = sealed(&domain, &mut packer, &[b"a"], &[0]);
        packer.append(&mut first, &domain, Type::Block).unwrap();
        let mut again = sealed(&domain, &mut packer, &[b"a"], &[0]);
        (0..REMEMBERED as u64).for_each(|i| packer.remember(*blake3::hash(&i.to_le_bytes()).as_bytes(), 9 << 16));
        assert!(packer.recent.len() <= REMEMBERED && !packer.recent.contains_key(&first.items[0].id));
        packer.append(&mut again, &domain, Type::Block).unwrap();
        assert_eq!(again.items[0].birth, STRIPE << 16);
    }

    #[test]
    fn stripes_that_would_wrap_and_records_that_fit_nowhere_are_refused() {
        let (key, domain) = (Secret::new([1; 32]), Domain::pages(&Secret::new([2; 32])));
        let mut full = packer(key.clone());
        full.number = 1 << NUMBER_BITS;
        let mut batch = sealed(&domain, &mut full, &[b"a"], &[0]);
        assert!(full.append(&mut batch, &domain, Type::Page).is_err());
        let mut packer = packer(key);
        let mut noise = vec![0; SHARD_BYTES];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let mut batch = sealed(&domain, &mut packer, &[&noise], &[0]);
        assert!(packer.append(&mut batch, &domain, Type::Page).is_err());
    }

    #[test]
    fn packs_stay_within_their_shards() {
        let (key, domain) = (Secret::new([1; 32]), Domain::pages(&Secret::new([2; 32])));
        let mut packer = packer(key);
        let mut full = Vec::new();
        for round in 0..40u8 {
            let mut noise = vec![round; 300_000];
            blake3::Hasher::new().update(&[round]).finalize_xof().fill(&mut noise);
            let mut batch = sealed(&domain, &mut packer, &[&noise], &[0]);
            full.extend(packer.append(&mut batch, &domain, Type::Page).unwrap());
        }
        full.extend(packer.flush().unwrap());
        assert!(full.iter().zip(0..).all(|(pack, number)| pack.stripe == STRIPE | number));
        assert!(full.len() >= 3 && full.iter().all(|pack| pack.bytes.len() <= SHARD_BYTES));
        assert_eq!(full.iter().map(|pack| pack.rows.len()).sum::<usize>(), 40);
    }
}
