//! The file allocation table: the successor of each cluster. It is read once in large chunks, both copies side by
//! side, and kept as runs of clusters that follow each other, so that a table of 2^28 entries costs little where
//! the volume is not fragmented.

use super::bits::Bits;
use crate::base::bytes::{le16, le32};
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::disk::volume::Volume;
use crate::fs::shared::Doubts;

/// Whole entries of every width, and whole sectors of every size.
const CHUNK_BYTES: u64 = 3 << 18;
const SECTOR_BYTES: usize = 512;
const CLEAN_SHUTDOWN_16: u32 = 0x8000;
const CLEAN_SHUTDOWN_32: u32 = 0x0800_0000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Fat12,
    Fat16,
    Fat32,
    ExFat,
}

impl Width {
    /// Whole entries in so many bytes.
    pub fn entries(self, bytes: u64) -> u64 {
        match self {
            Self::Fat12 => bytes * 2 / 3,
            Self::Fat16 => bytes / 2,
            Self::Fat32 | Self::ExFat => bytes / 4,
        }
    }

    fn bytes(self, entries: u64) -> u64 {
        match self {
            Self::Fat12 => (entries * 3).div_ceil(2),
            Self::Fat16 => entries * 2,
            Self::Fat32 | Self::ExFat => entries * 4,
        }
    }

    fn entry(self, chunk: &[u8], index: usize) -> u32 {
        match self {
            Self::Fat12 => u32::from(le16(chunk, index * 3 / 2) >> (4 * (index % 2)) & 0xFFF),
            Self::Fat16 => u32::from(le16(chunk, index * 2)),
            Self::Fat32 => le32(chunk, index * 4) & 0x0FFF_FFFF,
            Self::ExFat => le32(chunk, index * 4),
        }
    }

    /// The value of a bad cluster; what is larger ends a chain.
    fn bad(self) -> u32 {
        match self {
            Self::Fat12 => 0xFF7,
            Self::Fat16 => 0xFFF7,
            Self::Fat32 => 0x0FFF_FFF7,
            Self::ExFat => 0xFFFF_FFF7,
        }
    }
}

/// Where the table lies, in bytes of the volume.
pub struct TableLayout {
    pub width: Width,
    pub at: u64,
    /// From one copy to the next.
    pub bytes: u64,
    pub copies: u64,
    pub clusters: u32,
}

/// Clusters that follow each other on the disk and in their chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterRun {
    pub first: u32,
    pub count: u32,
    /// What the last entry says: `END`, or a cluster that may not exist.
    pub next: u32,
}

/// The end of a chain; no cluster has this number.
pub const END: u32 = u32::MAX;

pub struct Table {
    /// Sorted by `first`, disjoint.
    pub runs: Vec<ClusterRun>,
    /// Entries that are not zero in any copy, without bad clusters.
    pub in_use: Bits,
    pub bad: u64,
    /// The bit of FAT[1] that says so is missing; never on FAT12 and exFAT.
    pub dirty: bool,
}

impl Table {
    /// The rest of the run from this cluster on. `None` for a free, bad or missing cluster.
    pub fn run_from(&self, cluster: u32) -> Option<ClusterRun> {
        let at = self.runs.partition_point(|run| run.first <= cluster).checked_sub(1)?;
        let ClusterRun { first, count, next } = self.runs[at];
        let skip = cluster - first;
        (skip < count).then(|| ClusterRun { first: cluster, count: count - skip, next })
    }
}

pub fn read(volume: Volume, layout: &TableLayout, doubts: &mut Doubts) -> Result<Table> {
    let width = layout.width;
    let in_use = Bits::new(u64::from(layout.clusters) + 2);
    let mut builder = Builder { runs: Vec::new(), open: None, width, clusters: layout.clusters };
    let mut table = Table { runs: Vec::new(), in_use, bad: 0, dirty: false };
    let entries = u64::from(layout.clusters) + 2;
    let (mut at, mut index, mut different) = (0, 0u64, 0u64);
    while index < entries {
        let take = (width.bytes(entries) - at).min(CHUNK_BYTES);
        let (chunk, other) = read_copies(volume, layout, at, take as usize, doubts);
        let count = width.entries(take).min(entries - index);
        if let Some(other) = &other {
            let pairs = chunk.chunks(SECTOR_BYTES).zip(other.chunks(SECTOR_BYTES));
            different += pairs.filter(|(one, two)| one != two).count() as u64;
        }
        for number in 0..count as usize {
            let value = width.entry(&chunk, number);
            let cluster = (index + number as u64) as u32;
            if cluster < 2 {
                table.dirty |= cluster == 1 && !clean(width, value);
                continue;
            }
            let doubtful = other.as_ref().is_some_and(|other| width.entry(other, number) != 0);
            if value == width.bad() {
                table.bad += 1;
            } else if value != 0 || doubtful {
                table.in_use.set(u64::from(cluster), 1);
            }
            builder.push(cluster, value)?;
        }
        index += count;
        at += take;
    }
    builder.close();
    table.runs = builder.runs;
    if different > 0 {
        let more = "the first one counts, what either of them uses is kept";
        doubts.push(format!("the two copies of the FAT differ in {different} sectors; {more}"));
    }
    Ok(table)
}

/// A part of the first copy, and of the second one where that is there and says something else. What no copy gives is
/// all ones: in use, and the end of a chain that nobody can follow.
fn read_copies(
    volume: Volume,
    layout: &TableLayout,
    at: u64,
    length: usize,
    doubts: &mut Doubts,
) -> (Vec<u8>, Option<Vec<u8>>) {
    let copy = |number: u64| volume.read_vec(layout.at + number * layout.bytes + at, length);
    let second = (layout.copies > 1).then(|| copy(1));
    match (copy(0), second) {
        (Ok(first), Some(Ok(second))) => {
            let same = first == second;
            (first, (!same).then_some(second))
        }
        (Ok(first), None) => (first, None),
        (Ok(first), Some(Err(error))) => {
            doubts.push(format!("{error}; the second copy of the FAT was not compared there"));
            (first, None)
        }
        (Err(error), Some(Ok(second))) => {
            doubts.push(format!("{error}; the second copy of the FAT was taken there"));
            (second, None)
        }
        (Err(error), _) => {
            doubts.push(format!("{error}; the clusters of that part of the FAT are kept, files may end too early"));
            // Not the mark of a chain's end: a file that is longer is found to be broken by its size.
            (vec![0xFF; length], None)
        }
    }
}

fn clean(width: Width, value: u32) -> bool {
    match width {
        Width::Fat12 | Width::ExFat => true,
        Width::Fat16 => value & CLEAN_SHUTDOWN_16 != 0,
        Width::Fat32 => value & CLEAN_SHUTDOWN_32 != 0,
    }
}

struct Builder {
    runs: Vec<ClusterRun>,
    /// First cluster and number of those that follow each other so far.
    open: Option<(u32, u32)>,
    width: Width,
    clusters: u32,
}

impl Builder {
    fn push(&mut self, cluster: u32, value: u32) -> Result<()> {
        if value == 0 || value == self.width.bad() {
            self.close();
        } else {
            let (first, count) = self.open.unwrap_or((cluster, 0));
            self.open = Some((first, count + 1));
            if value != cluster + 1 || value.wrapping_sub(2) >= self.clusters {
                let end = value > self.width.bad();
                self.end(if end { END } else { value });
            }
        }
        if self.runs.len() > limits::FAT_RUNS {
            return Err(Error::unsupported(format!("a FAT of more than {} fragments", limits::FAT_RUNS)));
        }
        Ok(())
    }

    fn end(&mut self, next: u32) {
        if let Some((first, count)) = self.open.take() {
            self.runs.push(ClusterRun { first, count, next });
        }
    }

    /// The run leads to a cluster that is free, bad or missing.
    fn close(&mut self) {
        if let Some((first, count)) = self.open {
            self.end(first + count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(width: Width, values: &[u32], second: &[u32]) -> (Table, Vec<String>) {
        let mut disk = vec![0u8; 4096];
        for (copy, values) in [values, second].into_iter().enumerate() {
            for (index, &value) in values.iter().enumerate() {
                let at = copy * 1024;
                match width {
                    Width::Fat12 => {
                        let at = at + index * 3 / 2;
                        let shifted = (value as u16) << (4 * (index % 2));
                        let both = le16(&disk, at) | shifted;
                        disk[at..at + 2].copy_from_slice(&both.to_le_bytes());
                    }
                    Width::Fat16 => disk[at + index * 2..][..2].copy_from_slice(&(value as u16).to_le_bytes()),
                    _ => disk[at + index * 4..][..4].copy_from_slice(&value.to_le_bytes()),
                }
            }
        }
        let clusters = values.len() as u32 - 2;
        let copies = 1 + u64::from(!second.is_empty());
        let mut doubts = Doubts::default();
        let layout = TableLayout { width, at: 0, bytes: 1024, copies, clusters };
        let table = read(Volume::whole(&disk), &layout, &mut doubts).unwrap();
        (table, doubts.into_sentences())
    }

    fn runs(table: &Table) -> Vec<(u32, u32, u32)> {
        table.runs.iter().map(|run| (run.first, run.count, run.next)).collect()
    }

    #[test]
    fn chains_become_runs_in_every_width() {
        for width in [Width::Fat12, Width::Fat16, Width::Fat32, Width::ExFat] {
            let bad = width.bad();
            // 2 > 3 > 6 > 7; 4 is bad, 5 is free, 8 leads to the free 9, 10 to nowhere.
            let values = [bad + 1, bad + 8, 3, 6, bad, 0, 7, bad + 8, 9, 0, 11];
            let (table, doubts) = table(width, &values, &[]);
            assert_eq!(runs(&table), [(2, 2, 6), (6, 2, END), (8, 1, 9), (10, 1, 11)], "{width:?}");
            assert_eq!(table.run_from(3), Some(ClusterRun { first: 3, count: 1, next: 6 }));
            assert_eq!((table.run_from(5), table.run_from(9), table.run_from(11)), (None, None, None));
            assert_eq!((table.bad, table.dirty, doubts.len()), (1, false, 0));
            let ranges: Vec<_> = table.in_use.ranges().collect();
            assert_eq!(ranges, [(2, 4), (6, 9), (10, 11)]);
        }
    }

    #[test]
    fn copies_that_differ_are_a_doubt_and_both_are_kept() {
        let end = 0x0FFF_FFFF;
        let (table, doubts) = table(Width::Fat32, &[end, end, end, 0, 0], &[end, end, end, 0, end]);
        assert_eq!((runs(&table), doubts.len()), (vec![(2, 1, END)], 1));
        assert_eq!(table.in_use.ranges().collect::<Vec<_>>(), [(2, 3), (4, 5)]);
    }

    #[test]
    fn a_missing_bit_is_dirty() {
        assert!(table(Width::Fat16, &[0xFFF8, 0x7FFF, 0], &[]).0.dirty);
        assert!(table(Width::Fat32, &[0x0FFF_FFF8, 0x07FF_FFFF, 0], &[]).0.dirty);
        assert!(!table(Width::Fat12, &[0xFF0, 0x7FF, 0], &[]).0.dirty);
    }
}
