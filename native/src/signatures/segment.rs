//! A segment of the signature repository (docs/formats/segment.md): rows sorted by id, written once and never changed.
//! Pages carry checksums; what finds a page without reading it (fences, filter) stands behind them and is held in memory.
//!
//! ```text
//! pages   4096 bytes each: 73 rows | rows in use u32 | CRC32C u32; all full but the last
//! fences  for each page the first 8 bytes of its first id, as u64
//! filter  blocks of 64 bytes, see filter.rs
//! footer  magic "IMSG" | version u16 = 1 | features u16 = 0 | rows u64 | filter blocks u64 | CRC32C of fences and filter
//!         u32 | zero 32 bytes | CRC32C of the footer u32
//! row     id 32 | birth u64 | stripe u64 | offset u32 | length u32, big-endian, so that rows sort as bytes
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::base::bytes::Cursor;
use crate::base::error::{Error, Result};
use crate::signatures::filter::Filter;
use crate::signatures::row::{ID_BYTES, Id, ROW_BYTES, Row, prefix};

const PAGE_BYTES: usize = 4096;
const PAGE_ROWS: usize = 73;
const PAGE_USED: usize = PAGE_ROWS * ROW_BYTES;
const FOOTER_BYTES: usize = 64;
/// Pages that a merge reads at once from each segment, and that a writer writes at once.
const READ_PAGES: usize = 256;
const WHAT: &str = "a segment of signatures";

pub struct Writer {
    file: File,
    buffer: Vec<u8>,
    /// Rows in the page that is being filled.
    used: usize,
    last: Option<Row>,
    rows: u64,
    fences: Vec<u8>,
    filter: Filter,
}

impl Writer {
    /// Replaces what lies there. `rows` = at most so many.
    pub fn create(path: &Path, rows: u64) -> Result<Self> {
        let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let file = opened.map_err(|e| Error::io(format!("create {}", path.display()), e))?;
        let buffer = Vec::with_capacity(READ_PAGES * PAGE_BYTES);
        Ok(Self { file, buffer, used: 0, last: None, rows: 0, fences: Vec::new(), filter: Filter::for_rows(rows) })
    }

    /// Rows ascend; one that is there already is passed over.
    pub fn push(&mut self, row: &Row) -> Result<()> {
        if self.last.as_ref() == Some(row) {
            return Ok(());
        }
        if self.used == 0 {
            self.fences.extend(prefix(row).to_le_bytes());
        }
        self.buffer.extend(row);
        self.filter.add(row);
        self.last = Some(*row);
        self.used += 1;
        self.rows += 1;
        if self.used == PAGE_ROWS { self.end_page() } else { Ok(()) }
    }

    fn end_page(&mut self) -> Result<()> {
        self.buffer.resize(self.buffer.len() + (PAGE_ROWS - self.used) * ROW_BYTES, 0);
        self.buffer.extend((self.used as u32).to_le_bytes());
        let page = self.buffer.len() - PAGE_USED - 4;
        let sum = crc32c::crc32c(&self.buffer[page..]);
        self.buffer.extend(sum.to_le_bytes());
        self.used = 0;
        if self.buffer.len() >= READ_PAGES * PAGE_BYTES { self.write_out() } else { Ok(()) }
    }

    fn write_out(&mut self) -> Result<()> {
        self.file.write_all(&self.buffer).map_err(|e| Error::io("write a segment", e))?;
        self.buffer.clear();
        Ok(())
    }

    /// Synced when it returns, its name too. Rows written.
    pub fn finish(mut self, folder: &Path) -> Result<u64> {
        if self.used > 0 {
            self.end_page()?;
        }
        let sum = crc32c::crc32c_append(crc32c::crc32c(&self.fences), self.filter.bytes());
        let mut footer = Vec::with_capacity(FOOTER_BYTES);
        footer.extend(b"IMSG\x01\0\0\0");
        footer.extend(self.rows.to_le_bytes());
        footer.extend(self.filter.blocks().to_le_bytes());
        footer.extend(sum.to_le_bytes());
        footer.resize(FOOTER_BYTES - 4, 0);
        footer.extend(crc32c::crc32c(&footer).to_le_bytes());
        self.write_out()?;
        let tail = [&self.fences[..], self.filter.bytes(), &footer];
        let synced = tail.iter().try_for_each(|part| self.file.write_all(part)).and_then(|()| self.file.sync_all());
        synced.and_then(|()| File::open(folder)?.sync_all()).map_err(|e| Error::io("write a segment", e))?;
        Ok(self.rows)
    }
}

/// An open segment. Reading is by position, so that threads share it.
pub struct Segment {
    file: File,
    rows: u64,
    fences: Vec<u64>,
}

impl Segment {
    /// With its filter, which the caller keeps.
    pub fn open(path: &Path) -> Result<(Self, Filter)> {
        let file = File::open(path).map_err(|e| Error::io(format!("open {}", path.display()), e))?;
        Self::load(file).map_err(|error| match error {
            Error::Corrupt { what, at, why } => Error::Corrupt { what, at, why: format!("{}: {why}", path.display()) },
            other => other,
        })
    }

    fn load(file: File) -> Result<(Self, Filter)> {
        let length = file.metadata().map_err(|e| Error::io("measure a segment", e))?.len();
        let at = length.checked_sub(FOOTER_BYTES as u64).ok_or_else(|| Error::corrupt(WHAT, length, "too short"))?;
        let footer = read(&file, at, FOOTER_BYTES)?;
        let mut cursor = Cursor::new(WHAT, &footer);
        let (magic, version, features) = (cursor.array::<4>()?, cursor.u16()?, cursor.u16()?);
        let (rows, blocks, sum) = (cursor.u64()?, cursor.u64()?, cursor.u32()?);
        let (checked, stored) = footer.split_at(FOOTER_BYTES - 4);
        if magic != *b"IMSG" || crc32c::crc32c(checked).to_le_bytes() != stored {
            return Err(Error::corrupt(WHAT, at, "its footer is damaged"));
        }
        if version != 1 || features != 0 {
            return Err(Error::unsupported(format!("a segment of version {version}, features {features}")));
        }
        let pages = rows.div_ceil(PAGE_ROWS as u64);
        let (fences_at, fence_bytes) = (pages.checked_mul(PAGE_BYTES as u64), pages * 8);
        let filter_bytes = blocks.checked_mul(Filter::BLOCK_BYTES as u64);
        let tail = filter_bytes.and_then(|bytes| bytes.checked_add(fence_bytes));
        let (Some(fences_at), Some(tail)) = (fences_at, tail) else {
            return Err(Error::corrupt(WHAT, at, "its footer is damaged"));
        };
        if fences_at.checked_add(tail) != Some(at) {
            return Err(Error::corrupt(WHAT, at, format!("{rows} rows do not fit {length} bytes")));
        }
        let tail = read(&file, fences_at, tail as usize)?;
        if crc32c::crc32c(&tail) != sum {
            return Err(Error::corrupt(WHAT, fences_at, "what finds its pages is damaged"));
        }
        let (fences, filter) = tail.split_at(fence_bytes as usize);
        let fences = fences.as_chunks::<8>().0.iter().map(|fence| u64::from_le_bytes(*fence)).collect();
        // Only pages are read from now on, each alone: reading ahead would cost more than it brings.
        // SAFETY: advice about an open file.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) };
        Ok((Self { file, rows, fences }, Filter::of_bytes(filter)))
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// All rows whose id is among these, each with its id's number. Ascending ids share pages; those whose page is not in
    /// memory are asked for together, so that the disk has more than one to do.
    pub fn find(&self, ids: &[(Id, u32)], found: &mut Vec<(u32, Row)>) -> Result<()> {
        let mut page = Page { number: usize::MAX, bytes: vec![0; PAGE_BYTES] };
        let mut later = Vec::new();
        for one in ids {
            let number = self.page_of(&one.0);
            if page.number == number || page.read_cached(&self.file, number)? {
                self.collect(one, number, &mut page, found)?;
            } else {
                let at = (number * PAGE_BYTES) as libc::off_t;
                // SAFETY: advice about an open file.
                unsafe { libc::posix_fadvise(self.file.as_raw_fd(), at, PAGE_BYTES as i64, libc::POSIX_FADV_WILLNEED) };
                later.push((one, number));
            }
        }
        later.into_iter().try_for_each(|(one, number)| self.collect(one, number, &mut page, found))
    }

    /// The first page that may hold it: the last that begins with less.
    fn page_of(&self, id: &Id) -> usize {
        self.fences.partition_point(|fence| *fence < prefix(id)).saturating_sub(1)
    }

    fn collect(&self, one: &(Id, u32), first: usize, page: &mut Page, found: &mut Vec<(u32, Row)>) -> Result<()> {
        let (id, index) = one;
        let end = self.fences.partition_point(|fence| *fence <= prefix(id));
        for number in first..end {
            page.read(&self.file, number)?;
            let rows = page.rows();
            let from = rows.partition_point(|row| row[..ID_BYTES] < id[..]);
            found.extend(rows[from..].iter().take_while(|row| row[..ID_BYTES] == id[..]).map(|row| (*index, *row)));
        }
        Ok(())
    }
}

struct Page {
    number: usize,
    bytes: Vec<u8>,
}

impl Page {
    fn read(&mut self, file: &File, number: usize) -> Result<()> {
        if self.number == number {
            return Ok(());
        }
        self.number = usize::MAX;
        let at = (number * PAGE_BYTES) as u64;
        file.read_exact_at(&mut self.bytes, at).map_err(|e| Error::io("read a segment", e))?;
        self.check(number)
    }

    /// False where the page is not in memory; nothing waits for a disk.
    fn read_cached(&mut self, file: &File, number: usize) -> Result<bool> {
        self.number = usize::MAX;
        let piece = libc::iovec { iov_base: self.bytes.as_mut_ptr().cast(), iov_len: PAGE_BYTES };
        let at = (number * PAGE_BYTES) as libc::off_t;
        // SAFETY: the piece is this page's own buffer, as long as it says.
        let got = unsafe { libc::preadv2(file.as_raw_fd(), &piece, 1, at, libc::RWF_NOWAIT) };
        if got != PAGE_BYTES as isize {
            return Ok(false);
        }
        self.check(number).map(|()| true)
    }

    fn check(&mut self, number: usize) -> Result<()> {
        check_page(&self.bytes, (number * PAGE_BYTES) as u64)?;
        self.number = number;
        Ok(())
    }

    fn rows(&self) -> &[Row] {
        &self.bytes.as_chunks::<ROW_BYTES>().0[..used(&self.bytes)]
    }
}

fn used(page: &[u8]) -> usize {
    u32::from_le_bytes(page[PAGE_USED..PAGE_USED + 4].try_into().expect("a page is 4096 bytes")) as usize
}

fn check_page(page: &[u8], at: u64) -> Result<()> {
    let (checked, sum) = page.split_at(PAGE_BYTES - 4);
    if crc32c::crc32c(checked).to_le_bytes() == sum && used(page) <= PAGE_ROWS {
        return Ok(());
    }
    Err(Error::corrupt(WHAT, at, "a page is not as it was written"))
}

fn read(file: &File, at: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at).map_err(|e| Error::io("read a segment", e))?;
    Ok(bytes)
}

/// The rows of one segment in order, for a merge.
struct Rows<'a> {
    segment: &'a Segment,
    page: usize,
    /// Checked pages, the next row's position among them, and the end of the rows of its page.
    pages: Vec<u8>,
    at: usize,
    end: usize,
}

impl Rows<'_> {
    fn next(&mut self) -> Result<Option<Row>> {
        if self.at == self.end && !self.next_page()? {
            return Ok(None);
        }
        let row = self.pages[self.at..self.at + ROW_BYTES].try_into().expect("a row is 56 bytes");
        self.at += ROW_BYTES;
        Ok(Some(row))
    }

    fn next_page(&mut self) -> Result<bool> {
        let mut begin = self.at.next_multiple_of(PAGE_BYTES);
        if begin >= self.pages.len() {
            let pages = READ_PAGES.min(self.segment.fences.len() - self.page);
            self.pages = read(&self.segment.file, (self.page * PAGE_BYTES) as u64, pages * PAGE_BYTES)?;
            begin = 0;
        }
        if self.pages.is_empty() {
            return Ok(false);
        }
        let page = &self.pages[begin..begin + PAGE_BYTES];
        check_page(page, (self.page * PAGE_BYTES) as u64)?;
        self.page += 1;
        (self.at, self.end) = (begin, begin + used(page) * ROW_BYTES);
        Ok(true)
    }
}

/// Writes the rows of all of them, each once, into one; `go_on` is asked now and then.
pub fn merge(segments: &[&Segment], path: &Path, folder: &Path, go_on: impl Fn() -> Result<()>) -> Result<u64> {
    let mut writer = Writer::create(path, segments.iter().map(|segment| segment.rows).sum())?;
    let open = |segment| Rows { segment, page: 0, pages: Vec::new(), at: 0, end: 0 };
    let mut sources: Vec<Rows> = segments.iter().map(|segment| open(*segment)).collect();
    let mut heads = BinaryHeap::new();
    for (number, source) in sources.iter_mut().enumerate() {
        heads.extend(source.next()?.map(|row| Reverse((row, number))));
    }
    while let Some(mut head) = heads.peek_mut() {
        let Reverse((row, number)) = *head;
        writer.push(&row)?;
        if writer.used == 0 {
            go_on()?;
        }
        match sources[number].next()? {
            Some(next) => *head = Reverse((next, number)),
            None => drop(std::collections::binary_heap::PeekMut::pop(head)),
        }
    }
    writer.finish(folder)
}
