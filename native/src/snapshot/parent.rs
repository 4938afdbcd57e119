//! What the last snapshot of a disk held, kept by the appliance that took it (docs/formats/parent.md), so that the next
//! one need not read what did not change.
//!
//! ```text
//! magic "IMPS" | version u16 = 1 | features u16 = 0 | snapshot 16 | taken i64: when its tables were read, seconds since 1970
//! count u64, then 32 bytes a file: start of its volume u64 | number u64 | digest of its record 16; ascending
//! count u64, then 56 bytes an entry of the map: disk u64 | length u32 | offset in block u32 | birth u64 | key 32; ascending
//! runs of these births (names.rs), and the length of that table u32
//! BLAKE3 of all before, 32
//! ```
//! Block keys lie in it: it belongs into the state folder, mode 0600, and nowhere else.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::{Arc, Mutex};

use crate::base::bytes::{Cursor, Writer};
use crate::base::error::{Error, Result};
use crate::formats::names::{Renumbering, Runs};
use crate::formats::page::{MapEntry, Ref};
use crate::map::cut::Piece;

const MAGIC: &[u8; 4] = b"IMPS";
const HEADER_BYTES: usize = 32;
const FILE_BYTES: usize = 32;
const ENTRY_BYTES: usize = 56;
const HASH_BYTES: u64 = 32;
/// 2^20 runs.
const TABLE_CAP: u64 = 40 << 20;
/// Entries that are read in one go, and how many such pages stay in memory: 14 MiB.
const PAGE_ENTRIES: u64 = 4096;
const PAGES: usize = 64;

/// Start of its volume and number of a file; digest of its record.
pub type Digests = HashMap<(u64, u64), [u8; 16]>;

fn failed(error: std::io::Error) -> Error {
    Error::io("keeping what this snapshot held", error)
}

/// Written while the map of a snapshot is made; a file in the making is nobody's parent.
pub struct ParentWriter {
    out: BufWriter<File>,
    hasher: blake3::Hasher,
    path: String,
    entries: u64,
    count_at: u64,
    runs: Runs,
}

impl ParentWriter {
    /// `path` is replaced when it is finished, and not before.
    pub fn new(path: &str, snapshot: [u8; 16], taken: i64, files: &Digests) -> Result<Self> {
        let making = format!("{path}.new");
        let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&making);
        let out = BufWriter::new(options.map_err(failed)?);
        let count_at = (HEADER_BYTES + 8 + files.len() * FILE_BYTES) as u64;
        let mut writer =
            Self { out, hasher: blake3::Hasher::new(), path: path.into(), entries: 0, count_at, runs: Runs::default() };
        let mut head = Writer::default();
        head.raw(MAGIC).u16(1).u16(0).raw(&snapshot).u64(taken as u64).u64(files.len() as u64);
        writer.put(&head.bytes)?;
        let sorted: BTreeMap<_, _> = files.iter().collect();
        for ((start, number), digest) in sorted {
            let mut row = Writer::default();
            row.u64(*start).u64(*number).raw(digest);
            writer.put(&row.bytes)?;
        }
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes).map_err(failed)
    }

    /// The next entries of the map, ascending. `runs` has the names of their births.
    pub fn add(&mut self, entries: &[MapEntry], runs: &Runs) -> Result<()> {
        if self.entries == 0 {
            // Filled in at the end; the hash covers the zeros that stand here.
            self.put(&[0; 8])?;
        }
        let mut rows = Writer::default();
        let mut births = Renumbering::new(runs, &mut self.runs);
        for entry in entries {
            rows.u64(entry.disk).u32(entry.length).u32(entry.in_block);
            rows.u64(births.birth(entry.block.birth)?).raw(&entry.block.key);
        }
        self.entries += entries.len() as u64;
        self.put(&rows.bytes)
    }

    /// Makes it the parent of the next snapshot.
    pub fn finish(mut self) -> Result<()> {
        if self.entries == 0 {
            self.put(&[0; 8])?;
        }
        let mut table = Writer::default();
        self.runs.write(&mut table);
        let length = table.bytes.len() as u32;
        table.u32(length);
        self.put(&table.bytes)?;
        let hash = *self.hasher.finalize().as_bytes();
        self.out.write_all(&hash).map_err(failed)?;
        let file = self.out.into_inner().map_err(|error| failed(error.into_error()))?;
        file.write_all_at(&self.entries.to_le_bytes(), self.count_at).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(format!("{}.new", self.path), &self.path).map_err(failed)
    }
}

/// The last snapshot of a disk.
pub struct Parent {
    pub snapshot: [u8; 16],
    pub taken: i64,
    pub files: Digests,
    file: File,
    entries_at: u64,
    entries: u64,
    /// Of the births of its entries, and what they are called here.
    table: Runs,
    runs: Arc<Mutex<Runs>>,
    /// By page number; the oldest goes first.
    pages: BTreeMap<u64, Vec<MapEntry>>,
    order: std::collections::VecDeque<u64>,
}

impl Parent {
    /// `None` where there is none. `runs` learns the runs that it names. Throws `Corrupt` for one that is damaged.
    pub fn open(path: &str, runs: Arc<Mutex<Runs>>) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        let length = file.metadata().map_err(failed)?.len();
        let corrupt = |why: &str| Error::corrupt("the record of the last snapshot", 0, why);
        let mut reader = Hashing { inner: BufReader::with_capacity(1 << 20, &file), hasher: blake3::Hasher::new() };
        let head = reader.take(HEADER_BYTES + 8)?;
        let mut cursor = Cursor::new("the record of the last snapshot", &head);
        if cursor.bytes(4)? != MAGIC || (cursor.u16()?, cursor.u16()?) != (1, 0) {
            return Err(corrupt("it is none of this version"));
        }
        let (snapshot, taken, count) = (cursor.array()?, cursor.u64()? as i64, cursor.u64()?);
        let room = length.saturating_sub(head.len() as u64 + 8 + HASH_BYTES);
        if count > room / FILE_BYTES as u64 {
            return Err(corrupt("it is too short"));
        }
        let mut files = Digests::with_capacity(count as usize);
        for _ in 0..count {
            let row = reader.take(FILE_BYTES)?;
            let mut cursor = Cursor::new("the record of the last snapshot", &row);
            let key = (cursor.u64()?, cursor.u64()?);
            files.insert(key, cursor.array()?);
        }
        let mut entries = [0; 8];
        reader.inner.read_exact(&mut entries).map_err(failed)?;
        reader.hasher.update(&[0; 8]);
        let entries = u64::from_le_bytes(entries);
        let entries_at = head.len() as u64 + count * FILE_BYTES as u64 + 8;
        let end = entries.checked_mul(ENTRY_BYTES as u64).and_then(|bytes| bytes.checked_add(entries_at));
        let table_bytes = end.and_then(|end| length.checked_sub(end + HASH_BYTES + 4));
        let Some(table_bytes) = table_bytes.filter(|&bytes| bytes <= TABLE_CAP) else {
            return Err(corrupt("its length is wrong"));
        };
        for _ in 0..entries.div_ceil(PAGE_ENTRIES) {
            let at = reader.hasher.count() - entries_at;
            reader.take((entries * ENTRY_BYTES as u64 - at).min(PAGE_ENTRIES * ENTRY_BYTES as u64) as usize)?;
        }
        let table = reader.take(table_bytes as usize)?;
        if reader.take(4)? != (table_bytes as u32).to_le_bytes() {
            return Err(corrupt("its table of runs is of another length"));
        }
        let mut hash = [0; 32];
        reader.inner.read_exact(&mut hash).map_err(failed)?;
        if *reader.hasher.finalize().as_bytes() != hash {
            return Err(corrupt("it is not what was written"));
        }
        drop(reader);
        let table = Runs::read(&mut Cursor::new("the record of the last snapshot", &table))?;
        let (pages, order) = Default::default();
        Ok(Some(Self { snapshot, taken, files, file, entries_at, entries, table, runs, pages, order }))
    }

    /// The entries for the pieces of a block, if it held them all as one block that is stored, or as zeros.
    pub fn block(&mut self, pieces: &[Piece]) -> Result<Option<Vec<MapEntry>>> {
        let (mut found, mut in_block): (Vec<MapEntry>, u32) = (Vec::new(), 0);
        for piece in pieces {
            let (mut disk, mut left) = (piece.disk, piece.length);
            while left > 0 {
                let Some(entry) = self.covering(disk)? else { return Ok(None) };
                let skip = (disk - entry.disk) as u32;
                let length = left.min(entry.length - skip);
                let (stored, same) =
                    (entry.block.is_stored(), found.first().is_none_or(|first| first.block == entry.block));
                let in_order = if stored { entry.in_block + skip == in_block } else { entry.block == Ref::ZEROS };
                if !same || !in_order {
                    return Ok(None);
                }
                let at = if stored { in_block } else { 0 };
                found.push(MapEntry { disk, length, in_block: at, block: entry.block });
                (disk, left, in_block) = (disk + u64::from(length), left - length, in_block + length);
            }
        }
        Ok(Some(found))
    }

    fn covering(&mut self, disk: u64) -> Result<Option<MapEntry>> {
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low.midpoint(high);
            if self.entry(middle)?.disk <= disk { low = middle + 1 } else { high = middle }
        }
        let Some(index) = low.checked_sub(1) else { return Ok(None) };
        let entry = self.entry(index)?;
        Ok((disk < entry.disk + u64::from(entry.length)).then_some(entry))
    }

    fn entry(&mut self, index: u64) -> Result<MapEntry> {
        let page = index / PAGE_ENTRIES;
        if !self.pages.contains_key(&page) {
            let first = page * PAGE_ENTRIES;
            let count = PAGE_ENTRIES.min(self.entries - first) as usize;
            let mut bytes = vec![0; count * ENTRY_BYTES];
            self.file.read_exact_at(&mut bytes, self.entries_at + first * ENTRY_BYTES as u64).map_err(failed)?;
            let mut runs = self.runs.lock().expect("no holder of this lock panics");
            self.pages.insert(page, decode(&bytes, &mut Renumbering::new(&self.table, &mut runs))?);
            self.order.push_back(page);
            if self.order.len() > PAGES
                && let Some(oldest) = self.order.pop_front()
            {
                self.pages.remove(&oldest);
            }
        }
        Ok(self.pages[&page][(index % PAGE_ENTRIES) as usize])
    }
}

fn decode(bytes: &[u8], births: &mut Renumbering) -> Result<Vec<MapEntry>> {
    let mut cursor = Cursor::new("the record of the last snapshot", bytes);
    let mut entries = Vec::with_capacity(bytes.len() / ENTRY_BYTES);
    while cursor.remaining() > 0 {
        let (disk, length, in_block) = (cursor.u64()?, cursor.u32()?, cursor.u32()?);
        let birth = births.birth(cursor.u64()?)?;
        entries.push(MapEntry { disk, length, in_block, block: Ref { key: cursor.array()?, birth } });
    }
    Ok(entries)
}

struct Hashing<R> {
    inner: R,
    hasher: blake3::Hasher,
}

impl<R: Read> Hashing<R> {
    fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.inner.read_exact(&mut bytes).map_err(failed)?;
        self.hasher.update(&bytes);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::names::RunName;

    /// Two runs, as they are called while it is written.
    fn runs() -> Runs {
        let mut runs = Runs::default();
        for seed in [1, 2] {
            runs.number(&RunName { writer: [seed; 32], run: [seed; 8] }).unwrap();
        }
        runs
    }

    fn opened(path: &str) -> Result<Option<Parent>> {
        Parent::open(path, Arc::default())
    }

    fn entry(disk: u64, length: u32, in_block: u32, birth: u64) -> MapEntry {
        let birth = if birth > 2 { 2 << 40 | birth } else { birth };
        let key = [if birth > 1 { birth as u8 } else { 0 }; 32];
        MapEntry { disk, length, in_block, block: Ref { key, birth } }
    }

    fn written(name: &str, entries: &[MapEntry]) -> String {
        let path = std::env::temp_dir().join(format!("imager-parent-{name}-{}", std::process::id()));
        let path = path.to_str().unwrap().to_string();
        let files = Digests::from([((0, 12), [7; 16]), ((5, 3), [8; 16])]);
        let mut writer = ParentWriter::new(&path, [3; 16], -9, &files).unwrap();
        entries.chunks(2).for_each(|some| writer.add(some, &runs()).unwrap());
        assert!(std::fs::metadata(&path).is_err(), "not before it is finished");
        writer.finish().unwrap();
        path
    }

    #[test]
    fn a_block_is_found_where_all_of_its_pieces_were_one() {
        let many = (0..10_000u64).map(|at| entry((1 << 30) + at * 100, 100, 0, 100_000 + at));
        let first = [
            entry(0, 10, 0, 70_000),
            entry(20, 10, 10, 70_000),
            entry(30, 10, 20, 70_000),
            entry(50, 40, 0, 0),
            entry(90, 10, 0, 1),
        ];
        let path = written("found", &first.into_iter().chain(many).collect::<Vec<_>>());
        let mut parent = opened(&path).unwrap().unwrap();
        let first = parent.block(&[Piece { disk: 0, length: 10, unreadable: false }]).unwrap().unwrap()[0].block.birth;
        assert_eq!(first, 1 << 40 | 70_000, "the run by its number in this process");
        assert_eq!((parent.snapshot, parent.taken, parent.files.len()), ([3; 16], -9, 2));
        let piece = |disk, length| Piece { disk, length, unreadable: false };
        let mut block = |pieces: &[Piece]| {
            parent
                .block(pieces)
                .unwrap()
                .map(|found| found.iter().map(|e| (e.disk, e.length, e.in_block)).collect::<Vec<_>>())
        };
        assert_eq!(block(&[piece(0, 10), piece(20, 15)]), Some(vec![(0, 10, 0), (20, 10, 10), (30, 5, 20)]));
        assert_eq!(block(&[piece(55, 5), piece(70, 20)]), Some(vec![(55, 5, 0), (70, 20, 0)]));
        assert_eq!(block(&[piece((1 << 30) + 777_700, 100)]), Some(vec![((1 << 30) + 777_700, 100, 0)]));
        for pieces in [
            vec![piece(20, 10)],
            vec![piece(0, 10), piece(30, 10)],
            vec![piece(0, 11)],
            vec![piece(45, 10)],
            vec![piece(0, 10), piece(50, 5)],
            vec![piece(80, 20)],
            vec![piece(1 << 40, 1)],
        ] {
            assert_eq!(block(&pieces), None, "{pieces:?}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_damaged_record_is_none() {
        let path = written("damaged", &[entry(0, 10, 0, 70_000), entry(20, 10, 0, 0), entry(30, 1, 0, 70_001)]);
        let good = std::fs::read(&path).unwrap();
        assert!(opened(&path).unwrap().is_some());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            assert!(opened(&path).is_err(), "byte {at}");
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(opened(&path).is_err(), "cut at {at}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(opened(&path).unwrap().is_none());
    }
}
