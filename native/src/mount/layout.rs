//! The bytes in which attributes and folders are handed over, by `src/mount/attributes.ts` and by what reads file pages.
//! Nothing half-read leaves.

use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, Generation, INodeNo};

use crate::base::bytes::{Cursor, Writer};
use crate::base::error::Result;
use crate::fs::volume_map::{Content, File, Kind, Stream};

/// NTFS names have up to 255 UTF-16 units, which is more in UTF-8; the kernel takes this many.
const LONGEST_NAME_BYTES: usize = 1024;

pub const ATTRIBUTES_BYTES: usize = 72;
/// The unit of `st_blocks`.
const BLOCK_UNIT: u64 = 512;

/// Attributes, 72 bytes, little-endian:
///
/// ```text
///  0 u64 inode     8 u64 size      16 u64 blocks of 512   24 i64 modified, s   32 i64 changed, s
/// 40 u32 modified, ns   44 u32 changed, ns   48 u32 generation   52 u32 mode with its type bits
/// 56 u32 links   60 u32 uid   64 u32 gid   68 u32 device
/// ```
pub(super) fn decode_attributes(cursor: &mut Cursor) -> Result<(FileAttr, Generation)> {
    let (inode, size, blocks) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
    let (modified_s, changed_s) = (cursor.u64()? as i64, cursor.u64()? as i64);
    let modified = time(modified_s, cursor.u32()?);
    let changed = time(changed_s, cursor.u32()?);
    let generation = Generation(u64::from(cursor.u32()?));
    let mode = cursor.u32()?;
    let kind = Kind::of_mode(mode & libc::S_IFMT);
    let kind = kind.ok_or_else(|| cursor.corrupt(format!("mode {mode:o} has no known type")))?;
    let attributes = FileAttr {
        ino: INodeNo(inode),
        size,
        blocks,
        atime: modified,
        mtime: modified,
        ctime: changed,
        crtime: SystemTime::UNIX_EPOCH,
        kind: file_type(kind),
        perm: (mode & 0o7777) as u16,
        nlink: cursor.u32()?,
        uid: cursor.u32()?,
        gid: cursor.u32()?,
        rdev: cursor.u32()?,
        blksize: 4096,
        flags: 0,
    };
    Ok((attributes, generation))
}

/// The attributes of a file from its record and the records that go on with it; zeros without any. Which volume it is
/// of, the upper 16 bits of the inode, is for the caller to fill in.
pub fn encode_attributes<'a>(mut parts: impl Iterator<Item = &'a File>) -> [u8; ATTRIBUTES_BYTES] {
    let mut encoded = [0; ATTRIBUTES_BYTES];
    let Some(file) = parts.next() else { return encoded };
    let content = unnamed(file);
    // Never 0 for a file that holds something: tar takes that for a file that is all hole.
    let allocated = content.map_or(0, allocated_bytes) + parts.filter_map(unnamed).map(allocated_bytes).sum::<u64>();
    let mut writer = Writer::default();
    writer.u64(file.number);
    writer.u64(content.map_or(0, |content| content.size)).u64(allocated.div_ceil(BLOCK_UNIT));
    writer.u64(file.modified.seconds as u64).u64(file.changed.seconds as u64);
    writer.u32(file.modified.nanoseconds).u32(file.changed.nanoseconds);
    writer.u32(file.generation).u32(file.kind.type_bits() | u32::from(file.mode) & 0o7777);
    writer.u32(file.links).u32(file.uid).u32(file.gid).u32(file.device as u32);
    encoded.copy_from_slice(&writer.bytes);
    encoded
}

fn unnamed(file: &File) -> Option<&Stream> {
    file.streams.iter().find(|stream| stream.name.is_empty())
}

fn allocated_bytes(stream: &Stream) -> u64 {
    match &stream.content {
        Content::Resident(bytes) => bytes.len() as u64,
        Content::Extents(extents) => extents.iter().map(|extent| extent.length).fold(0, u64::saturating_add),
    }
}

/// A time that this machine cannot say is shown as 1970.
fn time(seconds: i64, nanoseconds: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = SystemTime::UNIX_EPOCH;
    let shifted = if seconds < 0 { base.checked_sub(whole) } else { base.checked_add(whole) };
    shifted.and_then(|at| at.checked_add(Duration::from_nanos(u64::from(nanoseconds)))).unwrap_or(base)
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::CharacterDevice => FileType::CharDevice,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
    }
}

pub(super) fn nothing() -> FileAttr {
    let epoch = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// A folder's entries, back to back: attributes (72 bytes), u64 cookie, u8 known (0: only inode and type are true, the
/// kernel must ask for the rest), u16 length of the name, name.
pub(super) struct Entries<'a>(pub Cursor<'a>);

pub(super) struct Entry<'a> {
    pub attributes: FileAttr,
    pub generation: Generation,
    pub cookie: u64,
    pub known: bool,
    pub name: &'a [u8],
}

impl<'a> Entries<'a> {
    pub fn next(&mut self) -> Result<Option<Entry<'a>>> {
        let cursor = &mut self.0;
        if cursor.remaining() == 0 {
            return Ok(None);
        }
        let (attributes, generation) = decode_attributes(cursor)?;
        let cookie = cursor.u64()?;
        let known = cursor.u8()? != 0;
        let length = usize::from(cursor.u16()?);
        let name = cursor.bytes(length)?;
        if length == 0 || length > LONGEST_NAME_BYTES {
            return Err(cursor.corrupt(format!("a name of {length} bytes")));
        }
        Ok(Some(Entry { attributes, generation, cookie, known, name }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::volume_map::{Extent, ExtentKind, Timestamp};

    fn encoded(mode: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for value in [7u64, 9, 16, -2i64 as u64, 3] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        for value in [500_000_000u32, 1, 4, mode, 2, 1000, 1001, 0x103] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn attributes_of_the_documented_layout() {
        let bytes = encoded(libc::S_IFREG | 0o4755);
        assert_eq!(bytes.len(), 72);
        let (attributes, generation) = decode_attributes(&mut Cursor::new("test", &bytes)).unwrap();
        assert_eq!((attributes.ino.0, attributes.size, attributes.blocks, generation.0), (7, 9, 16, 4));
        assert_eq!((attributes.perm, attributes.kind), (0o4755, FileType::RegularFile));
        assert_eq!((attributes.uid, attributes.gid, attributes.nlink, attributes.rdev), (1000, 1001, 2, 0x103));
        assert_eq!(attributes.mtime, SystemTime::UNIX_EPOCH - Duration::from_millis(1500));
    }

    #[test]
    fn a_file_and_what_goes_on_with_it_give_one_set_of_attributes() {
        let extent = |length| Extent { kind: ExtentKind::Plain, logical: 0, disk: 0, length };
        let part = |length| {
            let content = Content::Extents(vec![extent(length)]);
            let stream = Stream { name: vec![], size: 9000, valid: 9000, content };
            let seconds = -2;
            File {
                generation: 4,
                kind: Kind::Symlink,
                mode: 0o4755,
                links: 2,
                uid: 1000,
                gid: 1001,
                device: 0x103,
                modified: Timestamp { seconds, nanoseconds: 500_000_000 },
                changed: Timestamp { seconds: 3, nanoseconds: 1 },
                ..File::of_streams(7, vec![stream])
            }
        };
        let bytes = encode_attributes([part(8192), part(4096)].iter());
        let (attributes, generation) = decode_attributes(&mut Cursor::new("test", &bytes)).unwrap();
        assert_eq!((attributes.ino.0, attributes.size, attributes.blocks), (7, 9000, 24));
        assert_eq!((attributes.perm, attributes.kind, generation.0), (0o4755, FileType::Symlink, 4));
        assert_eq!((attributes.uid, attributes.gid, attributes.nlink, attributes.rdev), (1000, 1001, 2, 0x103));
        assert_eq!(attributes.mtime, SystemTime::UNIX_EPOCH - Duration::from_millis(1500));
        assert_eq!(attributes.ctime, SystemTime::UNIX_EPOCH + Duration::new(3, 1));
        assert_eq!(encode_attributes(std::iter::empty()), [0; ATTRIBUTES_BYTES]);
    }

    #[test]
    fn refuses_what_is_short_or_typeless() {
        let whole = encoded(libc::S_IFDIR | 0o755);
        for length in 0..whole.len() {
            assert!(decode_attributes(&mut Cursor::new("test", &whole[..length])).is_err());
        }
        assert!(decode_attributes(&mut Cursor::new("test", &encoded(0o755))).is_err());
    }

    #[test]
    fn entries_end_cleanly_or_not_at_all() {
        let mut bytes = encoded(libc::S_IFDIR);
        bytes.extend_from_slice(&5u64.to_le_bytes());
        bytes.push(1);
        bytes.extend_from_slice(&3u16.to_le_bytes());
        bytes.extend_from_slice(b"abc");
        let mut entries = Entries(Cursor::new("test", &bytes));
        let entry = entries.next().unwrap().unwrap();
        assert_eq!((entry.cookie, entry.known, entry.name), (5, true, &b"abc"[..]));
        assert!(entries.next().unwrap().is_none());
        assert!(Entries(Cursor::new("test", &bytes[..bytes.len() - 1])).next().is_err());
    }

    #[test]
    fn times_that_cannot_be_said_are_1970() {
        assert_eq!(time(i64::MAX, u32::MAX), SystemTime::UNIX_EPOCH);
        assert!(time(i64::MIN, 0) <= SystemTime::UNIX_EPOCH);
        assert_eq!(time(-1, 500_000_000), SystemTime::UNIX_EPOCH - Duration::from_millis(500));
    }
}
