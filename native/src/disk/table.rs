//! What a partition table says, whichever kind it is.

use crate::disk::volume::{ReadAt, Volume};

/// Whether something that has a name here begins at the start of a volume: for those who read tables, who know no file system.
pub type Known<'a> = &'a dyn Fn(Volume) -> bool;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    Gpt,
    Mbr,
    /// No table: the whole source is one volume, partition 0 (also where a FAT or NTFS boot sector ends in 55AA).
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// GPT entry number from 1 (gaps stay); MBR 1 to 4, logical ones from 5; 0 for a source without a table.
    pub index: u32,
    /// Absolute bytes; inside the source, never overlapping another partition that is kept.
    pub start: u64,
    pub length: u64,
    /// GPT: the type GUID in its usual text form, upper case; MBR: "0x83".
    pub kind: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub kind: TableKind,
    /// The disk's GUID or MBR signature in text, empty without a table.
    pub id: String,
    pub sector_bytes: u32,
    /// Sorted by index.
    pub partitions: Vec<Partition>,
    /// Sentences on what was wrong and how it was read all the same (a bad primary header, an overlap left out).
    pub doubts: Vec<String>,
}

/// The whole source as one volume.
pub fn without_table(source: &dyn ReadAt, doubts: Vec<String>) -> Table {
    let whole = Partition { index: 0, start: 0, length: source.length(), kind: String::new(), name: String::new() };
    Table { kind: TableKind::None, id: String::new(), sector_bytes: 512, partitions: vec![whole], doubts }
}

/// Collects partitions that lie inside the disk and do not overlap each other or the tables themselves.
pub(super) struct Claims {
    disk_bytes: u64,
    reserved: Vec<(u64, u64)>,
    pub partitions: Vec<Partition>,
    pub doubts: Vec<String>,
}

impl Claims {
    pub fn new(disk_bytes: u64, doubts: Vec<String>) -> Self {
        Self { disk_bytes, reserved: Vec::new(), partitions: Vec::new(), doubts }
    }

    /// Bytes of a table. What was claimed over them before is given up.
    pub fn reserve(&mut self, start: u64, length: u64) {
        let end = start.saturating_add(length);
        self.reserved.push((start, end));
        let doubts = &mut self.doubts;
        self.partitions.retain(|partition| {
            let apart = partition.start >= end || partition.start + partition.length <= start;
            if !apart {
                doubts.push(format!("partition {} overlaps the partition table, it was left out", partition.index));
            }
            apart
        });
    }

    pub fn claim(&mut self, mut partition: Partition) {
        let index = partition.index;
        if partition.start >= self.disk_bytes {
            self.doubts.push(format!("partition {index} lies outside the disk, it was left out"));
            return;
        }
        if partition.length > self.disk_bytes - partition.start {
            partition.length = self.disk_bytes - partition.start;
            self.doubts.push(format!("partition {index} passes the end of the disk, it was cut there"));
        }
        let (start, end) = (partition.start, partition.start + partition.length);
        let kept = self.partitions.iter().map(|other| (other.start, other.start + other.length));
        match self.reserved.iter().copied().chain(kept).find(|&(from, to)| start < to && from < end) {
            Some(_) => self.doubts.push(format!("partition {index} overlaps what came before it, it was left out")),
            None => self.partitions.push(partition),
        }
    }
}
