//! The reference bitmap of a snapshot (docs/formats/references.md): every birth number it needs, in clear, so that the
//! coordinator finds what nobody needs without any key. Its hash is in the signed head.
//!
//! ```text
//! magic "IMRF" | version u16 = 1 | features u16 = 0
//! then, ascending: gap since the end of the last birth run | length of the birth run, LEB128
//! ```

use std::collections::BTreeMap;

use crate::base::bytes::Writer;

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

    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.raw(b"IMRF").u16(1).u16(0);
        let births = self.stripes.iter().flat_map(|(stripe, words)| {
            words.iter().enumerate().flat_map(move |(index, word)| {
                let bits = (0..64).filter(move |bit| word >> bit & 1 == 1);
                bits.map(move |bit| stripe << 16 | (index as u64 * 64 + bit))
            })
        });
        let (mut start, mut end, mut written) = (0, 0, 0);
        for birth in births {
            if birth != end && end > start {
                writer.varint(start - written).varint(end - start);
                written = end;
            }
            if birth != end {
                start = birth;
            }
            end = birth + 1;
        }
        if end > start {
            writer.varint(start - written).varint(end - start);
        }
        writer.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn births_become_ascending_runs() {
        let mut references = References::default();
        for birth in [7 << 16 | 2, 7 << 16, 3 << 16, 7 << 16 | 1, 7 << 16] {
            references.add(birth);
        }
        let mut expected = Writer::default();
        expected.raw(b"IMRF").u16(1).u16(0).varint(3 << 16).varint(1).varint((7 << 16) - (3 << 16) - 1).varint(3);
        assert_eq!(references.encode(), expected.bytes);
        assert_eq!(References::default().encode().len(), 8);
    }
}
