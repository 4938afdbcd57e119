//! Sorts the entries of a map by disk offset in bounded memory: sorted runs go to an unlinked temporary file, and are
//! merged as they are read back, the newest of each byte (`newest`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::bytes::{Cursor, Writer};
use crate::base::error::{Error, Result};
use crate::base::ranges::ByteRange;
use crate::formats::page::{MapEntry, Ref};
use crate::snapshot::newest::{Newest, Row, Rows};

/// 2^19 entries are 34 MB here, and 32 GiB of disk at 64 KiB a block.
const IN_MEMORY: usize = 1 << 19;
const ROW_BYTES: usize = 58;
const READ_ROWS: usize = 4096;

pub struct Spill {
    folder: String,
    /// Entries held before they are written out.
    in_memory: usize,
    entries: Vec<Row>,
    /// The pass over the disk that is under way.
    pass: u16,
    file: Option<File>,
    written: u64,
    sorted_runs: Vec<SortedRun>,
    merge: Option<Merge>,
    newest: Newest,
    /// The rest of an entry that crosses the end of a window.
    carried: Option<MapEntry>,
}

/// A sorted run: a part of the temporary file, or of memory.
#[derive(Default)]
struct SortedRun {
    at: u64,
    end: u64,
    buffer: std::collections::VecDeque<Row>,
}

struct Merge(BinaryHeap<Reverse<(u64, usize)>>);

impl Spill {
    pub fn new(folder: &str) -> Self {
        Self::holding(IN_MEMORY, folder)
    }

    fn holding(in_memory: usize, folder: &str) -> Self {
        Self {
            folder: folder.into(),
            in_memory,
            entries: vec![],
            pass: 0,
            file: None,
            written: 0,
            sorted_runs: vec![],
            merge: None,
            newest: Newest::default(),
            carried: None,
        }
    }

    /// What is pushed from now on counts instead of what was pushed before of the same bytes.
    pub fn begin_pass(&mut self) {
        self.pass += 1;
    }

    /// Drops all but this set when it is read back, and requires all of it.
    pub fn hold_only(&mut self, ranges: Vec<ByteRange>) {
        self.newest.hold_only(ranges);
    }

    pub fn push(&mut self, entry: MapEntry) -> Result<()> {
        assert!(self.merge.is_none(), "entries are pushed before they are read back");
        self.entries.push(Row { pass: self.pass, entry });
        if self.entries.len() == self.in_memory { self.write_sorted_run() } else { Ok(()) }
    }

    fn write_sorted_run(&mut self) -> Result<()> {
        self.entries.sort_unstable_by_key(|row| row.entry.disk);
        let failed = |error| Error::io("writing the temporary map", error);
        if self.file.is_none() {
            self.file = Some(unlinked(&self.folder).map_err(failed)?);
        }
        let mut file = self.file.as_ref().expect("opened above");
        let mut writer = Writer::default();
        for Row { pass, entry } in &self.entries {
            writer
                .u16(*pass)
                .u64(entry.disk)
                .u32(entry.length)
                .u32(entry.in_block)
                .u64(entry.block.birth)
                .raw(&entry.block.key);
        }
        file.write_all(&writer.bytes).map_err(failed)?;
        let end = self.written + writer.bytes.len() as u64;
        self.sorted_runs.push(SortedRun { at: self.written, end, ..SortedRun::default() });
        self.written = end;
        self.entries.clear();
        Ok(())
    }

    fn start_merge(&mut self) -> Result<()> {
        self.entries.sort_unstable_by_key(|row| row.entry.disk);
        self.sorted_runs.push(SortedRun { buffer: std::mem::take(&mut self.entries).into(), ..SortedRun::default() });
        let mut heap = BinaryHeap::new();
        for index in 0..self.sorted_runs.len() {
            if let Some(disk) = self.refill(index)? {
                heap.push(Reverse((disk, index)));
            }
        }
        self.merge = Some(Merge(heap));
        Ok(())
    }

    /// Where the next entry of a sorted run lies on the disk.
    fn refill(&mut self, index: usize) -> Result<Option<u64>> {
        let run = &mut self.sorted_runs[index];
        if run.buffer.is_empty() && run.at < run.end {
            let mut bytes = vec![0; (READ_ROWS * ROW_BYTES).min((run.end - run.at) as usize)];
            let file = self.file.as_ref().expect("a sorted run on the disk has its file");
            file.read_exact_at(&mut bytes, run.at).map_err(|error| Error::io("reading the temporary map", error))?;
            run.at += bytes.len() as u64;
            let mut cursor = Cursor::new("temporary map", &bytes);
            while cursor.remaining() > 0 {
                let pass = cursor.u16()?;
                let (disk, length, in_block) = (cursor.u64()?, cursor.u32()?, cursor.u32()?);
                let birth = cursor.u64()?;
                let block = Ref { key: cursor.array()?, birth };
                run.buffer.push_back(Row { pass, entry: MapEntry { disk, length, in_block, block } });
            }
        }
        Ok(run.buffer.front().map(|row| row.entry.disk))
    }

    fn next(&mut self) -> Result<Option<MapEntry>> {
        if let Some(entry) = self.carried.take() {
            return Ok(Some(entry));
        }
        let mut newest = std::mem::take(&mut self.newest);
        let entry = newest.next(self);
        self.newest = newest;
        entry
    }

    /// The entries of the next window of `window` bytes that has any, cut at its end; neighbouring zeros joined.
    pub fn next_window(&mut self, window: u64) -> Result<Option<(u64, Vec<MapEntry>)>> {
        let Some(first) = self.next()? else { return Ok(None) };
        let base = first.disk / window * window;
        let end = base + window;
        let mut entries: Vec<MapEntry> = Vec::new();
        let mut next = Some(first);
        while let Some(mut entry) = next {
            if entry.disk >= end {
                self.carried = Some(entry);
                break;
            }
            let inside = (end - entry.disk).min(entry.length.into()) as u32;
            if inside < entry.length {
                let (disk, length, in_block) = (end, entry.length - inside, entry.in_block + inside);
                self.carried = Some(MapEntry { disk, length, in_block, ..entry });
                entry.length = inside;
            }
            match entries.last_mut() {
                Some(last)
                    if !last.block.is_stored()
                        && last.block == entry.block
                        && last.disk + u64::from(last.length) == entry.disk =>
                {
                    last.length += entry.length;
                }
                _ => entries.push(entry),
            }
            next = if self.carried.is_some() { None } else { self.next()? };
        }
        Ok(Some((base, entries)))
    }
}

impl Rows for Spill {
    fn peek(&mut self) -> Result<Option<u64>> {
        if self.merge.is_none() {
            self.start_merge()?;
        }
        Ok(self.merge.as_ref().and_then(|merge| merge.0.peek()).map(|Reverse((disk, _))| *disk))
    }

    fn take(&mut self) -> Result<Option<Row>> {
        self.peek()?;
        let Some(Reverse((_, index))) = self.merge.as_mut().and_then(|merge| merge.0.pop()) else { return Ok(None) };
        let row = self.sorted_runs[index].buffer.pop_front();
        if let Some(disk) = self.refill(index)? {
            self.merge.as_mut().expect("started above").0.push(Reverse((disk, index)));
        }
        Ok(row)
    }
}

pub fn unlinked(folder: &str) -> std::io::Result<File> {
    // It holds block keys. One of its own for each spill, also where a killed process left its name behind.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::path::Path::new(folder).join(format!("map-{}-{number}.tmp", std::process::id()));
        match File::options().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return std::fs::remove_file(&path).map(|()| file),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::xorshift::Random;

    #[test]
    fn entries_come_back_in_order_from_memory_and_from_disk() {
        let folder = std::env::temp_dir();
        for count in [10, 20_000] {
            let mut spill = Spill::holding(1000, folder.to_str().unwrap());
            for i in 0..count {
                let disk = (i * 7919 % count) * 4096;
                spill
                    .push(MapEntry { disk, length: 4096, in_block: 0, block: Ref { key: [1; 32], birth: 5 } })
                    .unwrap();
            }
            let (mut seen, mut end) = (0, 0);
            while let Some((base, entries)) = spill.next_window(1 << 23).unwrap() {
                for entry in entries {
                    assert!(entry.disk >= end && entry.disk >= base && entry.disk < base + (1 << 23));
                    end = entry.disk + u64::from(entry.length);
                    seen += 1;
                }
            }
            assert_eq!(seen, count);
        }
    }

    #[test]
    fn an_entry_across_windows_is_cut_and_zeros_are_joined() {
        let mut spill = Spill::new("/nowhere");
        let block = Ref { key: [1; 32], birth: 9 };
        let zero = Ref { key: [0; 32], birth: 0 };
        spill.push(MapEntry { disk: 60, length: 30, in_block: 4, block }).unwrap();
        spill.push(MapEntry { disk: 0, length: 10, in_block: 0, block: zero }).unwrap();
        spill.push(MapEntry { disk: 10, length: 20, in_block: 10, block: zero }).unwrap();
        let (_, first) = spill.next_window(64).unwrap().unwrap();
        assert_eq!(first.iter().map(|e| (e.disk, e.length, e.in_block)).collect::<Vec<_>>(), [(0, 30, 0), (60, 4, 4)]);
        let (base, second) = spill.next_window(64).unwrap().unwrap();
        assert_eq!((base, second[0].disk, second[0].length, second[0].in_block), (64, 64, 26, 8));
        assert!(spill.next_window(64).unwrap().is_none());
    }

    #[test]
    fn bytes_that_are_held_twice_are_refused() {
        let block = Ref { key: [1; 32], birth: 9 };
        for second in [59, 60, 80] {
            let mut spill = Spill::new("/nowhere");
            spill.push(MapEntry { disk: 50, length: 40, in_block: 0, block }).unwrap();
            spill.push(MapEntry { disk: second, length: 10, in_block: 0, block }).unwrap();
            let windows = std::iter::from_fn(|| spill.next_window(64).transpose());
            assert!(windows.take(3).any(|window| window.is_err()), "{second}");
        }
    }

    /// Random disjoint entries against a table of what each byte should be: its birth, and where in the block it lies.
    #[test]
    fn windows_say_of_every_byte_what_was_pushed() {
        let folder = std::env::temp_dir();
        for seed in 1..200u64 {
            let mut numbers = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut random = |below: u64| numbers.below(below);
            let window = 16 + random(100);
            let (mut entries, mut expected, mut at) = (vec![], std::collections::BTreeMap::new(), random(50));
            for _ in 0..random(150) {
                let (length, in_block, birth) =
                    (1 + random(60), random(1000), [0, 1, 70_000, 70_001][random(4) as usize]);
                let block = Ref { key: [if birth > 2 { birth as u8 } else { 0 }; 32], birth };
                entries.push(MapEntry { disk: at, length: length as u32, in_block: in_block as u32, block });
                expected.extend((0..length).map(|i| (at + i, (birth, if birth > 2 { in_block + i } else { 0 }))));
                at += length + [0, 0, 1, 300][random(4) as usize];
            }
            for i in (1..entries.len()).rev() {
                entries.swap(i, random(i as u64 + 1) as usize);
            }
            let mut spill = Spill::holding(16, folder.to_str().unwrap());
            entries.into_iter().for_each(|entry| spill.push(entry).unwrap());
            let (mut seen, mut end, mut before) = (std::collections::BTreeMap::new(), 0, None);
            while let Some((base, entries)) = spill.next_window(window).unwrap() {
                assert!(base % window == 0 && before < Some(base) && !entries.is_empty(), "seed {seed}");
                before = Some(base);
                for entry in entries {
                    assert!(entry.length > 0 && entry.disk >= base.max(end), "seed {seed}");
                    end = entry.disk + u64::from(entry.length);
                    assert!(end <= base + window, "seed {seed}");
                    let in_block = |i| if entry.block.is_stored() { u64::from(entry.in_block) + i } else { 0 };
                    let bytes =
                        (0..u64::from(entry.length)).map(|i| (entry.disk + i, (entry.block.birth, in_block(i))));
                    seen.extend(bytes);
                }
            }
            assert!(seen == expected, "seed {seed}");
        }
    }
}
