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
use crate::base::limits::{BLOCK_BYTES, MAP_PAGE_BYTES, PAGE_BYTES, RESIDENT_BYTES, XATTR_BYTES};
use crate::formats::names::{Renumbering, Runs};
use crate::fs::volume_map::{Codec, Content, Extent, ExtentKind, File, Kind, Stream, Timestamp};

const MAGIC: &[u8; 4] = b"IMPG";
pub const MAP_ENTRY_BYTES: usize = 52;
const INDEX_ENTRY_BYTES: usize = 56;
/// Extents of one file record; a file with more continues in a record of the same number.
pub const RECORD_EXTENTS: usize = 16_384;

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

    /// Neither held nor zeros.
    pub fn is_missing(&self) -> bool {
        !self.is_stored() && *self != Self::ZEROS
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

/// No record of this file is longer than this.
pub fn record_bound(file: &File) -> usize {
    const FIXED: usize = 128;
    const EXTENT: usize = 36;
    let xattrs = file.xattrs.iter().map(|(name, value)| name.len() + value.len() + 6);
    let streams = file.streams.iter().map(|stream| {
        let content = match &stream.content {
            Content::Resident(bytes) => bytes.len(),
            Content::Extents(extents) => extents.len().min(RECORD_EXTENTS) * EXTENT,
        };
        stream.name.len() + 36 + content
    });
    xattrs.chain(streams).fold(FIXED, usize::saturating_add)
}

/// One record, or several where a stream has more than `RECORD_EXTENTS` extents: the later ones repeat the
/// attributes, carry the stream's further extents, and are joined by `join`.
pub fn encode_file(file: &File) -> Vec<Vec<u8>> {
    let parts = |stream: &Stream| match &stream.content {
        Content::Resident(_) => 1,
        Content::Extents(extents) => extents.len().div_ceil(RECORD_EXTENTS).max(1),
    };
    let count = file.streams.iter().map(parts).max().unwrap_or(1);
    (0..count).map(|part| encode_part(file, part)).collect()
}

fn encode_part(file: &File, part: usize) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.varint(file.number).varint(part as u64).u32(file.generation).u8(file.kind as u8).u16(file.mode);
    writer.varint(file.uid.into()).varint(file.gid.into()).varint(file.links.into()).varint(file.device);
    for time in [file.modified, file.changed, file.created] {
        writer.u64(time.seconds as u64).u32(time.nanoseconds);
    }
    let xattrs: &[_] = if part == 0 { &file.xattrs } else { &[] };
    writer.varint(xattrs.len() as u64);
    for (name, value) in xattrs {
        writer.string(name).string(value);
    }
    writer.varint(file.streams.len() as u64);
    for stream in &file.streams {
        writer.string(&stream.name).varint(stream.size).varint(stream.valid);
        match &stream.content {
            Content::Resident(bytes) => {
                writer.u8(1).string(if part == 0 { bytes } else { &[] });
            }
            Content::Extents(extents) => {
                let extents = extents.chunks(RECORD_EXTENTS).nth(part).unwrap_or_default();
                writer.u8(0).varint(extents.len() as u64);
                extents.iter().for_each(|extent| encode_extent(extent, &mut writer));
            }
        }
    }
    // Attributes that no parser of today knows.
    writer.string(&[]);
    writer.bytes
}

fn encode_extent(extent: &Extent, writer: &mut Writer) {
    let kind = match extent.kind {
        ExtentKind::Plain => 0,
        ExtentKind::Unwritten => 1,
        ExtentKind::Compressed { .. } => 2,
        ExtentKind::Encrypted => 3,
        ExtentKind::Packed { .. } => 4,
    };
    writer.u8(kind).varint(extent.logical).varint(extent.disk).varint(extent.length);
    match extent.kind {
        ExtentKind::Compressed { raw_length } => _ = writer.varint(raw_length.into()),
        ExtentKind::Packed { codec, raw_length, raw_offset, used } => {
            writer.u8(codec as u8).varint(raw_length.into()).varint(raw_offset.into()).varint(used.into());
        }
        ExtentKind::Plain | ExtentKind::Unwritten | ExtentKind::Encrypted => {}
    }
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

fn decode_u32(cursor: &mut Cursor) -> Result<u32> {
    let value = cursor.varint()?;
    u32::try_from(value).map_err(|_| cursor.corrupt(format!("{value} does not fit in 32 bits")))
}

fn decode_kind(cursor: &Cursor, kind: u8) -> Result<Kind> {
    use Kind::{BlockDevice, CharacterDevice, Directory, Fifo, Socket, Symlink};
    let kinds = [Kind::File, Directory, Symlink, BlockDevice, CharacterDevice, Fifo, Socket];
    let known = kinds.into_iter().find(|known| *known as u8 == kind);
    known.ok_or_else(|| cursor.corrupt(format!("a file of kind {kind}")))
}

/// A file without attributes and streams whose varints take one byte each: number, part, generation u32, kind u8,
/// mode u16, uid, gid, links, device, three times of 12 bytes, two counts, length of the further attributes.
const FILE_LEAST_BYTES: usize = 2 + 4 + 1 + 2 + 4 + 3 * 12 + 3;

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

/// Adds the extents of a continuation to what came before it.
pub fn join(file: &mut File, more: File) {
    for (stream, further) in file.streams.iter_mut().zip(more.streams) {
        if let (Content::Extents(extents), Content::Extents(further)) = (&mut stream.content, further.content) {
            extents.extend(further);
        }
    }
}

fn decode_file(cursor: &mut Cursor) -> Result<(u64, File)> {
    let (number, part, generation) = (cursor.varint()?, cursor.varint()?, cursor.u32()?);
    let kind = cursor.u8()?;
    let kind = decode_kind(cursor, kind)?;
    let mode = cursor.u16()?;
    let (uid, gid, links) = (decode_u32(cursor)?, decode_u32(cursor)?, decode_u32(cursor)?);
    let device = cursor.varint()?;
    let mut times = [Timestamp::default(); 3];
    for time in &mut times {
        *time = Timestamp { seconds: cursor.u64()? as i64, nanoseconds: cursor.u32()? };
    }
    let [modified, changed, created] = times;
    let count = cursor.count(2)?;
    let mut xattrs = Vec::with_capacity(count);
    for _ in 0..count {
        xattrs.push((cursor.string(1024)?.to_vec(), cursor.string(XATTR_BYTES)?.to_vec()));
    }
    let count = cursor.count(4)?;
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        streams.push(decode_stream(cursor)?);
    }
    cursor.string(XATTR_BYTES)?;
    let file =
        File { number, generation, kind, mode, uid, gid, links, device, modified, changed, created, xattrs, streams };
    Ok((part, file))
}

fn decode_packed(cursor: &mut Cursor) -> Result<ExtentKind> {
    let codec = cursor.u8()?;
    let codec = Codec::of_number(codec).ok_or_else(|| cursor.corrupt(format!("an extent packed by codec {codec}")))?;
    let (raw_length, raw_offset, used) = (decode_u32(cursor)?, decode_u32(cursor)?, decode_u32(cursor)?);
    if raw_offset.checked_add(used).is_none_or(|end| end > raw_length) {
        return Err(cursor.corrupt(format!("{used} bytes from {raw_offset} of a packed extent of {raw_length}")));
    }
    Ok(ExtentKind::Packed { codec, raw_length, raw_offset, used })
}

fn decode_stream(cursor: &mut Cursor) -> Result<Stream> {
    let name = cursor.string(1024)?.to_vec();
    let (size, valid) = (cursor.varint()?, cursor.varint()?);
    match cursor.u8()? {
        0 => {}
        1 => {
            let content = Content::Resident(cursor.string(RESIDENT_BYTES)?.to_vec());
            return Ok(Stream { name, size, valid, content });
        }
        other => return Err(cursor.corrupt(format!("a stream of kind {other}"))),
    }
    let count = cursor.count(4)?;
    let mut extents = Vec::with_capacity(count);
    for _ in 0..count {
        let kind = cursor.u8()?;
        let (logical, disk, length) = (cursor.varint()?, cursor.varint()?, cursor.varint()?);
        let kind = match kind {
            0 => ExtentKind::Plain,
            1 => ExtentKind::Unwritten,
            2 => ExtentKind::Compressed { raw_length: decode_u32(cursor)? },
            3 => ExtentKind::Encrypted,
            4 => decode_packed(cursor)?,
            kind => return Err(cursor.corrupt(format!("an extent of kind {kind}"))),
        };
        if [logical, disk, length].iter().any(|&value| value > 1 << 62) {
            return Err(cursor.corrupt("an extent past the end of any disk"));
        }
        extents.push(Extent { kind, logical, disk, length });
    }
    Ok(Stream { name, size, valid, content: Content::Extents(extents) })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        };
        let records: Vec<Vec<u8>> = (1..=100).flat_map(|number| encode_file(&folder(number))).collect();
        assert_eq!(records[0].len(), FILE_LEAST_BYTES);
        match decode(&encode_files(&records), &mut Runs::default()).expect("a page") {
            Page::Files(files) => assert_eq!(files.len(), 100),
            _ => panic!("another kind of page"),
        }
    }

    #[test]
    fn a_packed_extent_comes_back_and_an_impossible_one_is_refused() {
        let extent = |used| Extent {
            kind: ExtentKind::Packed { codec: Codec::Lzo, raw_length: 1 << 17, raw_offset: 4096, used },
            logical: 8192,
            disk: 1 << 40,
            length: 65536,
        };
        let page = |used| {
            let mut writer = Writer::default();
            writer.string(b"").varint(1 << 20).varint(1 << 20).u8(0).varint(1);
            encode_extent(&extent(used), &mut writer);
            decode_stream(&mut Cursor::new("test", &writer.bytes)).map(|stream| stream.content)
        };
        match page(4096).expect("a stream") {
            Content::Extents(extents) => assert_eq!(extents, [extent(4096)]),
            Content::Resident(_) => panic!("resident"),
        }
        assert!(page(1 << 17).is_err(), "more than it unpacks to");
    }
}
