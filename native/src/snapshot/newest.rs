//! What was read more than once is held as it was read last, and what is no longer in use is not held.
//!
//! Invariant: what comes out is disjoint and in order; with ranges to hold, it covers exactly them, or is an error.

use std::collections::VecDeque;

use crate::base::error::{Error, Result};
use crate::base::ranges::ByteRange;
use crate::formats::page::MapEntry;

/// An entry of the map, and in which pass over the disk it was read.
#[derive(Clone)]
pub struct Row {
    pub pass: u16,
    pub entry: MapEntry,
}

impl Row {
    fn end(&self) -> u64 {
        self.entry.disk + u64::from(self.entry.length)
    }
}

/// Rows by disk offset.
pub trait Rows {
    /// Where the next one lies.
    fn peek(&mut self) -> Result<Option<u64>>;
    fn take(&mut self) -> Result<Option<Row>>;
}

#[derive(Default)]
pub struct Newest {
    /// Rows of which a part is to come.
    open: Vec<Row>,
    ready: VecDeque<MapEntry>,
    /// What is left of the ranges that are to be held.
    held: Option<VecDeque<ByteRange>>,
}

impl Newest {
    /// Drops all but this set, and requires all of it.
    pub fn hold_only(&mut self, ranges: Vec<ByteRange>) {
        self.held = Some(ranges.into());
    }

    pub fn next(&mut self, rows: &mut impl Rows) -> Result<Option<MapEntry>> {
        while self.ready.is_empty() {
            let Some(entry) = self.uncover(rows)? else {
                let missing = self.held.as_mut().and_then(VecDeque::pop_front);
                return missing.map_or(Ok(None), |range| Err(never_read(range.start)));
            };
            self.clip(entry)?;
        }
        Ok(self.ready.pop_front())
    }

    /// The next bytes that one row alone decides.
    fn uncover(&mut self, rows: &mut impl Rows) -> Result<Option<MapEntry>> {
        if self.open.is_empty() && !self.open_next(rows)? {
            return Ok(None);
        }
        let at = self.open.iter().map(|row| row.entry.disk).min().expect("one is open");
        let reach = |open: &[Row]| open.iter().filter(|row| row.entry.disk == at).map(Row::end).max().unwrap_or(at);
        while rows.peek()?.is_some_and(|next| next < reach(&self.open)) {
            self.open_next(rows)?;
        }
        let here = self.open.iter().filter(|row| row.entry.disk == at);
        let newest = here.max_by_key(|row| row.pass).expect("one begins there").clone();
        let newer = self.open.iter().filter(|row| row.pass > newest.pass).map(|row| row.entry.disk);
        let end = newer.fold(newest.end(), u64::min);
        for row in &mut self.open {
            let gone = end.saturating_sub(row.entry.disk).min(row.entry.length.into()) as u32;
            row.entry = behind(row.entry, gone);
        }
        self.open.retain(|row| row.entry.length > 0);
        Ok(Some(MapEntry { length: (end - at) as u32, ..newest.entry }))
    }

    fn open_next(&mut self, rows: &mut impl Rows) -> Result<bool> {
        let Some(row) = rows.take()? else { return Ok(false) };
        if self.open.iter().any(|open| open.pass == row.pass && open.end() > row.entry.disk) {
            // A page of these would not decode: better no snapshot than one that cannot be restored.
            return Err(Error::corrupt("map", row.entry.disk, "these bytes are held twice"));
        }
        self.open.push(row);
        Ok(true)
    }

    fn clip(&mut self, mut entry: MapEntry) -> Result<()> {
        let Some(held) = &mut self.held else {
            self.ready.push_back(entry);
            return Ok(());
        };
        while let Some(range) = held.front_mut() {
            let end = entry.disk + u64::from(entry.length);
            if range.start < entry.disk {
                return Err(never_read(range.start));
            }
            if range.start >= end {
                break;
            }
            entry = behind(entry, (range.start - entry.disk) as u32);
            let length = range.length.min(entry.length.into()) as u32;
            self.ready.push_back(MapEntry { length, ..entry });
            entry = behind(entry, length);
            *range = ByteRange { start: range.start + u64::from(length), length: range.length - u64::from(length) };
            if range.length == 0 {
                held.pop_front();
            }
            if entry.length == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// An entry without its first bytes.
fn behind(entry: MapEntry, bytes: u32) -> MapEntry {
    let in_block = if entry.block.is_stored() { entry.in_block + bytes } else { 0 };
    MapEntry { disk: entry.disk + u64::from(bytes), length: entry.length - bytes, in_block, ..entry }
}

fn never_read(at: u64) -> Error {
    Error::corrupt("map", at, "these bytes are in use, but were never read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::xorshift::Random;
    use crate::formats::page::Ref;

    impl Rows for VecDeque<Row> {
        fn peek(&mut self) -> Result<Option<u64>> {
            Ok(self.front().map(|row| row.entry.disk))
        }

        fn take(&mut self) -> Result<Option<Row>> {
            Ok(self.pop_front())
        }
    }

    fn row(pass: u16, disk: u64, length: u32, birth: u64) -> Row {
        Row { pass, entry: MapEntry { disk, length, in_block: 0, block: Ref { key: [1; 32], birth } } }
    }

    fn all(rows: Vec<Row>, held: Option<Vec<ByteRange>>) -> Result<Vec<MapEntry>> {
        let mut newest = Newest::default();
        if let Some(held) = held {
            newest.hold_only(held);
        }
        let mut rows = VecDeque::from(rows);
        std::iter::from_fn(|| newest.next(&mut rows).transpose()).collect()
    }

    #[test]
    fn a_byte_in_use_that_was_never_read_is_an_error() {
        let range = |start, length| ByteRange { start, length };
        for held in [vec![range(0, 20)], vec![range(9, 2)], vec![range(40, 5)], vec![range(25, 20)]] {
            assert!(all(vec![row(0, 10, 10, 7), row(0, 20, 10, 8)], Some(held)).is_err());
        }
    }

    /// Random passes over random parts of a small disk, against a table of what was read there last.
    #[test]
    fn every_byte_is_as_it_was_read_last_and_nothing_else_is_held() {
        for seed in 1..2000u64 {
            let mut numbers = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut random = |below: u64| numbers.below(below);
            let mut last: Vec<Option<(u64, u64)>> = vec![None; 400];
            let mut rows = vec![];
            for pass in 0..1 + random(4) {
                let mut at = random(30);
                while at < 400 {
                    let length = (1 + random(40)).min(400 - at);
                    let birth = 3 + rows.len() as u64;
                    rows.push(row(pass as u16, at, length as u32, birth));
                    (0..length).for_each(|i| last[(at + i) as usize] = Some((birth, i)));
                    at += length + [0, 0, 5, 60][random(4) as usize];
                }
            }
            rows.sort_by_key(|row| row.entry.disk);
            let held = (random(2) == 0).then(|| {
                let kept = |at: &u64| last[*at as usize].is_some() && (at / 16) % 3 != seed % 3;
                crate::base::ranges::coalesce(
                    (0..400).filter(kept).map(|start| ByteRange { start, length: 1 }).collect(),
                )
            });
            let expected: Vec<Option<(u64, u64)>> = match &held {
                None => last,
                Some(held) => {
                    let inside = |at: u64| crate::base::ranges::meets(held, ByteRange { start: at, length: 1 });
                    last.into_iter().zip(0..).map(|(byte, at)| byte.filter(|_| inside(at))).collect()
                }
            };
            let (mut seen, mut end) = (vec![None; 400], 0);
            for entry in all(rows, held).unwrap() {
                assert!(entry.disk >= end && entry.length > 0, "seed {seed}");
                end = entry.disk + u64::from(entry.length);
                for i in 0..u64::from(entry.length) {
                    seen[(entry.disk + i) as usize] = Some((entry.block.birth, u64::from(entry.in_block) + i));
                }
            }
            assert!(seen == expected, "seed {seed}");
        }
    }
}
