//! Inputs from a seed, and changes of inputs edit by edit, so that the fuzzer need not find out where an edit begins.

use super::edit::EDIT_BYTES;

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Image number `image` with one to six edits.
    pub fn input(&mut self, image: u8) -> Vec<u8> {
        let count = 1 + self.below(6);
        let edits = (0..count).flat_map(|_| self.edit()).collect::<Vec<_>>();
        [&[image][..], &edits].concat()
    }

    fn edit(&mut self) -> [u8; EDIT_BYTES] {
        let mut edit = [0; EDIT_BYTES];
        edit[..6].copy_from_slice(&self.next().to_le_bytes()[..6]);
        // Heads of structures hold more than their tails; few checksums are left wrong.
        if self.below(2) == 0 {
            edit[3..5].copy_from_slice(&(self.below(128) as u16).to_le_bytes());
        }
        if self.below(16) > 0 {
            edit[5] &= 0x7f;
        }
        let value = match self.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => self.next() % 1024,
            3 => (self.next() % 1024).swap_bytes(),
            4 => (u64::from(self.next() as u32 % 1024)).swap_bytes() >> 32,
            _ => self.next(),
        };
        edit[6..].copy_from_slice(&value.to_le_bytes());
        edit
    }

    /// One change: an edit more or less, another in its place, the same one elsewhere, another value of one of its parts.
    pub fn change(&mut self, input: &mut Vec<u8>, most: usize) {
        let edits = input.len().saturating_sub(1) / EDIT_BYTES;
        input.resize(1 + edits * EDIT_BYTES, 0);
        if edits == 0 || (self.below(4) == 0 && input.len() + EDIT_BYTES <= most) {
            let edit = self.edit();
            input.extend(edit);
            input.truncate(most);
            return;
        }
        let at = 1 + self.below(edits) * EDIT_BYTES;
        let fresh = self.edit();
        match self.below(8) {
            0 => drop(input.drain(at..at + EDIT_BYTES)),
            1 => input[at..at + EDIT_BYTES].copy_from_slice(&fresh),
            2 => input[at..at + 3].copy_from_slice(&fresh[..3]),
            3 => input[at + 3..at + 5].copy_from_slice(&fresh[3..5]),
            4 => input[at + 3] = input[at + 3].wrapping_add(fresh[3] % 16),
            5 => input[at + 5] = fresh[5],
            6 => input[at + 6..at + EDIT_BYTES].copy_from_slice(&fresh[6..]),
            _ => input[0] = fresh[0],
        }
    }
}
