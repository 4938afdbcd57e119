//! What a restore fetches: the entries of many map pages, each distinct block once, ordered by where it lies in the
//! packs (design, section 6), so that every range is fetched once and written as it comes.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::limits::BLOCK_BYTES;
use crate::pages::{MapEntry, Ref};
use crate::seal::{Domain, signature};
use crate::target::Target;

/// A place on the target that one block fills.
#[derive(Clone, Copy)]
struct Use {
    block: u32,
    disk: u64,
    length: u32,
    in_block: u32,
}

#[derive(Clone, Copy)]
struct Located {
    stripe: u64,
    offset: u32,
    length: u32,
}

#[derive(Default)]
pub struct FetchPlan {
    blocks: Vec<Ref>,
    index: HashMap<u64, u32>,
    uses: Vec<Use>,
    located: Vec<Located>,
    /// Block numbers by (stripe, offset).
    order: Vec<u32>,
}

/// Bytes of a pack: a range of it and what was fetched for that range.
pub struct Fetched<'a> {
    pub offset: u32,
    pub bytes: &'a [u8],
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
        for entry in entries.iter().filter(|entry| entry.block.birth != 0) {
            let next = self.blocks.len() as u32;
            let block = *self.index.entry(entry.block.birth).or_insert(next);
            if block == next {
                self.blocks.push(entry.block);
            }
            self.uses.push(Use { block, disk: entry.disk, length: entry.length, in_block: entry.in_block });
        }
    }

    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// Signatures of all distinct blocks, 32 bytes each.
    pub fn ids(&self) -> Vec<u8> {
        self.blocks.iter().flat_map(|block| signature(&block.key)).collect()
    }

    /// Where each of `ids` lies. A stripe of 0 is a block that nobody knows.
    pub fn locate(&mut self, stripes: &[u64], offsets: &[u32], lengths: &[u32]) -> Result<()> {
        let count = self.blocks.len();
        if stripes.len() != count || offsets.len() != count || lengths.len() != count {
            return Err(Error::invalid("places", format!("{} for {count} blocks", stripes.len())));
        }
        if let Some(unknown) = stripes.iter().position(|&stripe| stripe == 0) {
            return Err(Error::corrupt("catalog", 0, format!("block {:#x} is not in it", self.blocks[unknown].birth)));
        }
        let places = stripes.iter().zip(offsets).zip(lengths);
        self.located = places.map(|((&stripe, &offset), &length)| Located { stripe, offset, length }).collect();
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
    /// not verify.
    pub fn write(
        &self,
        stripe: u64,
        fetched: &[Fetched],
        only: Option<&[u32]>,
        domain: &Domain,
        target: &Target,
    ) -> Result<Written> {
        let mut written = Written::default();
        for &block in self.blocks_of(stripe).iter().filter(|block| only.is_none_or(|only| only.contains(block))) {
            let place = self.located[block as usize];
            let opened = slice(fetched, place)
                .map(|record| domain.open(&self.blocks[block as usize].key, record, BLOCK_BYTES))
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
                target.write(place.disk, bytes)?;
                written.bytes += u64::from(place.length);
            }
        }
        Ok(written)
    }
}

fn slice<'a>(fetched: &[Fetched<'a>], place: Located) -> Option<&'a [u8]> {
    let range = fetched.iter().rfind(|range| range.offset <= place.offset)?;
    let start = (place.offset - range.offset) as usize;
    range.bytes.get(start..start.checked_add(place.length as usize)?)
}
