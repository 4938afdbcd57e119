//! Records in what was fetched of a pack (docs/formats/pack.md).

use std::borrow::Cow;
use std::ops::Deref;

use crate::base::error::{Error, Result};
use crate::base::limits::{BLOCK_BYTES, SHARD_BYTES, STRIPE_SHARDS};
use crate::formats::record::RECORD_OVERHEAD;

/// Where a record lies in which pack; stripe 0 where nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Location {
    pub stripe: u64,
    pub offset: u32,
    pub length: u32,
}

impl Location {
    /// A block's location as a catalog says it; the default for one that no pack can have, as whoever stores may say anything:
    /// another place is looked for. Throws `Corrupt` for one that it does not know.
    pub fn of_block(self) -> Result<Self> {
        let Self { stripe, offset, length } = self;
        if stripe == 0 {
            return Err(Error::corrupt("catalog", 0, "it does not know a block"));
        }
        let fits = (RECORD_OVERHEAD..=BLOCK_BYTES + RECORD_OVERHEAD).contains(&(length as usize))
            && offset as usize + length as usize <= STRIPE_SHARDS * SHARD_BYTES;
        Ok(if fits { self } else { Self::default() })
    }
}

/// A range of a stripe's pack, and which of those who asked have their record in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Range {
    pub stripe: u64,
    pub start: u32,
    pub end: u32,
    pub members: Vec<u32>,
}

/// The ranges to fetch for some records, each with a number: those closer than `gap` bytes share one, which takes no more
/// once it is `longest` bytes long (it can be opened while the next is on its way).
pub fn ranges(records: impl Iterator<Item = (Location, u32)>, gap: u32, longest: u32) -> Vec<Range> {
    let mut records: Vec<(Location, u32)> = records.collect();
    records.sort_unstable_by_key(|(location, _)| (location.stripe, location.offset));
    let mut ranges: Vec<Range> = Vec::new();
    for (Location { stripe, offset, length }, member) in records {
        let end = offset.saturating_add(length);
        match ranges.last_mut() {
            Some(last)
                if last.stripe == stripe && offset <= last.end.saturating_add(gap) && offset - last.start < longest =>
            {
                last.end = last.end.max(end);
                last.members.push(member);
            }
            _ => ranges.push(Range { stripe, start: offset, end, members: vec![member] }),
        }
    }
    ranges
}

/// Bytes of a pack: a range of it and what was fetched for that range, or for a part of it that others continue.
pub struct Fetched<'a> {
    pub offset: u32,
    pub bytes: &'a [u8],
}

impl<'a> Fetched<'a> {
    /// Bodies and where each begins in the pack.
    pub fn each<B: Deref<Target = [u8]>>(offsets: &[u32], bodies: &'a [B]) -> Vec<Self> {
        offsets.iter().zip(bodies).map(|(&offset, bytes)| Self { offset, bytes }).collect()
    }
}

/// A record in what was `fetched`, in order; one that goes on in the next shard is put together from both.
pub fn record<'a>(fetched: &[Fetched<'a>], location: Location) -> Option<Cow<'a, [u8]>> {
    let first = fetched.partition_point(|range| range.offset <= location.offset).checked_sub(1)?;
    let (start, length) = ((location.offset - fetched[first].offset) as usize, location.length as usize);
    let bytes = fetched[first].bytes.get(start..)?;
    if let Some(record) = bytes.get(..length) {
        return Some(Cow::Borrowed(record));
    }
    let mut record = bytes.to_vec();
    for range in &fetched[first + 1..] {
        let adjoins = range.offset as usize == location.offset as usize + record.len();
        if !adjoins || record.len() == length {
            break;
        }
        record.extend_from_slice(&range.bytes[..range.bytes.len().min(length - record.len())]);
    }
    (record.len() == length).then_some(Cow::Owned(record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_put_together_from_parts_that_adjoin_and_from_no_others() {
        let bytes: Vec<u8> = (0..100).collect();
        let part = |from: usize, to: usize| Fetched { offset: 1000 + from as u32, bytes: &bytes[from..to] };
        let parts = [part(0, 40), part(40, 45), part(45, 60), part(61, 100)];
        let location = |offset: u32, length: u32| Location { stripe: 1, offset: 1000 + offset, length };
        for (from, to) in [(0, 40), (30, 60), (39, 46), (45, 60), (61, 100)] {
            let found = record(&parts, location(from as u32, (to - from) as u32));
            assert_eq!(found.as_deref(), Some(&bytes[from..to]), "{from} to {to}");
        }
        for (offset, length) in [(50, 20), (60, 1), (99, 2), (100, 1)] {
            assert_eq!(record(&parts, location(offset, length)), None, "{length} at {offset}");
        }
        assert_eq!(record(&parts[1..], location(0, 1)), None);
    }
}
