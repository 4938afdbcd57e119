//! The pages of a manifest (docs/formats/page.md): leaves of three trees and the index pages above them.
//!
//! ```text
//! every page   magic "IMPG" | version u16 = 1 | features u16 = 0 | kind u8
//! 1 map        base u64, runs, then entries: offset from base u32 | length u32 | offset in block u32 | birth u64 | bk 32
//!              sorted by offset, disjoint; birth 0 = zeros on the disk, 1 = unreadable, 2 = not stored; what no entry
//!              covers was free
//! 2 files      count, then file records by number (below)
//! 3 directory  count, then: parent | child | kind u8 | name string; sorted by (parent, name)
//! 4 index      runs, level u8, count, then: first u64 | last u64 | birth u64 | bk 32; sorted, keys inclusive
//! 5 root       runs, description string (JSON), count of trees, then: tree u8 | volume | level u8 | birth u64 | bk 32
//! ```
//! Runs are a table of those that births of the page name (names.rs). Counts and numbers without a size are LEB128. A page
//! never exceeds `limits::PAGE_BYTES`.

use crate::base::bytes::{Cursor, Writer};
use crate::base::error::{Error, Result};
use crate::base::limits::{BLOCK_BYTES, MAP_PAGE_BYTES, PAGE_BYTES};
use crate::formats::file_record::{FILE_LEAST_BYTES, decode_file, decode_kind, decode_u32, join};
use crate::formats::names::{Renumbering, Runs};
use crate::fs::volume_map::File;

const MAGIC: &[u8; 4] = b"IMPG";
pub const MAP_ENTRY_BYTES: usize = 52;
const INDEX_ENTRY_BYTES: usize = 56;

/// Why a snapshot does not hold bytes that were in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The source refused to give them.
    Unreadable,
    /// They were left out on purpose.
    NotStored,
}

/// What opens a block or a page, and where it was born.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ref {
    pub key: [u8; 32],
    pub birth: u64,
}

impl Ref {
    /// Bytes of a disk that are zeros: nothing is stored for them.
    pub const ZEROS: Self = Self { key: [0; 32], birth: 0 };
    /// Bytes that the source refused to give.
    pub const UNREADABLE: Self = Self { key: [0; 32], birth: 1 };

    /// Bytes that were left out on purpose.
    pub const NOT_STORED: Self = Self { key: [0; 32], birth: 2 };

    /// Why it is neither held nor zeros; nothing where it is one of these.
    pub fn gap(&self) -> Option<Gap> {
        if self.is_stored() || *self == Self::ZEROS {
            return None;
        }
        Some(if self.birth == Self::NOT_STORED.birth { Gap::NotStored } else { Gap::Unreadable })
    }

    /// Births begin at 2^40, with the first record of the first run.
    pub fn is_stored(&self) -> bool {
        self.birth > Self::NOT_STORED.birth
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// Absolute in the source.
    pub disk: u64,
    pub length: u32,
    pub in_block: u32,
    pub block: Ref,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryRow {
    pub parent: u64,
    pub child: u64,
    pub kind: u8,
    pub name: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    pub first: u64,
    pub last: u64,
    pub child: Ref,
}

/// The top of one tree, as the root page names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Top {
    pub tree: Tree,
    pub volume: u32,
    /// 0: the top is a leaf.
    pub level: u8,
    pub page: Ref,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tree {
    Map = 1,
    Files = 2,
    Directories = 3,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Page {
    Map(Vec<MapEntry>),
    Files(Vec<File>),
    Directory(Vec<DirectoryRow>),
    Index { level: u8, entries: Vec<IndexEntry> },
    Root { description: String, tops: Vec<Top> },
}

fn page(kind: u8) -> Writer {
    let mut writer = Writer::default();
    writer.raw(MAGIC).u16(1).u16(0).u8(kind);
    writer
}

/// What `body` writes, behind the table of the runs that its births are of. Throws `Corrupt` for a birth of no known run.
fn with_runs(
    mut writer: Writer,
    runs: &Runs,
    body: impl FnOnce(&mut Writer, &mut Renumbering) -> Result<()>,
) -> Result<Vec<u8>> {
    let (mut table, mut behind) = (Runs::default(), Writer::default());
    body(&mut behind, &mut Renumbering::new(runs, &mut table))?;
    table.write(&mut writer);
    writer.raw(&behind.bytes);
    Ok(writer.bytes)
}

/// All entries lie in `base .. base + MAP_PAGE_BYTES`.
pub fn encode_map(base: u64, entries: &[MapEntry], runs: &Runs) -> Result<Vec<u8>> {
    let mut writer = page(1);
    writer.u64(base);
    with_runs(writer, runs, |writer, births| {
        for entry in entries {
            writer.u32((entry.disk - base) as u32).u32(entry.length).u32(entry.in_block);
            writer.u64(births.birth(entry.block.birth)?).raw(&entry.block.key);
        }
        Ok(())
    })
}

pub fn encode_directory(rows: &[DirectoryRow]) -> Vec<u8> {
    let mut writer = page(3);
    writer.varint(rows.len() as u64);
    for row in rows {
        writer.varint(row.parent).varint(row.child).u8(row.kind).string(&row.name);
    }
    writer.bytes
}

pub fn encode_index(level: u8, entries: &[IndexEntry], runs: &Runs) -> Result<Vec<u8>> {
    with_runs(page(4), runs, |writer, births| {
        writer.u8(level).varint(entries.len() as u64);
        for entry in entries {
            writer.u64(entry.first).u64(entry.last).u64(births.birth(entry.child.birth)?).raw(&entry.child.key);
        }
        Ok(())
    })
}

pub fn encode_root(description: &str, tops: &[Top], runs: &Runs) -> Result<Vec<u8>> {
    with_runs(page(5), runs, |writer, births| {
        writer.string(description.as_bytes()).varint(tops.len() as u64);
        for top in tops {
            writer.u8(top.tree as u8).varint(top.volume.into()).u8(top.level);
            writer.u64(births.birth(top.page.birth)?).raw(&top.page.key);
        }
        Ok(())
    })
}

/// A page of already encoded file records.
pub fn encode_files(records: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = page(2);
    writer.varint(records.len() as u64);
    for record in records {
        writer.raw(record);
    }
    writer.bytes
}

/// `runs` learns the runs that the page names.
pub fn decode(bytes: &[u8], runs: &mut Runs) -> Result<Page> {
    if bytes.len() > PAGE_BYTES {
        return Err(Error::corrupt("manifest page", 0, format!("{} bytes", bytes.len())));
    }
    let mut cursor = Cursor::new("manifest page", bytes);
    if cursor.bytes(4)? != MAGIC {
        return Err(cursor.corrupt("this is no page"));
    }
    let (version, features) = (cursor.u16()?, cursor.u16()?);
    if version != 1 || features != 0 {
        return Err(Error::unsupported(format!("manifest page version {version}, features {features:#x}")));
    }
    let page = match cursor.u8()? {
        1 => decode_map(&mut cursor, runs)?,
        2 => decode_files(&mut cursor)?,
        3 => decode_directory(&mut cursor)?,
        4 => decode_index(&mut cursor, runs)?,
        5 => decode_root(&mut cursor, runs)?,
        kind => return Err(Error::unsupported(format!("manifest page kind {kind}"))),
    };
    cursor.end()?;
    Ok(page)
}

fn decode_ref(cursor: &mut Cursor, births: &mut Renumbering) -> Result<Ref> {
    let birth = births.birth(cursor.u64()?)?;
    Ok(Ref { key: cursor.array()?, birth })
}

fn decode_map(cursor: &mut Cursor, runs: &mut Runs) -> Result<Page> {
    let base = cursor.u64()?;
    if base % MAP_PAGE_BYTES != 0 || base > 1 << 62 {
        return Err(cursor.corrupt(format!("a map page at {base}")));
    }
    let table = Runs::read(cursor)?;
    let mut births = Renumbering::new(&table, runs);
    let mut entries = Vec::with_capacity(cursor.remaining() / MAP_ENTRY_BYTES);
    let mut end = 0;
    while cursor.remaining() > 0 {
        let (offset, length, in_block) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let block = decode_ref(cursor, &mut births)?;
        if u64::from(offset) < end || length == 0 || u64::from(offset) + u64::from(length) > MAP_PAGE_BYTES {
            return Err(cursor.corrupt(format!("a map entry of {length} bytes at {offset} after {end}")));
        }
        // Neighbours that are not stored are joined, so that only they are longer than a block.
        let held = if block.is_stored() { u64::from(length) } else { 0 };
        if u64::from(in_block) + held > BLOCK_BYTES as u64 {
            return Err(cursor.corrupt(format!("{length} bytes at {in_block} of a block")));
        }
        end = u64::from(offset) + u64::from(length);
        entries.push(MapEntry { disk: base + u64::from(offset), length, in_block, block });
    }
    Ok(Page::Map(entries))
}

fn decode_directory(cursor: &mut Cursor) -> Result<Page> {
    let count = cursor.count(4)?;
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        let (parent, child, kind) = (cursor.varint()?, cursor.varint()?, cursor.u8()?);
        decode_kind(cursor, kind)?;
        rows.push(DirectoryRow { parent, child, kind, name: cursor.string(1024)?.to_vec() });
    }
    // Names are found by bisection.
    if !rows.is_sorted_by(|a, b| (a.parent, &a.name) <= (b.parent, &b.name)) {
        return Err(cursor.corrupt("a directory page out of order"));
    }
    Ok(Page::Directory(rows))
}

fn decode_index(cursor: &mut Cursor, runs: &mut Runs) -> Result<Page> {
    let table = Runs::read(cursor)?;
    let mut births = Renumbering::new(&table, runs);
    let level = cursor.u8()?;
    let count = cursor.count(INDEX_ENTRY_BYTES)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let (first, last) = (cursor.u64()?, cursor.u64()?);
        entries.push(IndexEntry { first, last, child: decode_ref(cursor, &mut births)? });
    }
    if level == 0
        || entries.iter().any(|entry| entry.first > entry.last)
        || !entries.is_sorted_by_key(|entry| entry.first)
    {
        return Err(cursor.corrupt("an index page out of order"));
    }
    Ok(Page::Index { level, entries })
}

fn decode_root(cursor: &mut Cursor, runs: &mut Runs) -> Result<Page> {
    let table = Runs::read(cursor)?;
    let mut births = Renumbering::new(&table, runs);
    let description = String::from_utf8(cursor.string(PAGE_BYTES)?.to_vec())
        .map_err(|_| cursor.corrupt("a description that is not UTF-8"))?;
    let count = cursor.count(43)?;
    let mut tops = Vec::with_capacity(count);
    for _ in 0..count {
        let tree = match cursor.u8()? {
            1 => Tree::Map,
            2 => Tree::Files,
            3 => Tree::Directories,
            tree => return Err(Error::unsupported(format!("manifest tree {tree}"))),
        };
        let volume = decode_u32(cursor)?;
        tops.push(Top { tree, volume, level: cursor.u8()?, page: decode_ref(cursor, &mut births)? });
    }
    Ok(Page::Root { description, tops })
}

fn decode_files(cursor: &mut Cursor) -> Result<Page> {
    let count = cursor.count(FILE_LEAST_BYTES)?;
    let mut files: Vec<File> = Vec::with_capacity(count);
    for _ in 0..count {
        let (part, file) = decode_file(cursor)?;
        match files.last_mut() {
            Some(last) if part > 0 && last.number == file.number => join(last, file),
            Some(last) if last.number >= file.number => return Err(cursor.corrupt("a file page out of order")),
            _ => files.push(file),
        }
    }
    Ok(Page::Files(files))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::file_record::encode_file;
    use crate::fs::volume_map::{Kind, Timestamp};

    /// A directory's record has no streams: pages of nothing else are the densest there are.
    #[test]
    fn a_page_of_the_smallest_records_opens() {
        let folder = |number| File {
            number,
            generation: 0,
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            links: 2,
            device: 0,
            modified: Timestamp::default(),
            changed: Timestamp::default(),
            created: Timestamp::default(),
            xattrs: vec![],
            streams: vec![],
            opaque: vec![],
        };
        let records: Vec<Vec<u8>> = (1..=100).flat_map(|number| encode_file(&folder(number))).collect();
        assert_eq!(records[0].len(), FILE_LEAST_BYTES);
        match decode(&encode_files(&records), &mut Runs::default()).expect("a page") {
            Page::Files(files) => assert_eq!(files.len(), 100),
            _ => panic!("another kind of page"),
        }
    }
}
