//! The master boot record and its chain of extended boot records, and what the first sector says about a GPT.
//!
//! ```text
//! sector 440 disk signature   446 four entries of 16 bytes   510 55 AA
//! entry    0 status (00 or 80)   4 type   8 first sector (u32)   12 sectors (u32)
//! ```
//! A table that makes no sense is no table: the bytes of a boot sector end in 55 AA as well.

use std::collections::HashSet;

use super::table::{Claims, Known, Partition, Table, TableKind};
use crate::base::bytes::le32;
use crate::base::error::Result;
use crate::base::limits;
use crate::disk::volume::{ReadAt, Volume};

/// Of the record itself. Its numbers count the disk's own sectors.
const SECTOR_BYTES: usize = 512;
const LARGE_SECTOR_BYTES: u64 = 4096;
const SIGNATURE_AT: usize = 440;
const ENTRIES_AT: usize = 446;
const ENTRY_BYTES: usize = 16;
const MAGIC: [u8; 2] = [0x55, 0xaa];
const TYPE_PROTECTIVE: u8 = 0xee;
const TYPES_EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
const FIRST_LOGICAL: u32 = 5;

pub(super) type Sector = [u8; SECTOR_BYTES];

#[derive(Clone, Copy, Debug)]
struct Entry {
    status: u8,
    kind: u8,
    first: u32,
    sectors: u32,
}

impl Entry {
    fn empty(&self) -> bool {
        self.kind == 0 || self.sectors == 0
    }

    fn extended(&self) -> bool {
        TYPES_EXTENDED.contains(&self.kind)
    }
}

/// What the first sector says about a GPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protective {
    /// Only protective entries.
    Yes,
    /// A protective entry beside others.
    Hybrid,
    /// Nothing is said; a good primary header may still be believed.
    No,
    /// An MBR table of its own, or a file system: a header further on is a leftover.
    Contradicted,
}

pub(super) fn first_sector(source: &dyn ReadAt) -> Result<Option<Sector>> {
    if source.length() < SECTOR_BYTES as u64 {
        return Ok(None);
    }
    let mut sector = [0; SECTOR_BYTES];
    source.read_at(0, &mut sector)?;
    Ok(Some(sector))
}

pub(super) fn protective(sector: &Sector) -> Protective {
    let Some(entries) = entries(sector).filter(|entries| entries.iter().any(|entry| !entry.empty())) else {
        return if file_system(sector) { Protective::Contradicted } else { Protective::No };
    };
    let guards = entries.iter().filter(|entry| entry.kind == TYPE_PROTECTIVE && !entry.empty()).count();
    let all = entries.iter().filter(|entry| !entry.empty()).count();
    match guards {
        0 => Protective::Contradicted,
        _ if guards == all => Protective::Yes,
        _ => Protective::Hybrid,
    }
}

/// What a hybrid MBR names that no partition of a GPT is: numbers of its entries.
pub(super) fn strangers(sector: &Sector, unit: u64, partitions: &[Partition]) -> Vec<u32> {
    let named = (1..).zip(entries(sector).into_iter().flatten());
    let own = named.filter(|(_, entry)| !entry.empty() && entry.kind != TYPE_PROTECTIVE);
    let stranger = |entry: &Entry| {
        let range = (u64::from(entry.first) * unit, u64::from(entry.sectors) * unit);
        !partitions.iter().any(|partition| (partition.start, partition.length) == range)
    };
    own.filter(|(_, entry)| stranger(entry)).map(|(index, _)| index).collect()
}

/// `None` when the first sector is no partition table.
pub fn read(source: &dyn ReadAt, known: Known) -> Result<Option<Table>> {
    let Some(sector) = first_sector(source)? else { return Ok(None) };
    let Some(entries) = entries(&sector) else { return Ok(None) };
    let unit = sector_bytes(source, &entries, known)?;
    let sectors = source.length() / unit;
    let makes_sense = |entry: &Entry| !entry.empty() && entry.first != 0 && u64::from(entry.first) < sectors;
    if !entries.iter().any(makes_sense) {
        return Ok(None);
    }
    // Text of a boot loader can look like an entry; beside a file system's name every entry has to be right.
    if file_system(&sector) && !entries.iter().all(|entry| entry.empty() || makes_sense(entry)) {
        return Ok(None);
    }
    let mut claims = Claims::new(source.length(), Vec::new());
    claims.reserve(0, unit);
    for (index, entry) in (1..).zip(&entries) {
        if entry.kind == TYPE_PROTECTIVE {
            claims.doubts.push(format!("partition {index} announces a GPT that is not usable, it was left out"));
        } else if !entry.empty() && !entry.extended() {
            claims.claim(partition(index, entry, u64::from(entry.first), unit));
        }
    }
    let mut index = FIRST_LOGICAL;
    for entry in entries.iter().filter(|entry| entry.extended() && makes_sense(entry)) {
        index = walk_extended(source, entry, index, unit, &mut claims)?;
    }
    let id = format!("{:08X}", le32(&sector, SIGNATURE_AT));
    let (partitions, doubts) = (claims.partitions, claims.doubts);
    Ok(Some(Table { kind: TableKind::Mbr, id, sector_bytes: unit as u32, partitions, doubts }))
}

/// Nothing in the table says how large the disk's sectors are, and an image may be that of a disk with large ones. They
/// are large where the whole table fits the disk so, and more of what it names is there than with small ones.
fn sector_bytes(source: &dyn ReadAt, entries: &[Entry; 4], known: Known) -> Result<u64> {
    let named = || entries.iter().filter(|entry| !entry.empty() && entry.kind != TYPE_PROTECTIVE);
    let sectors = source.length() / LARGE_SECTOR_BYTES;
    let small = SECTOR_BYTES as u64;
    if named().any(|entry| u64::from(entry.first) + u64::from(entry.sectors) > sectors) {
        return Ok(small);
    }
    let there = |unit: u64| -> Result<usize> {
        let mut count = 0;
        for entry in named() {
            let start = u64::from(entry.first) * unit;
            let length = (u64::from(entry.sectors) * unit).min(source.length().saturating_sub(start));
            count += usize::from(if length < small {
                false
            } else if entry.extended() {
                let mut sector = [0; SECTOR_BYTES];
                source.read_at(start, &mut sector)?;
                self::entries(&sector).is_some_and(|[logical, ..]| !logical.empty())
            } else {
                known(Volume { source, start, length })
            });
        }
        Ok(count)
    };
    Ok(if there(LARGE_SECTOR_BYTES)? > there(small)? { LARGE_SECTOR_BYTES } else { small })
}

/// Follows the chain of one container: the first entry of each record is a partition relative to that record, the
/// second leads to the next record relative to the container. Returns the next free index.
fn walk_extended(
    source: &dyn ReadAt,
    container: &Entry,
    first_index: u32,
    unit: u64,
    claims: &mut Claims,
) -> Result<u32> {
    let start = u64::from(container.first);
    let end = (start + u64::from(container.sectors)).min(source.length() / unit);
    let mut visited = HashSet::new();
    let mut index = first_index;
    let mut at = start;
    loop {
        if visited.len() >= limits::PARTITIONS || !visited.insert(at) {
            claims.doubts.push(format!("the chain of logical partitions does not end, it was left at sector {at}"));
            return Ok(index);
        }
        if at < start || at >= end {
            claims.doubts.push(format!("a chain of logical partitions leaves its container at sector {at}"));
            return Ok(index);
        }
        let mut sector = [0; SECTOR_BYTES];
        source.read_at(at * unit, &mut sector)?;
        let Some([logical, next, ..]) = entries(&sector) else {
            claims.doubts.push(format!("sector {at} holds no record of a logical partition"));
            return Ok(index);
        };
        claims.reserve(at * unit, unit);
        if !logical.empty() && !logical.extended() {
            claims.claim(partition(index, &logical, at + u64::from(logical.first), unit));
            index += 1;
        }
        if next.empty() || !next.extended() {
            return Ok(index);
        }
        at = start + u64::from(next.first);
    }
}

fn partition(index: u32, entry: &Entry, first: u64, unit: u64) -> Partition {
    let length = u64::from(entry.sectors) * unit;
    let kind = format!("0x{:02X}", entry.kind);
    Partition { index, start: first * unit, length, kind, name: String::new() }
}

/// The four entries, unless the sector is something else. A boot loader may have kept the BIOS parameter block of
/// an earlier file system, so that one only counts where the entries are not all plausible.
fn entries(sector: &Sector) -> Option<[Entry; 4]> {
    if sector[510..] != MAGIC {
        return None;
    }
    let entries: [Entry; 4] = std::array::from_fn(|number| {
        let raw = &sector[ENTRIES_AT + number * ENTRY_BYTES..][..ENTRY_BYTES];
        Entry { status: raw[0], kind: raw[4], first: le32(raw, 8), sectors: le32(raw, 12) }
    });
    let plausible = |entry: &Entry| matches!(entry.status, 0 | 0x80) && (entry.empty() || entry.first != 0);
    entries.iter().all(plausible).then_some(entries)
}

fn file_system(sector: &Sector) -> bool {
    let jump = matches!(sector[0], 0xeb | 0xe9);
    let named = sector[3..11] == *b"NTFS    " || sector[3..11] == *b"EXFAT   ";
    let fat = sector[54..57] == *b"FAT" || sector[82..85] == *b"FAT";
    sector[510..] == MAGIC && (named || (jump && fat))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_table(source: &dyn ReadAt) -> Result<Table> {
        crate::disk::read_table(source, &crate::fs::known)
    }

    fn put(bytes: &mut [u8], sector: usize, number: usize, kind: u8, first: u32, sectors: u32) {
        let at = sector * 512 + ENTRIES_AT + number * ENTRY_BYTES;
        bytes[at + 4] = kind;
        bytes[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
        bytes[sector * 512 + 510..sector * 512 + 512].copy_from_slice(&MAGIC);
    }

    fn shape(bytes: &Vec<u8>) -> (TableKind, Vec<(u32, u64, u64)>, usize) {
        let table = read_table(bytes).unwrap();
        let spans = table.partitions.iter().map(|p| (p.index, p.start / 512, p.length / 512)).collect();
        (table.kind, spans, table.doubts.len())
    }

    #[test]
    fn primary_and_logical_partitions_are_numbered() {
        let mut bytes = vec![0; 512 * 1000];
        put(&mut bytes, 0, 0, 0x83, 10, 90);
        put(&mut bytes, 0, 2, 0x05, 200, 600);
        put(&mut bytes, 200, 0, 0x83, 10, 90);
        put(&mut bytes, 200, 1, 0x05, 200, 100);
        put(&mut bytes, 400, 0, 0x07, 20, 80);
        let spans = vec![(1, 10, 90), (5, 210, 90), (6, 420, 80)];
        assert_eq!(shape(&bytes), (TableKind::Mbr, spans, 0));
    }

    /// Sector numbers count 4096 bytes; the records themselves lie at the start of such sectors.
    #[test]
    fn large_sectors_are_known_by_what_lies_there() {
        let mut bytes = vec![0; 4096 * 1000];
        put(&mut bytes, 0, 0, 0x82, 10, 90);
        put(&mut bytes, 0, 1, 0x05, 200, 600);
        put(&mut bytes, 8 * 200, 0, 0x83, 10, 90);
        put(&mut bytes, 8 * 200, 1, 0x05, 300, 100);
        put(&mut bytes, 8 * 500, 0, 0x07, 20, 80);
        let table = read_table(&bytes).unwrap();
        let spans: Vec<_> = table.partitions.iter().map(|p| (p.index, p.start / 4096, p.length / 4096)).collect();
        assert_eq!((table.sector_bytes, spans), (4096, vec![(1, 10, 90), (5, 210, 90), (6, 520, 80)]));
        // As much is there with small sectors: then they are small.
        bytes[512 * 10 + 4086..][..10].copy_from_slice(b"SWAPSPACE2");
        assert_eq!(read_table(&bytes).unwrap().sector_bytes, 512);
        bytes[4096 * 10 + 4086..][..10].copy_from_slice(b"SWAPSPACE2");
        assert_eq!(read_table(&bytes).unwrap().sector_bytes, 4096);
        // A table that does not fit the disk so.
        put(&mut bytes, 0, 2, 0x83, 900, 101);
        assert_eq!(read_table(&bytes).unwrap().sector_bytes, 512);
    }

    #[test]
    fn a_cyclic_chain_ends_with_a_doubt() {
        let mut bytes = vec![0; 512 * 1000];
        put(&mut bytes, 0, 0, 0x0f, 200, 600);
        put(&mut bytes, 200, 1, 0x05, 100, 100);
        put(&mut bytes, 300, 1, 0x05, 0, 100);
        assert_eq!(shape(&bytes), (TableKind::Mbr, vec![], 1));
        put(&mut bytes, 300, 1, 0x05, 700, 100);
        assert_eq!(shape(&bytes).2, 1, "leaves the container");
    }

    #[test]
    fn a_partition_over_a_record_of_the_chain_is_left_out() {
        let mut bytes = vec![0; 512 * 1000];
        put(&mut bytes, 0, 0, 0x05, 200, 600);
        put(&mut bytes, 200, 0, 0x83, 10, 390);
        put(&mut bytes, 200, 1, 0x05, 200, 100);
        put(&mut bytes, 400, 0, 0x83, 10, 20);
        let (_, spans, doubts) = shape(&bytes);
        assert_eq!((spans, doubts), (vec![(6, 410, 20)], 1));
    }

    #[test]
    fn boot_sectors_and_empty_tables_are_no_tables() {
        let mut ntfs = vec![0; 512 * 100];
        ntfs[..11].copy_from_slice(b"\xeb\x52\x90NTFS    ");
        ntfs[ENTRIES_AT..510].fill(0x41);
        ntfs[510..512].copy_from_slice(&MAGIC);
        let mut fat = vec![0; 512 * 100];
        fat[..3].copy_from_slice(&[0xeb, 0x3c, 0x90]);
        fat[54..62].copy_from_slice(b"FAT16   ");
        fat[510..512].copy_from_slice(&MAGIC);
        let mut nonsense = vec![0; 512 * 100];
        put(&mut nonsense, 0, 0, 0x83, 5000, 10);
        for bytes in [ntfs, fat, nonsense, vec![0; 100], vec![]] {
            let (kind, spans, _) = shape(&bytes);
            assert_eq!((kind, spans[0].0), (TableKind::None, 0));
        }
    }
}
