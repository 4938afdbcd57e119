//! Names that are never given twice (docs/formats/names.md). A stripe is (writer, run, number): its writer draws the run, 64
//! random bits, at the beginning of a snapshot, and counts from 0 in it. A record is born in one, under an ordinal.
//!
//! In memory a run is a number of `Runs`, so that a stripe and a birth are one `u64`: run << 24 | number, and that
//! << 16 | ordinal. What is stored or sent has a table of runs at its head and numbers by that, so translating from one
//! `Runs` to another is all there is to reading and writing births.

use std::collections::HashMap;

use crate::base::bytes::{Cursor, Writer};
use crate::base::error::{Error, Result};

pub const RUN_BYTES: usize = 40;
pub const NUMBER_BITS: u32 = 24;
const ORDINAL_BITS: u32 = 16;
/// Runs that one table can tell apart, and stripes of a run: 2^24 each, of the stripes 192 TiB.
const NUMBERS: u64 = 1 << NUMBER_BITS;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunName {
    /// Ed25519 key of the appliance.
    pub writer: [u8; 32],
    pub run: [u8; 8],
}

impl RunName {
    pub fn of(bytes: &[u8; RUN_BYTES]) -> Self {
        let (writer, run) = bytes.split_at(32);
        Self { writer: writer.try_into().expect("32 bytes"), run: run.try_into().expect("8 bytes") }
    }

    pub fn bytes(&self) -> [u8; RUN_BYTES] {
        let mut bytes = [0; RUN_BYTES];
        bytes[..32].copy_from_slice(&self.writer);
        bytes[32..].copy_from_slice(&self.run);
        bytes
    }

    fn hash(&self, context: &str, number: u32, rest: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&self.bytes()).update(&number.to_le_bytes()).update(rest);
        *hasher.finalize().as_bytes()
    }

    /// What a stripe's trailer is bound to.
    pub fn stripe_id(&self, number: u32) -> [u8; 32] {
        self.hash("imager v1 stripe name", number, &[])
    }

    /// The name of a shard's file.
    pub fn shard_id(&self, number: u32, index: u8) -> [u8; 16] {
        let hash = self.hash("imager v1 shard name", number, &[index]);
        hash[..16].try_into().expect("half of 32 bytes")
    }
}

/// The number of a stripe in its run.
pub fn number_of(stripe: u64) -> u32 {
    (stripe % NUMBERS) as u32
}

/// Births begin at 2^40, with the first record of run 1. Of what is below these have a meaning (page.rs).
const MARKS: u64 = 3;

/// Runs by their names and by the numbers that one process, page or message has for them, from 1.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Runs {
    names: Vec<RunName>,
    numbers: HashMap<RunName, u32>,
}

impl Runs {
    pub fn names(&self) -> &[RunName] {
        &self.names
    }

    pub fn find(&self, name: &RunName) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// Its number, a new one where it has none. Throws `Unsupported` at the 2^24th.
    pub fn number(&mut self, name: &RunName) -> Result<u32> {
        if let Some(known) = self.find(name) {
            return Ok(known);
        }
        let number = self.names.len() as u32 + 1;
        if u64::from(number) >= NUMBERS {
            return Err(Error::unsupported(format!("more than {} runs of snapshots at once", NUMBERS - 1)));
        }
        self.names.push(*name);
        self.numbers.insert(*name, number);
        Ok(number)
    }

    pub fn name(&self, number: u64) -> Option<&RunName> {
        self.names.get((number as usize).checked_sub(1)?)
    }

    /// The run of a stripe, and its number in that. Throws `Invalid` where the run has no name here.
    pub fn stripe(&self, stripe: u64) -> Result<(RunName, u32)> {
        let name = self.name(stripe >> NUMBER_BITS);
        let name = name.ok_or_else(|| Error::invalid("stripe", format!("{stripe:#x} is of no known run")))?;
        Ok((*name, number_of(stripe)))
    }

    /// What the key of a root page is bound to. Throws as `stripe`.
    pub fn birth_id(&self, birth: u64) -> Result<[u8; 32]> {
        let (run, number) = self.stripe(birth >> ORDINAL_BITS)?;
        Ok(run.hash("imager v1 birth", number, &(birth as u16).to_le_bytes()))
    }

    pub fn write(&self, writer: &mut Writer) {
        writer.varint(self.names.len() as u64);
        self.names.iter().for_each(|name| _ = writer.raw(&name.bytes()));
    }

    /// Throws `Corrupt` where a run is listed twice.
    pub fn read(cursor: &mut Cursor) -> Result<Self> {
        let count = cursor.count(RUN_BYTES)?;
        let mut table = Self::default();
        for row in 1..=count {
            let name = RunName::of(&cursor.array()?);
            if table.number(&name)? as usize != row {
                return Err(cursor.corrupt("a run that is listed twice"));
            }
        }
        Ok(table)
    }
}

/// From the numbers of one `Runs` to those of another, which learns the runs that it did not know.
pub struct Renumbering<'a> {
    from: &'a Runs,
    to: &'a mut Runs,
    /// The run of the last birth, and its number there: neighbours are mostly of one run.
    last: (u64, u64),
}

impl<'a> Renumbering<'a> {
    pub fn new(from: &'a Runs, to: &'a mut Runs) -> Self {
        Self { from, to, last: (0, 0) }
    }

    /// A mark stays as it is. Throws `Corrupt` for a run that is not in the table.
    pub fn birth(&mut self, birth: u64) -> Result<u64> {
        const RUN_SHIFT: u32 = NUMBER_BITS + ORDINAL_BITS;
        let run = birth >> RUN_SHIFT;
        if birth < MARKS {
            return Ok(birth);
        }
        if run != self.last.0 || run == 0 {
            let name = self.from.name(run);
            let name = name.ok_or_else(|| Error::corrupt("table of runs", run, "a birth of no run in it"))?;
            self.last = (run, self.to.number(name)?.into());
        }
        Ok(self.last.1 << RUN_SHIFT | birth & ((1 << RUN_SHIFT) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(seed: u8) -> RunName {
        RunName { writer: [seed; 32], run: [seed ^ 0xff; 8] }
    }

    #[test]
    fn births_keep_their_names_through_every_table() {
        let (mut here, mut table, mut there) = (Runs::default(), Runs::default(), Runs::default());
        for seed in 1..=3 {
            here.number(&name(seed)).unwrap();
        }
        there.number(&name(9)).unwrap();
        let births = [3 << 40 | 7 << 16 | 5, 0, 1 << 40, 2, 3 << 40 | 0xff_ffff << 16 | 0xffff];
        let mut writing = Renumbering::new(&here, &mut table);
        let written = births.map(|birth| writing.birth(birth).unwrap());
        assert_eq!(written, [1 << 40 | 7 << 16 | 5, 0, 2 << 40, 2, 1 << 40 | 0xff_ffff << 16 | 0xffff]);
        let mut writer = Writer::default();
        table.write(&mut writer);
        assert_eq!(writer.bytes.len(), 1 + 2 * RUN_BYTES);
        let read = Runs::read(&mut Cursor::new("test", &writer.bytes)).unwrap();
        let mut reading = Renumbering::new(&read, &mut there);
        let back = written.map(|birth| reading.birth(birth).unwrap());
        for (birth, other) in births.into_iter().zip(back).filter(|(birth, _)| birth >> 40 > 0) {
            assert_eq!(here.birth_id(birth).unwrap(), there.birth_id(other).unwrap());
            assert_eq!(here.stripe(birth >> 16).unwrap(), there.stripe(other >> 16).unwrap());
        }
        assert!(Renumbering::new(&read, &mut there).birth(3 << 40).is_err(), "a row that is not there");
        assert!(Renumbering::new(&read, &mut there).birth(3).is_err(), "neither birth nor mark");
        assert!(there.stripe(9 << 24).is_err());
    }

    #[test]
    fn a_table_names_a_run_once() {
        let mut writer = Writer::default();
        writer.varint(2).raw(&name(1).bytes()).raw(&name(1).bytes());
        assert!(Runs::read(&mut Cursor::new("test", &writer.bytes)).is_err());
        writer.bytes[0] = 3;
        assert!(Runs::read(&mut Cursor::new("test", &writer.bytes)).is_err(), "more than there is room for");
    }

    #[test]
    fn each_part_of_a_name_counts() {
        let ids = [name(1).stripe_id(0), name(1).stripe_id(1), name(2).stripe_id(0)];
        assert!(ids[0] != ids[1] && ids[0] != ids[2]);
        assert_ne!(name(1).shard_id(0, 0), name(1).shard_id(0, 1));
        assert_ne!(name(1).shard_id(0, 1), name(1).shard_id(1, 0));
    }
}
