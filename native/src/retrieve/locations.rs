//! Where records lie, by their birth numbers: one names the stripe that its record was first stored in and its place among
//! that stripe's records, so the lengths of these say all the rest (docs/decisions/0024-places-by-birth.md).

use std::collections::HashSet;

use crate::base::lru::Lru;
use crate::formats::pack::HEADER_BYTES;
use crate::retrieve::records::Location;

/// Between questions, of some 4 KiB each.
const STRIPES_KEPT: usize = 512;

/// Where the records of the stripes begin that were asked for last. One question may need any number of stripes.
pub struct RecordLocations(Lru<u64, Vec<u32>>);

impl Default for RecordLocations {
    fn default() -> Self {
        Self(Lru::new(usize::MAX))
    }
}

fn split(birth: u64) -> (u64, usize) {
    (birth >> 16, (birth & 0xffff) as usize)
}

impl RecordLocations {
    /// The stripes of these births whose lengths were not told, each once, in order.
    pub fn unknown(&mut self, births: &[u64]) -> Vec<u64> {
        let mut seen = HashSet::new();
        let stripes = births.iter().map(|&birth| split(birth).0).filter(|stripe| seen.insert(*stripe));
        stripes.collect::<Vec<_>>().into_iter().filter(|stripe| self.0.get(stripe).is_none()).collect()
    }

    /// `lengths` of all records of a stripe's pack, which lie back to back; none where the catalog does not tell them.
    pub fn learn(&mut self, stripe: u64, lengths: &[u32]) {
        let mut starts = Vec::with_capacity(lengths.len() + 1);
        let mut at = HEADER_BYTES as u32;
        starts.push(at);
        for length in lengths {
            at = at.saturating_add(*length);
            starts.push(at);
        }
        self.0.put(stripe, starts, 1);
    }

    /// A location for each, in order; the default (stripe 0) where it cannot be told.
    pub fn locate(&mut self, births: &[u64]) -> Vec<Location> {
        let found = births.iter().map(|&birth| self.location(birth).unwrap_or_default()).collect();
        self.0.shrink(STRIPES_KEPT);
        found
    }

    fn location(&mut self, birth: u64) -> Option<Location> {
        let (stripe, ordinal) = split(birth);
        let starts = self.0.get(&stripe)?;
        let (offset, end) = (*starts.get(ordinal)?, *starts.get(ordinal + 1)?);
        Some(Location { stripe, offset, length: end - offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_birth_number_says_where_its_record_lies() {
        let mut known = RecordLocations::default();
        let birth = |stripe: u64, ordinal: u64| stripe << 16 | ordinal;
        let births = [birth(5, 2), birth(6, 0), birth(5, 0), birth(5, 3)];
        assert_eq!(known.unknown(&births), [5, 6]);
        known.learn(5, &[100, 50, 70]);
        known.learn(6, &[]);
        assert_eq!(known.unknown(&births), []);
        let at = |offset, length| Location { stripe: 5, offset, length };
        assert_eq!(known.locate(&births), [at(166, 70), Location::default(), at(16, 100), Location::default()]);
        known.learn(7, &[u32::MAX, u32::MAX]);
        assert_eq!(known.locate(&[birth(7, 1)])[0].length, 0, "no length that overflows is a place");
        let many: Vec<u64> = (10..10 + 2 * STRIPES_KEPT as u64).map(|stripe| birth(stripe, 0)).collect();
        for stripe in known.unknown(&many) {
            known.learn(stripe, &[30]);
        }
        assert!(known.locate(&many).iter().all(|found| found.length == 30), "however many one question needs");
        assert_eq!(known.unknown(&many).len(), STRIPES_KEPT);
    }
}
