//! File records, of which pages of files are made (page.rs, docs/formats/page.md).

use crate::base::bytes::{Cursor, Writer};
use crate::base::error::Result;
use crate::base::limits::{RESIDENT_BYTES, XATTR_BYTES};
use crate::fs::volume_map::{Codec, Content, Extent, ExtentKind, File, Kind, Stream, Timestamp};

/// Extents of one file record; a file with more continues in a record of the same number.
pub const RECORD_EXTENTS: usize = 16_384;
/// A file without attributes and streams whose varints take one byte each: number, part, generation u32, kind u8,
/// mode u16, uid, gid, links, device, three times of 12 bytes, two counts, length of the further attributes.
pub const FILE_LEAST_BYTES: usize = 2 + 4 + 1 + 2 + 4 + 3 * 12 + 3;

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
    xattrs.chain(streams).chain([file.opaque.len()]).fold(FIXED, usize::saturating_add)
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
    writer.string(if part == 0 { &file.opaque } else { &[] });
    writer.bytes
}

fn encode_extent(extent: &Extent, writer: &mut Writer) {
    writer.u8(extent.kind.number()).varint(extent.logical).varint(extent.disk).varint(extent.length);
    match extent.kind {
        ExtentKind::Compressed { raw_length } => _ = writer.varint(raw_length.into()),
        ExtentKind::Packed { codec, raw_length, raw_offset, used } => {
            writer.u8(codec as u8).varint(raw_length.into()).varint(raw_offset.into()).varint(used.into());
        }
        ExtentKind::Plain | ExtentKind::Unwritten | ExtentKind::Encrypted => {}
    }
}

pub fn decode_u32(cursor: &mut Cursor) -> Result<u32> {
    let value = cursor.varint()?;
    u32::try_from(value).map_err(|_| cursor.corrupt(format!("{value} does not fit in 32 bits")))
}

pub fn decode_kind(cursor: &Cursor, kind: u8) -> Result<Kind> {
    use Kind::{BlockDevice, CharacterDevice, Directory, Fifo, Socket, Symlink};
    let kinds = [Kind::File, Directory, Symlink, BlockDevice, CharacterDevice, Fifo, Socket];
    let known = kinds.into_iter().find(|known| *known as u8 == kind);
    known.ok_or_else(|| cursor.corrupt(format!("a file of kind {kind}")))
}

/// Adds the extents of a continuation to what came before it.
pub fn join(file: &mut File, more: File) {
    for (stream, further) in file.streams.iter_mut().zip(more.streams) {
        if let (Content::Extents(extents), Content::Extents(further)) = (&mut stream.content, further.content) {
            extents.extend(further);
        }
    }
}

pub fn decode_file(cursor: &mut Cursor) -> Result<(u64, File)> {
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
    let opaque = cursor.string(XATTR_BYTES)?.to_vec();
    Ok((
        part,
        File {
            number,
            generation,
            kind,
            mode,
            uid,
            gid,
            links,
            device,
            modified,
            changed,
            created,
            xattrs,
            streams,
            opaque,
        },
    ))
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

    #[test]
    fn attributes_that_nobody_here_knows_are_kept_and_shown() {
        let mut file = File::of_streams(7, vec![]);
        file.xattrs = vec![(b"user.a".to_vec(), b"1".to_vec())];
        file.opaque = vec![0, 0xff];
        let [record] = &encode_file(&file)[..] else { panic!("one record") };
        let (part, read) = decode_file(&mut Cursor::new("test", record)).unwrap();
        assert_eq!((part, &read), (0, &file));
        let shown: Vec<_> = read.shown_xattrs().collect();
        assert_eq!(shown, [(&b"user.a"[..], &b"1"[..]), (b"user.imager.opaque", &[0, 0xff])]);
        file.opaque = vec![0; XATTR_BYTES + 1];
        assert!(decode_file(&mut Cursor::new("test", &encode_file(&file)[0])).is_err());
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
