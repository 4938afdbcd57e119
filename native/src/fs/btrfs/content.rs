//! EXTENT_DATA items into the content of a stream.
//!
//! ```text
//! key (inode, 108, offset in the file); item: generation   ram_bytes (8)   compression u8 (16)   encryption u8
//! other_encoding u16   type u8 (20); inline: data from 21; else: disk_bytenr (21)   disk_num_bytes (29)
//! offset (37)   num_bytes (45)
//! ```

use super::key::Key;
use super::packed;
use super::reader::Btrfs;
use crate::base::bytes::{le16, le64};
use crate::base::error::{Error, Result};
use crate::base::limits::{PACKED_RAW_BYTES, RESIDENT_BYTES, STREAM_EXTENTS};
use crate::fs::volume_map::{Codec, Content, Extent, ExtentKind};

pub const EXTENT_DATA: u8 = 108;
const INLINE_HEADER_BYTES: usize = 21;
const REGULAR_BYTES: usize = 53;
const INLINE: u8 = 0;
const REGULAR: u8 = 1;
const PREALLOCATED: u8 = 2;

/// What was gathered of one file.
#[derive(Default)]
pub struct Gathered {
    inline: Option<Vec<u8>>,
    extents: Vec<Extent>,
    /// Where the last item ends in the file.
    end: u64,
}

impl Gathered {
    pub fn add(&mut self, btrfs: &Btrfs, key: Key, item: &[u8]) -> Result<()> {
        let corrupt = |why: String| Err(Error::corrupt("btrfs inode", key.objectid, why));
        if item.len() < INLINE_HEADER_BYTES {
            return corrupt(format!("an extent of {} bytes", item.len()));
        }
        if item[17] != 0 || le16(item, 18) != 0 {
            return Err(Error::unsupported("an encrypted or encoded btrfs extent"));
        }
        let codec = match item[16] {
            0 => None,
            1 => Some(Codec::Zlib),
            2 => Some(Codec::Lzo),
            3 => Some(Codec::Zstd),
            compression => return Err(Error::unsupported(format!("btrfs compression {compression}"))),
        };
        let logical = key.offset;
        if logical < self.end {
            return corrupt(format!("an extent at {logical} overlaps one that ends at {}", self.end));
        }
        match item[20] {
            INLINE => {
                let (raw_length, data) = (le64(item, 8), &item[INLINE_HEADER_BYTES..]);
                if logical != 0 || raw_length > RESIDENT_BYTES as u64 {
                    return corrupt(format!("{raw_length} inline bytes at {logical}"));
                }
                self.inline = Some(match codec {
                    None => data.to_vec(),
                    Some(codec) => packed::unpack(codec, data, raw_length as usize)?,
                });
                self.end = raw_length.max(1);
                Ok(())
            }
            kind @ (REGULAR | PREALLOCATED) if item.len() == REGULAR_BYTES => {
                self.add_regular(btrfs, key, item, codec, kind == PREALLOCATED)
            }
            kind => corrupt(format!("an extent of type {kind} in {} bytes", item.len())),
        }
    }

    fn add_regular(
        &mut self,
        btrfs: &Btrfs,
        key: Key,
        item: &[u8],
        codec: Option<Codec>,
        preallocated: bool,
    ) -> Result<()> {
        let corrupt = |why: String| Err(Error::corrupt("btrfs inode", key.objectid, why));
        let (logical, ram_bytes) = (key.offset, le64(item, 8));
        let (disk_bytenr, disk_num_bytes, offset, num_bytes) =
            (le64(item, 21), le64(item, 29), le64(item, 37), le64(item, 45));
        let sector_bytes = u64::from(btrfs.superblock.sector_bytes);
        let aligned =
            [logical, disk_bytenr, disk_num_bytes, offset, num_bytes].iter().all(|v| v.is_multiple_of(sector_bytes));
        let end = logical.checked_add(num_bytes).filter(|&end| end <= i64::MAX as u64);
        let Some(end) = end.filter(|_| aligned && num_bytes > 0) else {
            return corrupt(format!("{num_bytes} bytes at {logical} from {disk_bytenr}+{offset}"));
        };
        self.end = end;
        if disk_bytenr == 0 {
            return Ok(());
        }
        // Of a compressed extent, a part of what it unpacks to; else, a part of it.
        let within = offset.checked_add(num_bytes);
        let most = if codec.is_some() { ram_bytes } else { disk_num_bytes };
        if disk_num_bytes == 0 || within.is_none_or(|within| within > most) {
            return corrupt(format!("{num_bytes} bytes at {offset} of an extent of {most}"));
        }
        let (first, _) = btrfs.chunks.copies(disk_bytenr, disk_num_bytes)?;
        btrfs.saw(disk_bytenr, disk_num_bytes);
        let disk = btrfs.volume.absolute(first);
        let extent = match codec {
            None => {
                let kind = if preallocated { ExtentKind::Unwritten } else { ExtentKind::Plain };
                Extent { kind, logical, disk: disk + offset, length: num_bytes }
            }
            Some(codec) => {
                if preallocated || ram_bytes > PACKED_RAW_BYTES || disk_num_bytes > PACKED_RAW_BYTES {
                    return corrupt(format!("{ram_bytes} bytes are packed into {disk_num_bytes}"));
                }
                let (raw_length, raw_offset, used) = (ram_bytes as u32, offset as u32, num_bytes as u32);
                let kind = ExtentKind::Packed { codec, raw_length, raw_offset, used };
                Extent { kind, logical, disk, length: disk_num_bytes }
            }
        };
        self.push(key.objectid, extent)
    }

    /// Plain extents that follow each other in the file and on the disk become one, as FIEMAP shows them.
    fn push(&mut self, inode: u64, extent: Extent) -> Result<()> {
        if let Some(last) = self.extents.last_mut() {
            let follows = last.logical + last.length == extent.logical && last.disk + last.length == extent.disk;
            let simple = matches!(extent.kind, ExtentKind::Plain | ExtentKind::Unwritten);
            if simple && last.kind == extent.kind && follows {
                last.length += extent.length;
                return Ok(());
            }
        }
        if self.extents.len() == STREAM_EXTENTS {
            return Err(Error::corrupt("btrfs inode", inode, "more extents than are read of one file"));
        }
        self.extents.push(extent);
        Ok(())
    }

    /// Of a stream of `size` bytes. Inline data that ends before it is followed by zeros; beside it there may be what was
    /// preallocated past the end.
    pub fn finish(self, inode: u64, size: u64) -> Result<Content> {
        let mut extents = self.extents;
        let Some(mut bytes) = self.inline else {
            extents.shrink_to_fit();
            return Ok(Content::Extents(extents));
        };
        if extents.iter().any(|extent| extent.logical < size) || size > RESIDENT_BYTES as u64 {
            let why = format!("inline data beside {} extents, of {size} bytes", extents.len());
            return Err(Error::corrupt("btrfs inode", inode, why));
        }
        bytes.resize(size as usize, 0);
        bytes.shrink_to_fit();
        Ok(Content::Resident(bytes))
    }
}
