//! The reference bitmap of a snapshot (docs/formats/references.md): every birth that it needs, in clear, so that the
//! coordinator finds what nobody needs without any key. Its hash is in the signed head.
//!
//! ```text
//! magic "IMRF" | version u16 = 1 | features u16 = 0
//! then for each run of snapshots, ascending: its name 40 (names.rs) | count of birth runs, LEB128
//!   for each, ascending: gap since the end of the last birth run | length of the birth run, LEB128; a birth is here
//!   number << 16 | ordinal
//! ```

use std::collections::BTreeMap;

use crate::base::bytes::Writer;
use crate::base::error::Result;
use crate::formats::names::{RunName, Runs, number_of};

#[derive(Default)]
pub struct References {
    /// Bits of the ordinals, by stripe.
    stripes: BTreeMap<u64, Vec<u64>>,
}

impl References {
    pub fn add(&mut self, birth: u64) {
        let ordinals = self.stripes.entry(birth >> 16).or_default();
        let ordinal = (birth & 0xffff) as usize;
        if ordinals.len() <= ordinal / 64 {
            ordinals.resize(ordinal / 64 + 1, 0);
        }
        ordinals[ordinal / 64] |= 1 << (ordinal % 64);
    }

    /// Throws `Invalid` for a birth of a run that `runs` does not know.
    pub fn encode(&self, runs: &Runs) -> Result<Vec<u8>> {
        let mut by_run: BTreeMap<RunName, Vec<(u64, u64)>> = BTreeMap::new();
        for (&stripe, words) in &self.stripes {
            let (name, _) = runs.stripe(stripe)?;
            let birth_runs = by_run.entry(name).or_default();
            let bits = words.iter().zip(0u64..).flat_map(|(word, at)| {
                (0..64u64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit)
            });
            for birth in bits.map(|ordinal| u64::from(number_of(stripe)) << 16 | ordinal) {
                match birth_runs.last_mut() {
                    Some((_, end)) if *end == birth => *end += 1,
                    _ => birth_runs.push((birth, birth + 1)),
                }
            }
        }
        let mut writer = Writer::default();
        writer.raw(b"IMRF").u16(1).u16(0);
        for (name, birth_runs) in by_run {
            writer.raw(&name.bytes()).varint(birth_runs.len() as u64);
            let mut written = 0;
            for (start, end) in birth_runs {
                writer.varint(start - written).varint(end - start);
                written = end;
            }
        }
        Ok(writer.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn births_become_ascending_runs_of_each_run_by_its_name() {
        let (mut runs, mut references) = (Runs::default(), References::default());
        let [later, first] = [2, 1].map(|seed| RunName { writer: [seed; 32], run: [9; 8] });
        assert_eq!((runs.number(&later).unwrap(), runs.number(&first).unwrap()), (1, 2));
        let (one, two) = (1 << 40, 2 << 40);
        for birth in [one | 7 << 16 | 2, one | 7 << 16, one | 3 << 16, one | 7 << 16 | 1, two | 5, one | 7 << 16] {
            references.add(birth);
        }
        let mut expected = Writer::default();
        expected.raw(b"IMRF").u16(1).u16(0).raw(&first.bytes()).varint(1).varint(5).varint(1);
        expected.raw(&later.bytes()).varint(2).varint(3 << 16).varint(1).varint((7 << 16) - (3 << 16) - 1).varint(3);
        assert_eq!(references.encode(&runs).unwrap(), expected.bytes);
        assert_eq!(References::default().encode(&runs).unwrap().len(), 8);
        references.add(3 << 40);
        assert!(references.encode(&runs).is_err(), "of no known run");
    }
}
