//! What a restore fetches: the entries of many map pages, each distinct block once, ordered by where it lies in the
//! packs (docs/formats/pack.md), so that every range is fetched once and written as it comes.

use std::collections::{BTreeMap, HashMap};

use crate::base::error::{Error, Result};
use crate::base::limits::BLOCK_BYTES;
use crate::base::ranges::{ByteRange, coalesce, push, without};
use crate::disk::salvage;
use crate::formats::domains::Domains;
use crate::formats::page::{Gap, MapEntry, Ref};
use crate::formats::record::signature;
use crate::restore::gather::Gather;
use crate::restore::target::Target;
use crate::retrieve::records::{Fetched, Location, Range, ranges, record};

/// Records closer than this in a pack come in one range.
const GAP_BYTES: u32 = 128 << 10;

/// A piece of the target that one block fills.
#[derive(Clone, Copy)]
pub(super) struct Use {
    pub block: u32,
    pub disk: u64,
    pub length: u32,
    pub in_block: u32,
}

/// What is known of the target's part, whatever is fetched of it.
#[derive(Default)]
pub(super) struct Held {
    /// All that entries speak of, zeros left out.
    ranges: Vec<ByteRange>,
    /// What was in use, and is zeros.
    pub zeros: Vec<ByteRange>,
    /// What the snapshot does not hold although it was in use.
    pub missing: Vec<Missing>,
}

/// A piece of the target for which a pattern stands.
#[derive(Clone, Copy)]
pub(super) struct Missing {
    pub disk: u64,
    pub length: u32,
    pub gap: Gap,
}

impl Missing {
    /// Nobody takes it for data.
    pub fn pattern(&self) -> Vec<u8> {
        let why = match self.gap {
            Gap::Unreadable => salvage::UNREADABLE,
            Gap::NotStored => salvage::LEFT_OUT,
        };
        salvage::pattern(self.disk, self.length as usize, why)
    }
}

/// First: the entries of map pages are collected.
#[derive(Default)]
pub struct Collected {
    pub(super) blocks: Vec<Ref>,
    index: HashMap<u64, u32>,
    pub(super) uses: Vec<Use>,
    pub(super) held: Held,
}

/// Second: what of it is written.
pub struct Selected {
    pub(super) blocks: Vec<Ref>,
    pub(super) uses: Vec<Use>,
    held: Held,
}

/// Third: the target has made room for it.
pub struct Reserved(Selected);

/// Last: where its blocks lie is known. They can be fetched and written.
pub struct Located {
    blocks: Vec<Ref>,
    /// By block.
    uses: Vec<Use>,
    /// Of each block.
    locations: Vec<Location>,
    /// The ranges of each stripe to fetch, and the blocks in them.
    ranges: BTreeMap<u64, Vec<Range>>,
}

/// What became of the blocks of one stripe.
#[derive(Default)]
pub struct Written {
    pub bytes: u64,
    /// Blocks whose record did not verify.
    pub bad: Vec<u32>,
}

impl Collected {
    pub fn add(&mut self, entries: &[MapEntry]) {
        let missing =
            |&MapEntry { disk, length, block, .. }: &MapEntry| Some(Missing { disk, length, gap: block.gap()? });
        self.held.missing.extend(entries.iter().filter_map(missing));
        let range = |entry: &MapEntry| ByteRange { start: entry.disk, length: entry.length.into() };
        let (zeros, held): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| entry.block == Ref::ZEROS);
        zeros.into_iter().for_each(|entry| push(&mut self.held.zeros, range(entry)));
        self.held.ranges.extend(held.into_iter().map(range));
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

    /// The end of the last byte of all entries.
    pub fn end(&self) -> u64 {
        self.held.ranges.last().map_or(0, ByteRange::end)
    }

    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// Birth numbers of the distinct blocks.
    pub fn births(&self) -> Vec<u64> {
        births(&self.blocks)
    }

    /// Their signatures, 32 bytes each.
    pub fn ids(&self) -> Vec<u8> {
        ids(&self.blocks)
    }

    /// All of it is written, whatever the target holds.
    pub fn all(self) -> Selected {
        Selected { blocks: self.blocks, uses: self.uses, held: self.held }
    }

    /// Only these uses are left, and the blocks that they need.
    pub(super) fn only(self, mut uses: Vec<Use>) -> Selected {
        let mut number = vec![u32::MAX; self.blocks.len()];
        let mut blocks = Vec::new();
        for piece in &mut uses {
            let known = &mut number[piece.block as usize];
            if *known == u32::MAX {
                *known = blocks.len() as u32;
                blocks.push(self.blocks[piece.block as usize]);
            }
            piece.block = *known;
        }
        Selected { blocks, uses, held: self.held }
    }
}

impl Selected {
    /// Makes zeros of `from .. to` where the snapshot holds nothing; returns the bytes that had to be written.
    pub fn clear(&self, target: &Target, from: u64, to: u64) -> Result<u64> {
        let whole = [ByteRange { start: from, length: to.saturating_sub(from) }];
        let free = without(&whole, &coalesce(self.held.ranges.clone()));
        free.iter().map(|range| target.clear(range.start, range.length)).sum()
    }

    /// Has the target make room for all that will be written.
    pub fn reserve(self, target: &Target) -> Result<Reserved> {
        let blocks = self.uses.iter().map(|piece| (piece.disk, piece.length));
        let written = blocks.chain(self.held.missing.iter().map(|piece| (piece.disk, piece.length)));
        let ranges = written.map(|(start, length)| ByteRange { start, length: length.into() }).collect();
        coalesce(ranges).iter().try_for_each(|range| target.reserve(range.start, range.length))?;
        Ok(Reserved(self))
    }
}

impl Reserved {
    /// Writes the patterns for what is missing; returns the bytes of it that were left out on purpose.
    pub fn write_missing(&self, target: &Target) -> Result<u64> {
        let missing = &self.0.held.missing;
        missing.iter().try_for_each(|piece| target.write(piece.disk, &piece.pattern()))?;
        let left_out = missing.iter().filter(|piece| piece.gap == Gap::NotStored);
        Ok(left_out.map(|piece| u64::from(piece.length)).sum())
    }

    /// Birth numbers of the distinct blocks.
    pub fn births(&self) -> Vec<u64> {
        births(&self.0.blocks)
    }

    /// Their signatures, 32 bytes each.
    pub fn ids(&self) -> Vec<u8> {
        ids(&self.0.blocks)
    }

    /// Where each of `births` lies. Throws `Corrupt` for what the catalog does not know.
    pub fn locate(self, locations: &[Location]) -> Result<Located> {
        let Selected { blocks, mut uses, .. } = self.0;
        if locations.len() != blocks.len() {
            return Err(Error::invalid("locations", format!("{} for {} blocks", locations.len(), blocks.len())));
        }
        let locations = locations.iter().map(|location| location.of_block()).collect::<Result<Vec<_>>>()?;
        uses.sort_unstable_by_key(|piece| piece.block);
        let mut by_stripe: BTreeMap<u64, Vec<Range>> = BTreeMap::new();
        for range in ranges(locations.iter().copied().zip(0..), GAP_BYTES, u32::MAX) {
            by_stripe.entry(range.stripe).or_default().push(range);
        }
        Ok(Located { blocks, uses, locations, ranges: by_stripe })
    }
}

fn births(blocks: &[Ref]) -> Vec<u64> {
    blocks.iter().map(|block| block.birth).collect()
}

fn ids(blocks: &[Ref]) -> Vec<u8> {
    blocks.iter().flat_map(|block| signature(&block.key)).collect()
}

impl Located {
    /// Distinct stripes, ascending.
    pub fn stripes(&self) -> Vec<u64> {
        self.ranges.keys().copied().collect()
    }

    /// The ranges of a stripe's pack to fetch, each once.
    pub fn ranges(&self, stripe: u64) -> &[Range] {
        self.ranges.get(&stripe).map_or(&[], Vec::as_slice)
    }

    /// Some blocks with the places where they were planned to be read.
    pub fn placed(&self, blocks: &[u32]) -> impl Iterator<Item = (u32, Location)> {
        blocks.iter().filter_map(|&block| Some((block, *self.locations.get(block as usize)?)))
    }

    /// Pieces of the target that a stripe fills, start and length: the first on the disk, the last, and one between.
    pub fn landmarks(&self, stripe: u64) -> Vec<(u64, u32)> {
        let blocks = self.ranges(stripe).iter().flat_map(|range| range.members.iter().copied());
        let mut pieces: Vec<(u64, u32)> = blocks
            .flat_map(|block| {
                let from = self.uses.partition_point(|piece| piece.block < block);
                self.uses[from..].iter().take_while(move |piece| piece.block == block)
            })
            .map(|piece| (piece.disk, piece.length))
            .collect();
        pieces.sort_unstable();
        let mut chosen: Vec<(u64, u32)> = [0, pieces.len() / 2, pieces.len().saturating_sub(1)]
            .iter()
            .filter_map(|&at| pieces.get(at))
            .copied()
            .collect();
        chosen.dedup();
        chosen
    }

    /// Birth numbers and signatures of some blocks.
    pub fn sought(&self, blocks: &[u32]) -> (Vec<u64>, Vec<u8>) {
        let wanted: Vec<Ref> = blocks.iter().filter_map(|&block| self.blocks.get(block as usize).copied()).collect();
        (births(&wanted), ids(&wanted))
    }

    /// Opens and writes the blocks of a stripe; or those of `again`, a further try, each at its place. Nothing is written that
    /// does not verify. `fetched` in order.
    pub fn write(
        &self,
        stripe: u64,
        fetched: &[Fetched],
        again: Option<&[(u32, Location)]>,
        domains: &Domains,
        target: &Target,
    ) -> Result<Written> {
        let mut written = Written::default();
        let mut gather = Gather::new(target);
        let planned = self.ranges(stripe).iter().flat_map(|range| self.placed(&range.members));
        let tried = again.map_or_else(|| planned.collect(), <[_]>::to_vec);
        for (block, location) in tried {
            let opened = record(fetched, location)
                .map(|record| domains.open(&self.blocks[block as usize].key, &record, BLOCK_BYTES))
                .transpose();
            let Ok(Some(plain)) = opened else {
                written.bad.push(block);
                continue;
            };
            let from = self.uses.partition_point(|piece| piece.block < block);
            for piece in self.uses[from..].iter().take_while(|piece| piece.block == block) {
                let end = piece.in_block.saturating_add(piece.length) as usize;
                let bytes = plain
                    .get(piece.in_block as usize..end)
                    .ok_or_else(|| Error::corrupt("manifest", piece.disk, "an entry longer than its block"))?;
                gather.push(piece.disk, bytes)?;
                if bytes.len() < plain.len() {
                    target.note_partial(piece.disk, domains.newest().block_key(bytes));
                }
                written.bytes += u64::from(piece.length);
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

    /// As a target would have it that has room for everything.
    fn collect(entries: &[MapEntry]) -> Reserved {
        let mut collected = Collected::default();
        collected.add(entries);
        Reserved(collected.all())
    }

    fn location(stripe: u64, offset: u32, length: u32) -> Location {
        Location { stripe, offset, length }
    }

    #[test]
    fn each_block_is_fetched_once_and_zeros_never() {
        let entries = [entry(0, 10, 0, [1; 32], 7), entry(10, 10, 10, [1; 32], 7), entry(20, 99, 0, [0; 32], 0)];
        let plan = collect(&entries);
        assert_eq!(plan.ids(), signature(&[1; 32]));
        let plan = plan.locate(&[location(3, 16, 100)]).unwrap();
        assert_eq!((plan.landmarks(3), plan.landmarks(4)), (vec![(0, 10), (10, 10)], vec![]));
        let range = Range { stripe: 3, start: 16, end: 116, members: vec![0] };
        assert_eq!((plan.stripes(), plan.ranges(3), plan.ranges(4)), (vec![3], &[range][..], &[][..]));
    }

    #[test]
    fn a_place_that_no_pack_can_hold_is_none_and_spoils_no_other() {
        let plan = || collect(&[entry(0, 10, 0, [1; 32], 7), entry(10, 10, 0, [2; 32], 8)]);
        let right = location(1, 200, 100);
        for (offset, length) in [(16, 10), (16, 1 << 20), (u32::MAX, 100)] {
            let plan = plan().locate(&[location(1, offset, length), right]).unwrap();
            let members = |stripe| plan.ranges(stripe).iter().map(|range| range.members.clone()).collect::<Vec<_>>();
            assert_eq!((members(0), members(1)), (vec![vec![0]], vec![vec![1]]), "{length} at {offset}");
        }
        assert!(plan().locate(&[Location::default(), right]).is_err(), "nobody knows it");
        assert!(plan().locate(&[]).is_err());
    }

    #[test]
    fn two_keys_with_one_birth_number_are_two_blocks() {
        let domains = Domains::new(&Secret::new([1; 32]), &[]);
        let domain = domains.newest();
        let path = std::env::temp_dir().join(format!("imager-fetchplan-{}", std::process::id()));
        let target = Target::open(path.to_str().unwrap(), 8).unwrap();
        target.blank().unwrap();
        let mut records = Vec::new();
        let mut seal = |plain: &[u8]| {
            let key = domain.block_key(plain);
            (key, records.len() as u32, domain.seal(&key, plain, 1, &mut records) as u32)
        };
        let (a, b) = (seal(b"aaaa"), seal(b"bbbb"));
        let plan = collect(&[entry(0, 4, 0, a.0, 7), entry(4, 4, 0, b.0, 7)]);
        let plan = plan.locate(&[location(3, a.1, a.2), location(3, b.1, b.2)]).unwrap();
        let fetched = [Fetched { offset: 0, bytes: &records }];
        let written = plan.write(3, &fetched, None, &domains, &target).unwrap();
        assert_eq!((written.bytes, written.bad), (8, vec![]));
        assert_eq!(std::fs::read(&path).unwrap(), b"aaaabbbb");
        let again = plan
            .write(
                3,
                &[Fetched { offset: 0, bytes: &records[..9] }],
                Some(&[(1, location(3, b.1, b.2))]),
                &domains,
                &target,
            )
            .unwrap();
        assert_eq!((again.bytes, again.bad), (0, vec![1]));
        // The same record, where another pack has it.
        let (other, begin) = (&records[b.1 as usize..], 5000);
        let moved = [(1, location(4, begin, b.2))];
        let elsewhere =
            plan.write(3, &[Fetched { offset: begin, bytes: other }], Some(&moved), &domains, &target).unwrap();
        assert_eq!((elsewhere.bytes, elsewhere.bad), (4, vec![]));
        assert_eq!(plan.sought(&[1]), (vec![7], signature(&b.0).to_vec()));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn room_is_made_for_what_will_be_written_and_for_nothing_else() {
        use std::os::unix::fs::MetadataExt;
        let path = std::env::current_exe().unwrap().with_extension("reserve");
        let target = Target::open(path.to_str().unwrap(), 8 << 20).unwrap();
        target.blank().unwrap();
        let mut plan = Collected::default();
        let lost = MapEntry { disk: 4 << 20, length: 1 << 20, in_block: 0, block: Ref::UNREADABLE };
        let left_out = MapEntry { disk: 5 << 20, length: 4096, in_block: 0, block: Ref::NOT_STORED };
        plan.add(&[entry(0, 65536, 0, [1; 32], 7), entry(65536, 2 << 20, 0, [0; 32], 0), lost, left_out]);
        let reserved = plan.all().reserve(&target).unwrap();
        let taken = std::fs::metadata(&path).unwrap().blocks() * 512;
        assert!((65536 + (1 << 20)..2 << 20).contains(&taken), "{taken}");
        assert!(std::fs::read(&path).unwrap().iter().all(|&byte| byte == 0));
        assert_eq!(reserved.write_missing(&target).unwrap(), 4096);
        let written = std::fs::read(&path).unwrap();
        assert!(written[4 << 20..].starts_with(b"imager: byte 4194304 of the source could not be read\n"));
        assert!(written[5 << 20..].starts_with(b"imager: byte 5242880 of the source was left out of the snapshot\n"));
        let mut plan = Collected::default();
        plan.add(&[entry(u64::MAX - 4, 10, 0, [2; 32], 8)]);
        assert!(plan.all().reserve(&target).is_err());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_entry_beyond_its_block_writes_nothing() {
        let domains = Domains::new(&Secret::new([1; 32]), &[]);
        let domain = domains.newest();
        let path = std::env::temp_dir().join(format!("imager-fetchplan-long-{}", std::process::id()));
        let target = Target::open(path.to_str().unwrap(), 1 << 33).unwrap();
        let (key, mut record) = (domain.block_key(b"aaaa"), Vec::new());
        let length = domain.seal(&key, b"aaaa", 1, &mut record) as u32;
        for (in_block, length_here) in [(0, 5), (4, 1), (u32::MAX, u32::MAX), (5, 0)] {
            let plan = collect(&[entry(0, length_here, in_block, key, 7)]);
            let plan = plan.locate(&[location(3, 0, length)]).unwrap();
            assert!(plan.write(3, &[Fetched { offset: 0, bytes: &record }], None, &domains, &target).is_err());
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        std::fs::remove_file(&path).unwrap();
    }
}
