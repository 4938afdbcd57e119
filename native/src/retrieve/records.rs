//! Records in what was fetched of a pack (docs/formats/pack.md).

use std::borrow::Cow;

use crate::base::error::{Error, Result};
use crate::base::limits::{BLOCK_BYTES, SHARD_BYTES, STRIPE_SHARDS};
use crate::formats::record::RECORD_OVERHEAD;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub stripe: u64,
    pub offset: u32,
    pub length: u32,
}

impl Place {
    /// A block's place as a catalog says it. Throws `Corrupt` for one that no pack can have.
    pub fn of_block(stripe: u64, offset: u32, length: u32) -> Result<Self> {
        let fits = (RECORD_OVERHEAD..=BLOCK_BYTES + RECORD_OVERHEAD).contains(&(length as usize))
            && offset as usize + length as usize <= STRIPE_SHARDS * SHARD_BYTES;
        if fits {
            return Ok(Self { stripe, offset, length });
        }
        Err(Error::corrupt("catalog", 0, format!("{length} bytes at {offset} of a pack are no block")))
    }
}

/// Bytes of a pack: a range of it and what was fetched for that range, or for a part of it that others continue.
pub struct Fetched<'a> {
    pub offset: u32,
    pub bytes: &'a [u8],
}

/// A record in what was `fetched`, in order; one that goes on in the next shard is put together from both.
pub fn record<'a>(fetched: &[Fetched<'a>], place: Place) -> Option<Cow<'a, [u8]>> {
    let first = fetched.partition_point(|range| range.offset <= place.offset).checked_sub(1)?;
    let (start, length) = ((place.offset - fetched[first].offset) as usize, place.length as usize);
    let bytes = fetched[first].bytes.get(start..)?;
    if let Some(record) = bytes.get(..length) {
        return Some(Cow::Borrowed(record));
    }
    let mut record = bytes.to_vec();
    for range in &fetched[first + 1..] {
        let adjoins = range.offset as usize == place.offset as usize + record.len();
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
        let place = |offset: u32, length: u32| Place { stripe: 1, offset: 1000 + offset, length };
        for (from, to) in [(0, 40), (30, 60), (39, 46), (45, 60), (61, 100)] {
            let found = record(&parts, place(from as u32, (to - from) as u32));
            assert_eq!(found.as_deref(), Some(&bytes[from..to]), "{from} to {to}");
        }
        for (offset, length) in [(50, 20), (60, 1), (99, 2), (100, 1)] {
            assert_eq!(record(&parts, place(offset, length)), None, "{length} at {offset}");
        }
        assert_eq!(record(&parts[1..], place(0, 1)), None);
    }
}
