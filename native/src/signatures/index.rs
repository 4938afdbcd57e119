//! The signature repository's index: which rows there are for an id. Rows that the catalog has logged and that are in no
//! segment yet are held in memory; the others lie in segments. What counts as a segment, and when rows may leave the log,
//! the caller decides in its database: here nothing is durable but finished segments.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use crate::base::error::{Error, Result};
use crate::signatures::filter::Filter;
use crate::signatures::row::{Hit, ID_BYTES, Id, ROW_BYTES, Row};
use crate::signatures::segment::{self, Segment, Writer};

/// For how many rows in memory the filter before them is made, 1.5 MiB: twice `YOUNG_ROWS`. With more it lets more pass.
const FILTERED_ROWS: u64 = 1 << 20;

#[derive(Clone)]
struct Held {
    segment: Arc<Segment>,
    filter: Arc<Filter>,
}

/// Rows in memory. The filter answers for most ids that are not among them: looking costs a walk through far memory.
#[derive(Default)]
struct Young {
    rows: BTreeSet<Row>,
    filter: Filter,
}

impl Young {
    fn add(&mut self, row: &Row) {
        if self.filter.bytes().is_empty() {
            self.filter = Filter::for_rows(FILTERED_ROWS);
        }
        self.filter.add(&row[..ID_BYTES]);
        self.rows.insert(*row);
    }

    fn find<'a>(&'a self, id: &'a Id) -> impl Iterator<Item = &'a Row> {
        let mut from = [0; ROW_BYTES];
        from[..ID_BYTES].copy_from_slice(id);
        let likely = !self.rows.is_empty() && self.filter.may_hold(id);
        let rows = likely.then(|| self.rows.range(from..)).into_iter().flatten();
        rows.take_while(move |row| row[..ID_BYTES] == id[..])
    }
}

#[derive(Default)]
struct State {
    /// Rows that are logged in the catalog and in no segment.
    young: Young,
    /// Rows that `flush` writes into a segment, which are logged as well until then.
    frozen: Arc<Young>,
    segments: BTreeMap<u32, Held>,
    /// Segments that were written here and that no `use_segments` has named yet.
    finished: BTreeMap<u32, Held>,
}

pub struct Index {
    folder: PathBuf,
    filter_bytes: u64,
    state: RwLock<State>,
    lock: Mutex<Option<File>>,
    stopped: AtomicBool,
}

impl Index {
    /// Filters together take at most `filter_bytes` of memory.
    pub fn new(folder: &Path, filter_bytes: u64) -> Self {
        let (state, lock, stopped) = (RwLock::default(), Mutex::default(), AtomicBool::new(false));
        Self { folder: folder.to_owned(), filter_bytes, state, lock, stopped }
    }

    /// Adds rows to the young ones; returns how many there are then. Throws `Invalid` for a part of a row.
    pub fn add(&self, rows: &[u8]) -> Result<usize> {
        let (rows, rest) = rows.as_chunks::<ROW_BYTES>();
        if !rest.is_empty() {
            return Err(Error::invalid("rows of signatures", format!("{} bytes too many", rest.len())));
        }
        let mut state = self.write();
        rows.iter().for_each(|row| state.young.add(row));
        Ok(state.young.rows.len())
    }

    /// What is young now is what `flush` writes. `use_segments` lets go of it, `thaw` takes it back.
    pub fn freeze(&self) {
        let mut state = self.write();
        state.frozen = Arc::new(std::mem::take(&mut state.young));
    }

    pub fn thaw(&self) {
        let mut state = self.write();
        let frozen = std::mem::take(&mut state.frozen);
        frozen.rows.iter().for_each(|row| state.young.add(row));
    }

    /// Writes what is frozen as a segment, which is not in use yet. Rows written.
    pub fn flush(&self, number: u32) -> Result<u64> {
        let frozen = self.read().frozen.clone();
        let mut writer = Writer::create(&self.path(number), frozen.rows.len() as u64)?;
        for row in &frozen.rows {
            writer.push(row)?;
        }
        self.finish(number, writer.finish(&self.folder)?)
    }

    /// Writes the rows of those in use as one, which is not in use yet. Rows written.
    pub fn merge(&self, numbers: &[u32], into: u32) -> Result<u64> {
        let held: Vec<Held> = numbers.iter().filter_map(|number| self.read().segments.get(number).cloned()).collect();
        let segments: Vec<&Segment> = held.iter().map(|held| &*held.segment).collect();
        if segments.len() != numbers.len() {
            return Err(Error::invalid("a merge", format!("of {numbers:?}, which are not all in use")));
        }
        self.finish(into, segment::merge(&segments, &self.path(into), &self.folder, || self.go_on())?)
    }

    fn finish(&self, number: u32, rows: u64) -> Result<u64> {
        let held = self.open(number)?;
        self.write().finished.insert(number, held);
        Ok(rows)
    }

    /// Exactly these are asked from now on, and nothing that was frozen.
    pub fn use_segments(&self, numbers: &[u32]) -> Result<()> {
        let mut segments = BTreeMap::new();
        for number in numbers {
            let known = |state: &State| state.segments.get(number).or(state.finished.get(number)).cloned();
            let found = known(&self.read());
            segments.insert(*number, found.map_or_else(|| self.open(*number), Ok)?);
        }
        let rows = segments.values().map(|held| held.segment.rows()).sum::<u64>().max(1);
        for Held { segment, filter } in segments.values_mut() {
            let share = u128::from(self.filter_bytes) * u128::from(segment.rows()) / u128::from(rows);
            while filter.bytes().len() as u128 > share {
                *filter = Arc::new(filter.halved());
            }
        }
        let mut state = self.write();
        state.segments = segments;
        state.finished.clear();
        state.frozen = Arc::default();
        Ok(())
    }

    pub fn find(&self, ids: &[u8]) -> Result<Vec<Hit>> {
        let ids = ids.as_chunks::<ID_BYTES>().0;
        let mut sorted: Vec<(Id, u32)> = ids.iter().zip(0..).map(|(id, index)| (*id, index)).collect();
        sorted.sort_unstable();
        let mut found = Vec::new();
        let segments: Vec<Held> = {
            let state = self.read();
            for (id, index) in &sorted {
                for young in [&state.young, &*state.frozen] {
                    found.extend(young.find(id).map(|row| (*index, *row)));
                }
            }
            state.segments.values().cloned().collect()
        };
        for Held { segment, filter } in segments {
            let likely: Vec<(Id, u32)> = sorted.iter().filter(|(id, _)| filter.may_hold(id)).copied().collect();
            segment.find(&likely, &mut found)?;
        }
        Ok(found.iter().map(Hit::of).collect())
    }

    /// Has merges end soon, with an error.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// One process at a time makes and removes segments. False while another does.
    pub fn lock(&self) -> Result<bool> {
        let folder = File::open(&self.folder).map_err(|e| Error::io("open the folder of segments", e))?;
        match folder.try_lock() {
            Ok(()) => *self.held() = Some(folder),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(e)) => return Err(Error::io("lock the folder of segments", e)),
        }
        Ok(true)
    }

    pub fn unlock(&self) {
        *self.held() = None;
    }

    fn open(&self, number: u32) -> Result<Held> {
        let (segment, filter) = Segment::open(&self.path(number))?;
        Ok(Held { segment: Arc::new(segment), filter: Arc::new(filter) })
    }

    fn path(&self, number: u32) -> PathBuf {
        self.folder.join(format!("{number}.seg"))
    }

    fn go_on(&self) -> Result<()> {
        let stopped = self.stopped.load(Ordering::Relaxed);
        if stopped { Err(Error::invalid("a merge", "the catalog was closed")) } else { Ok(()) }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().expect("no holder of this lock panics")
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().expect("no holder of this lock panics")
    }

    fn held(&self) -> MutexGuard<'_, Option<File>> {
        self.lock.lock().expect("no holder of this lock panics")
    }
}

/// Writes rows that may stand in any order as a segment of its own, in `folder`. Rows written.
pub fn write_segment(folder: &Path, number: u32, rows: &[u8]) -> Result<u64> {
    let index = Index::new(folder, 0);
    index.add(rows)?;
    index.freeze();
    index.flush(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signatures::row::rows;

    /// 73 rows fill a page.
    const COUNT: u32 = 1_000;

    fn id(number: u32) -> Id {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    fn some(stripe: u64, numbers: impl Iterator<Item = u32>) -> Vec<u8> {
        let record = |number: u32| [&id(number)[..], &number.to_le_bytes(), &7u32.to_le_bytes()].concat();
        rows(stripe, &numbers.flat_map(record).collect::<Vec<u8>>(), None)
    }

    fn ids(numbers: std::ops::Range<u32>) -> Vec<u8> {
        numbers.flat_map(id).collect()
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("imager-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// Segments 1 to 3 hold a third each, all of them id 0 as well; the last id is young.
    fn filled(folder: &Folder) -> Index {
        let index = Index::new(&folder.0, 1 << 20);
        for number in 1..=3 {
            let numbers = (0..COUNT - 1).filter(|n| *n == 0 || n % 3 + 1 == number);
            index.add(&some(number.into(), numbers)).unwrap();
            index.freeze();
            index.flush(number).unwrap();
            index.use_segments(&(1..=number).collect::<Vec<_>>()).unwrap();
        }
        index.add(&some(4, COUNT - 1..COUNT)).unwrap();
        index
    }

    fn check(index: &Index) {
        let mut found = index.find(&ids(0..2 * COUNT)).unwrap();
        found.sort_by_key(|hit| (hit.index, hit.stripe));
        let zero: Vec<u64> = found.iter().filter(|hit| hit.index == 0).map(|hit| hit.stripe).collect();
        assert_eq!(zero, [1, 2, 3]);
        assert_eq!(found.len(), COUNT as usize + 2);
        for hit in found.iter().filter(|hit| hit.index > 0) {
            let stripe = if hit.index == COUNT - 1 { 4 } else { u64::from(hit.index % 3 + 1) };
            assert_eq!((hit.stripe, hit.birth >> 16), (stripe, stripe));
            assert_eq!((hit.offset, hit.length), (hit.index, 7));
        }
    }

    #[test]
    fn finds_the_same_in_memory_in_segments_and_in_merged_ones() {
        let folder = Folder::new("merge");
        let index = filled(&folder);
        check(&index);
        index.freeze();
        check(&index);
        index.thaw();
        check(&index);
        assert_eq!(index.merge(&[1, 2, 3], 4).unwrap(), u64::from(COUNT) + 1);
        check(&index);
        index.use_segments(&[4]).unwrap();
        check(&index);
        let cramped = Index::new(&folder.0, 100);
        cramped.use_segments(&[4]).unwrap();
        cramped.add(&some(4, COUNT - 1..COUNT)).unwrap();
        check(&cramped);
    }

    #[test]
    fn many_rows_of_one_id_and_of_one_prefix_are_all_found() {
        let folder = Folder::new("alike");
        let index = Index::new(&folder.0, 1 << 20);
        let mut near = id(1);
        near[31] ^= 1;
        for stripe in 1..=300u64 {
            let record = |id: &Id| [&id[..], &[0; 8]].concat();
            index.add(&rows(stripe, &[record(&id(1)), record(&near)].concat(), None)).unwrap();
        }
        index.add(&some(301, 2..500)).unwrap();
        index.freeze();
        index.flush(1).unwrap();
        index.use_segments(&[1]).unwrap();
        assert_eq!(index.find(&id(1)).unwrap().len(), 300);
        assert_eq!(index.find(&near).unwrap().len(), 300);
        assert_eq!(index.find(&ids(2..500)).unwrap().len(), 498);
    }

    #[test]
    fn every_damaged_byte_of_a_segment_is_noticed() {
        let folder = Folder::new("damage");
        let path = folder.0.join("1.seg");
        write_segment(&folder.0, 1, &some(1, 0..100)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let asks = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let index = Index::new(&folder.0, 1 << 20);
            index.use_segments(&[1])?;
            index.find(&ids(0..3))
        };
        assert_eq!(asks(&whole).unwrap().len(), 3);
        let footer = whole.len() - 64;
        for at in (0..footer).step_by(29).chain(footer..whole.len()) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            let error = asks(&bytes).expect_err("noticed");
            assert!(matches!(error, Error::Corrupt { .. }), "byte {at}: {error}");
        }
        for length in [0, 63, 64, 4096, whole.len() - 1] {
            assert!(matches!(asks(&whole[..length]), Err(Error::Corrupt { .. })), "{length} bytes");
        }
    }

    #[test]
    fn one_at_a_time_makes_segments_and_a_stopped_merge_ends() {
        let folder = Folder::new("lock");
        let index = filled(&folder);
        let other = Index::new(&folder.0, 0);
        assert!(index.lock().unwrap());
        assert!(!other.lock().unwrap());
        index.unlock();
        assert!(other.lock().unwrap());
        index.stop();
        assert!(index.merge(&[1, 2, 3], 4).is_err());
    }
}
