//! What a restore fetches: the entries of many map pages, each distinct block once, ordered by where it lies in the
//! packs (docs/formats/pack.md), so that every range is fetched once and written as it comes.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use crate::base::error::{Error, Result};
use crate::base::limits::BLOCK_BYTES;
use crate::base::ranges::{ByteRange, coalesce, without};
use crate::disk::salvage;
use crate::formats::page::{MapEntry, Ref};
use crate::formats::record::{Domain, signature};
use crate::restore::gather::Gather;
use crate::restore::target::Target;
use crate::retrieve::records::{Fetched, Place, record};

/// A place on the target that one block fills.
#[derive(Clone, Copy)]
pub(crate) struct Use {
    pub block: u32,
    pub disk: u64,
    pub length: u32,
    pub in_block: u32,
}

#[derive(Default)]
pub struct FetchPlan {
    pub(crate) blocks: Vec<Ref>,
    index: HashMap<u64, u32>,
    pub(crate) uses: Vec<Use>,
    located: Vec<Place>,
    /// Block numbers by (stripe, offset).
    order: Vec<u32>,
    /// Disk offset and length of what the source did not give.
    unreadable: Vec<(u64, u32)>,
    /// By disk offset: the hash (a block's key) of what was written of a block that is not whole there.
    pub(crate) partial: Mutex<HashMap<u64, [u8; 32]>>,
    /// All that is held here by entries, whatever becomes of them.
    held: Vec<ByteRange>,
}

/// What became of the blocks of one stripe.
#[derive(Default)]
pub struct Written {
    pub bytes: u64,
    /// Blocks whose record did not verify.
    pub bad: Vec<u32>,
}

impl FetchPlan {
    pub fn add(&mut self, entries: &[MapEntry]) {
        let unreadable = entries.iter().filter(|entry| entry.block == Ref::UNREADABLE);
        self.unreadable.extend(unreadable.map(|entry| (entry.disk, entry.length)));
        let held = entries.iter().filter(|entry| entry.block != Ref::ZEROS);
        self.held.extend(held.map(|entry| ByteRange { start: entry.disk, length: entry.length.into() }));
        for entry in entries.iter().filter(|entry| entry.block.is_stored()) {
            let next = self.blocks.len() as u32;
            let mut block = *self.index.entry(entry.block.birth).or_insert(next);
            // Two keys with one birth number: whoever gave it out was wrong. Each is looked up by its own signature.
            if self.blocks.get(block as usize).is_some_and(|known| known.key != entry.block.key) {
                block = next;
            }
            if block == next {
                self.blocks.push(entry.block);
            }
            self.uses.push(Use { block, disk: entry.disk, length: entry.length, in_block: entry.in_block });
        }
    }

    /// Has the target make room for all that will be written.
    pub fn reserve(&self, target: &Target) -> Result<()> {
        let blocks = self.uses.iter().map(|place| (place.disk, place.length));
        let written = blocks.chain(self.unreadable.iter().copied());
        let ranges = written.map(|(start, length)| ByteRange { start, length: length.into() }).collect();
        coalesce(ranges).iter().try_for_each(|range| target.reserve(range.start, range.length))
    }

    /// Fills what the source did not give with a pattern that nobody takes for data; returns its bytes.
    pub fn write_unreadable(&self, target: &Target) -> Result<u64> {
        for &(disk, length) in &self.unreadable {
            target.write(disk, &salvage::pattern(disk, length as usize))?;
        }
        Ok(self.unreadable.iter().map(|&(_, length)| u64::from(length)).sum())
    }

    /// Blocks that no place is left for.
    pub(crate) fn forget_unused(&mut self) {
        let mut number = vec![u32::MAX; self.blocks.len()];
        let mut blocks = Vec::new();
        for place in &mut self.uses {
            let known = &mut number[place.block as usize];
            if *known == u32::MAX {
                *known = blocks.len() as u32;
                blocks.push(self.blocks[place.block as usize]);
            }
            place.block = *known;
        }
        self.blocks = blocks;
        self.index.clear();
    }

    /// Makes zeros of `from .. to` where the snapshot holds nothing; returns the bytes that had to be written.
    pub fn clear(&self, target: &Target, from: u64, to: u64) -> Result<u64> {
        let whole = [ByteRange { start: from, length: to.saturating_sub(from) }];
        let free = without(&whole, &coalesce(self.held.clone()));
        free.iter().map(|range| target.clear(range.start, range.length)).sum()
    }

    /// The end of the last byte of all entries.
    pub fn end(&self) -> u64 {
        self.held.last().map_or(0, ByteRange::end)
    }

    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// Signatures of all distinct blocks, 32 bytes each.
    pub fn ids(&self) -> Vec<u8> {
        self.blocks.iter().flat_map(|block| signature(&block.key)).collect()
    }

    /// Where each block lies. A stripe of 0 is a block that nobody knows.
    pub fn locate(&mut self, stripes: &[u64], offsets: &[u32], lengths: &[u32]) -> Result<()> {
        let count = self.blocks.len();
        if stripes.len() != count || offsets.len() != count || lengths.len() != count {
            return Err(Error::invalid("places", format!("{} for {count} blocks", stripes.len())));
        }
        if let Some(unknown) = stripes.iter().position(|&stripe| stripe == 0) {
            return Err(Error::corrupt("catalog", 0, format!("block {:#x} is not in it", self.blocks[unknown].birth)));
        }
        let places = stripes.iter().zip(offsets).zip(lengths);
        let places = places.map(|((&stripe, &offset), &length)| Place::of_block(stripe, offset, length));
        self.located = places.collect::<Result<_>>()?;
        self.order = (0..count as u32).collect();
        self.order.sort_unstable_by_key(|&block| {
            let place = self.located[block as usize];
            (place.stripe, place.offset)
        });
        self.uses.sort_unstable_by_key(|place| place.block);
        Ok(())
    }

    /// Distinct stripes, ascending.
    pub fn stripes(&self) -> Vec<u64> {
        let mut stripes: Vec<u64> = self.order.iter().map(|&block| self.located[block as usize].stripe).collect();
        stripes.dedup();
        stripes
    }

    fn blocks_of(&self, stripe: u64) -> &[u32] {
        let from = self.order.partition_point(|&block| self.located[block as usize].stripe < stripe);
        let to = self.order.partition_point(|&block| self.located[block as usize].stripe <= stripe);
        &self.order[from..to]
    }

    /// The ranges of a stripe's pack to fetch, `(start, end)`: records closer than `gap` share one.
    pub fn ranges(&self, stripe: u64, gap: u32) -> Vec<(u32, u32)> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for &block in self.blocks_of(stripe) {
            let place = self.located[block as usize];
            let end = place.offset.saturating_add(place.length);
            match ranges.last_mut() {
                Some(last) if place.offset <= last.1.saturating_add(gap) => last.1 = last.1.max(end),
                _ => ranges.push((place.offset, end)),
            }
        }
        ranges
    }

    /// Opens and writes the blocks of a stripe (or only those of `only`, a second try). Nothing is written that does
    /// not verify. `fetched` in order.
    pub fn write(
        &self,
        stripe: u64,
        fetched: &[Fetched],
        only: Option<&[u32]>,
        domain: &Domain,
        target: &Target,
    ) -> Result<Written> {
        let mut written = Written::default();
        let mut gather = Gather::new(target);
        let only: Option<HashSet<u32>> = only.map(|only| only.iter().copied().collect());
        let wanted = |block: &&u32| only.as_ref().is_none_or(|only| only.contains(block));
        for &block in self.blocks_of(stripe).iter().filter(wanted) {
            let place = self.located[block as usize];
            let opened = record(fetched, place)
                .map(|record| domain.open(&self.blocks[block as usize].key, &record, BLOCK_BYTES))
                .transpose();
            let Ok(Some(plain)) = opened else {
                written.bad.push(block);
                continue;
            };
            let from = self.uses.partition_point(|place| place.block < block);
            for place in self.uses[from..].iter().take_while(|place| place.block == block) {
                let end = place.in_block.saturating_add(place.length) as usize;
                let bytes = plain
                    .get(place.in_block as usize..end)
                    .ok_or_else(|| Error::corrupt("manifest", place.disk, "an entry longer than its block"))?;
                gather.push(place.disk, bytes)?;
                if bytes.len() < plain.len() {
                    let hash = domain.block_key(bytes);
                    self.partial.lock().expect("no holder of this lock panics").insert(place.disk, hash);
                }
                written.bytes += u64::from(place.length);
            }
        }
        gather.flush()?;
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;

    fn entry(disk: u64, length: u32, in_block: u32, key: [u8; 32], birth: u64) -> MapEntry {
        MapEntry { disk, length, in_block, block: Ref { key, birth } }
    }

    #[test]
    fn each_block_is_fetched_once_and_zeros_never() {
        let mut plan = FetchPlan::default();
        let entries = [entry(0, 10, 0, [1; 32], 7), entry(10, 10, 10, [1; 32], 7), entry(20, 99, 0, [0; 32], 0)];
        plan.add(&entries);
        assert_eq!(plan.ids(), signature(&[1; 32]));
        plan.locate(&[3], &[16], &[100]).unwrap();
        assert_eq!((plan.stripes(), plan.ranges(3, 0), plan.ranges(4, 0)), (vec![3], vec![(16, 116)], vec![]));
    }

    #[test]
    fn places_that_no_pack_can_hold_are_refused() {
        let mut plan = FetchPlan::default();
        plan.add(&[entry(0, 10, 0, [1; 32], 7)]);
        for (stripe, offset, length) in [(0, 16, 100), (1, 16, 10), (1, 16, 1 << 20), (1, u32::MAX, 100)] {
            assert!(plan.locate(&[stripe], &[offset], &[length]).is_err(), "{length} at {offset}");
        }
        assert!(plan.locate(&[], &[], &[]).is_err());
    }

    #[test]
    fn two_keys_with_one_birth_number_are_two_blocks() {
        let domain = Domain::blocks(&Secret::new([1; 32]));
        let path = std::env::temp_dir().join(format!("imager-fetchplan-{}", std::process::id()));
        let target = Target::open(path.to_str().unwrap(), 8).unwrap();
        target.blank().unwrap();
        let mut records = Vec::new();
        let mut seal = |plain: &[u8]| {
            let key = domain.block_key(plain);
            (key, records.len() as u32, domain.seal(&key, plain, 1, &mut records) as u32)
        };
        let (a, b) = (seal(b"aaaa"), seal(b"bbbb"));
        let mut plan = FetchPlan::default();
        plan.add(&[entry(0, 4, 0, a.0, 7), entry(4, 4, 0, b.0, 7)]);
        plan.locate(&[3, 3], &[a.1, b.1], &[a.2, b.2]).unwrap();
        let fetched = [Fetched { offset: 0, bytes: &records }];
        let written = plan.write(3, &fetched, None, &domain, &target).unwrap();
        assert_eq!((written.bytes, written.bad), (8, vec![]));
        assert_eq!(std::fs::read(&path).unwrap(), b"aaaabbbb");
        let again =
            plan.write(3, &[Fetched { offset: 0, bytes: &records[..9] }], Some(&[1]), &domain, &target).unwrap();
        assert_eq!((again.bytes, again.bad), (0, vec![1]));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn room_is_made_for_what_will_be_written_and_for_nothing_else() {
        use std::os::unix::fs::MetadataExt;
        let path = std::env::current_exe().unwrap().with_extension("reserve");
        let target = Target::open(path.to_str().unwrap(), 8 << 20).unwrap();
        target.blank().unwrap();
        let mut plan = FetchPlan::default();
        let lost = MapEntry { disk: 4 << 20, length: 1 << 20, in_block: 0, block: Ref::UNREADABLE };
        plan.add(&[entry(0, 65536, 0, [1; 32], 7), entry(65536, 2 << 20, 0, [0; 32], 0), lost]);
        plan.reserve(&target).unwrap();
        let taken = std::fs::metadata(&path).unwrap().blocks() * 512;
        assert!((65536 + (1 << 20)..2 << 20).contains(&taken), "{taken}");
        assert!(std::fs::read(&path).unwrap().iter().all(|&byte| byte == 0));
        plan.add(&[entry(u64::MAX - 4, 10, 0, [2; 32], 8)]);
        assert!(plan.reserve(&target).is_err());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_entry_beyond_its_block_writes_nothing() {
        let domain = Domain::blocks(&Secret::new([1; 32]));
        let path = std::env::temp_dir().join(format!("imager-fetchplan-long-{}", std::process::id()));
        let target = Target::open(path.to_str().unwrap(), 1 << 33).unwrap();
        let (key, mut record) = (domain.block_key(b"aaaa"), Vec::new());
        let length = domain.seal(&key, b"aaaa", 1, &mut record) as u32;
        for (in_block, length_here) in [(0, 5), (4, 1), (u32::MAX, u32::MAX), (5, 0)] {
            let mut plan = FetchPlan::default();
            plan.add(&[entry(0, length_here, in_block, key, 7)]);
            plan.locate(&[3], &[0], &[length]).unwrap();
            assert!(plan.write(3, &[Fetched { offset: 0, bytes: &record }], None, &domain, &target).is_err());
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        std::fs::remove_file(&path).unwrap();
    }
}
