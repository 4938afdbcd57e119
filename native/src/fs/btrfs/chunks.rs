//! Chunks: from logical addresses to the disk. One device, so that a byte lies once (single) or twice (DUP).
//!
//! ```text
//! key (256, CHUNK_ITEM 228, logical); item: length   owner   stripe_len   type   io_align u32   io_width u32
//! sector_size u32   num_stripes u16 (44)   sub_stripes u16   stripes from 48, 32 bytes each: devid   offset   uuid 16
//! ```

use super::key::Key;
use super::superblock::Superblock;
use crate::base::bytes::{Cursor, le16, le64};
use crate::base::error::{Error, Result};
use crate::disk::volume::Volume;

pub const CHUNK_ITEM: u8 = 228;
const HEADER_BYTES: usize = 48;
const STRIPE_BYTES: usize = 32;
/// RAID0, RAID1, DUP, RAID10, RAID5, RAID6, RAID1C3, RAID1C4.
const PROFILES: u64 = 0x7f8;
const DUP: u64 = 0x20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub logical: u64,
    pub length: u64,
    /// Offset in the volume of the first copy, and of the second.
    pub first: u64,
    pub second: Option<u64>,
}

/// Sorted by logical address, disjoint, inside the volume.
#[derive(Debug, Default)]
pub struct Chunks(Vec<Chunk>);

impl Chunks {
    /// The chunks that hold the chunk tree, from the superblock.
    pub fn from_superblock(volume: Volume, superblock: &Superblock) -> Result<Self> {
        let mut chunks = Self::default();
        let mut cursor = Cursor::new("btrfs system chunk array", &superblock.system_chunks);
        while cursor.remaining() > 0 {
            let key = Key { objectid: cursor.u64()?, kind: cursor.u8()?, offset: cursor.u64()? };
            let header: [u8; HEADER_BYTES] = cursor.array()?;
            let stripes = cursor.bytes(usize::from(le16(&header, 44)) * STRIPE_BYTES)?;
            chunks.add(volume, superblock, key, &[&header, stripes].concat())?;
        }
        Ok(chunks)
    }

    /// The same chunk may be told twice, by the superblock and by the tree.
    pub fn add(&mut self, volume: Volume, superblock: &Superblock, key: Key, item: &[u8]) -> Result<()> {
        let chunk = decode(volume, superblock, key, item)?;
        let at = self.0.partition_point(|other| other.logical < chunk.logical);
        if self.0.get(at) == Some(&chunk) {
            return Ok(());
        }
        let before = at.checked_sub(1).map_or(0, |before| self.0[before].logical + self.0[before].length);
        let after = self.0.get(at).map_or(u64::MAX, |after| after.logical);
        if chunk.logical < before || chunk.logical + chunk.length > after {
            return Err(Error::corrupt("btrfs chunk", key.offset, "it overlaps another one"));
        }
        self.0.insert(at, chunk);
        Ok(())
    }

    pub fn all(&self) -> &[Chunk] {
        &self.0
    }

    /// The chunk that holds all of these logical bytes.
    pub fn find(&self, logical: u64, length: u64) -> Option<&Chunk> {
        let chunk = &self.0[self.0.partition_point(|chunk| chunk.logical <= logical).checked_sub(1)?];
        let end = logical.checked_add(length)?;
        (end <= chunk.logical + chunk.length).then_some(chunk)
    }

    /// Offsets in the volume: of the first copy, and of the second.
    pub fn copies(&self, logical: u64, length: u64) -> Result<(u64, Option<u64>)> {
        let chunk = self.find(logical, length);
        let chunk = chunk.ok_or_else(|| Error::corrupt("btrfs address", logical, "no chunk holds it"))?;
        let inside = logical - chunk.logical;
        Ok((chunk.first + inside, chunk.second.map(|second| second + inside)))
    }
}

fn decode(volume: Volume, superblock: &Superblock, key: Key, item: &[u8]) -> Result<Chunk> {
    let corrupt = |why: String| Err(Error::corrupt("btrfs chunk", key.offset, why));
    if key.kind != CHUNK_ITEM || item.len() < HEADER_BYTES + STRIPE_BYTES {
        return corrupt(format!("{} bytes under a key of type {}", item.len(), key.kind));
    }
    let (logical, length, kind, num_stripes) = (key.offset, le64(item, 0), le64(item, 24), le16(item, 44));
    let stripes = match kind & PROFILES {
        0 => 1,
        DUP => 2,
        profile => return Err(Error::unsupported(format!("btrfs chunk profile {profile:#x}"))),
    };
    if num_stripes != stripes || item.len() != HEADER_BYTES + usize::from(stripes) * STRIPE_BYTES {
        return corrupt(format!("{num_stripes} stripes in {} bytes", item.len()));
    }
    let aligned = |value: u64| value.is_multiple_of(superblock.sector_bytes.into());
    if length == 0 || !aligned(logical) || !aligned(length) || logical.checked_add(length).is_none() {
        return corrupt(format!("{length} bytes"));
    }
    let mut offsets = [0; 2];
    for (stripe, offset) in item[HEADER_BYTES..].chunks_exact(STRIPE_BYTES).zip(&mut offsets) {
        *offset = le64(stripe, 8);
        if le64(stripe, 0) != superblock.device || stripe[16..] != superblock.device_uuid {
            return Err(Error::unsupported("btrfs with chunks on another device"));
        }
        if !aligned(*offset) || offset.checked_add(length).is_none_or(|end| end > volume.length) {
            return corrupt(format!("{length} bytes at {offset} of a volume of {}", volume.length));
        }
    }
    Ok(Chunk { logical, length, first: offsets[0], second: (stripes == 2).then_some(offsets[1]) })
}
