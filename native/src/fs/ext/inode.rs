//! One inode ("Index Nodes"): 128 bytes and, where inodes are larger, `i_extra_isize` bytes of newer fields, then
//! room for extended attributes.

use super::checksum::crc32c;
use super::superblock::Superblock;
use crate::base::bytes::{le16, le32};
use crate::base::error::{Error, Result};
use crate::fs::volume_map::{Kind, Timestamp};

const BASE_BYTES: usize = 128;
const I_BLOCK_AT: usize = 0x28;
pub const I_BLOCK_BYTES: usize = 60;
const CHECKSUM_LO_AT: usize = 0x7c;
const CHECKSUM_HI_AT: usize = 0x82;

pub const ROOT_INODE: u32 = 2;

pub const FLAG_ENCRYPT: u32 = 0x800;
pub const FLAG_EXTENTS: u32 = 0x8_0000;
pub const FLAG_EA_INODE: u32 = 0x20_0000;
pub const FLAG_INLINE_DATA: u32 = 0x1000_0000;

#[derive(Clone, Copy, Debug)]
pub struct Inode<'a> {
    pub number: u32,
    pub generation: u32,
    pub kind: Kind,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    pub size: u64,
    pub flags: u32,
    /// `I_BLOCK_BYTES`: extent root, block pointers, a short target, a device number or inline data.
    pub block: &'a [u8],
    /// The block of extended attributes, or 0.
    pub file_acl: u64,
    pub modified: Timestamp,
    pub changed: Timestamp,
    pub created: Timestamp,
    /// What follows the newer fields; attributes, if it starts with their magic.
    pub attributes: &'a [u8],
    /// Where the checksums of this inode's own blocks start.
    pub checksum_seed: u32,
}

/// i_links_count alone, which says whether the rest means anything. `raw` is a whole inode.
pub fn links(raw: &[u8]) -> u16 {
    le16(raw, 0x1a)
}

impl<'a> Inode<'a> {
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// `raw` are s_inode_size bytes, `at` is where they lie.
    pub fn decode(superblock: &Superblock, number: u32, raw: &'a [u8], at: u64) -> Result<Self> {
        let i_mode = le16(raw, 0x0);
        let i_size_lo = le32(raw, 0x4);
        let i_flags = le32(raw, 0x20);
        let i_generation = le32(raw, 0x64);
        let i_size_high = le32(raw, 0x6c);
        let i_extra_isize = if raw.len() > BASE_BYTES { usize::from(le16(raw, 0x80)) } else { 0 };

        let corrupt = |why: String| Err(Error::corrupt("inode", at, why));
        if i_extra_isize > raw.len() - BASE_BYTES || i_extra_isize % 4 != 0 {
            return corrupt(format!("i_extra_isize is {i_extra_isize}"));
        }
        let seed = crc32c(superblock.checksum_seed, &number.to_le_bytes());
        let checksum_seed = crc32c(seed, &i_generation.to_le_bytes());
        let fields_end = BASE_BYTES + i_extra_isize;
        if superblock.metadata_checksums() && !checksum_holds(checksum_seed, raw, fields_end) {
            return corrupt("its checksum does not match".into());
        }
        let Some(kind) = Kind::of_mode(i_mode.into()) else { return corrupt(format!("i_mode is {i_mode:#o}")) };
        let large = kind == Kind::File || (kind == Kind::Directory && superblock.large_dir);
        let size = u64::from(i_size_lo) | if large { u64::from(i_size_high) << 32 } else { 0 };
        if size > i64::MAX as u64 {
            return corrupt(format!("its size is {size}"));
        }
        let wide = superblock.descriptor_bytes >= 64;
        let i_file_acl_high = if wide { u64::from(le16(raw, 0x76)) << 32 } else { 0 };
        // Each newer field is there when i_extra_isize reaches past it.
        let extra = |at: usize| if at + 4 <= fields_end { le32(raw, at) } else { 0 };
        Ok(Self {
            number,
            generation: i_generation,
            kind,
            mode: i_mode & 0o7777,
            uid: u32::from(le16(raw, 0x2)) | u32::from(le16(raw, 0x78)) << 16,
            gid: u32::from(le16(raw, 0x18)) | u32::from(le16(raw, 0x7a)) << 16,
            links: u32::from(links(raw)),
            size,
            flags: i_flags,
            block: &raw[I_BLOCK_AT..I_BLOCK_AT + I_BLOCK_BYTES],
            file_acl: u64::from(le32(raw, 0x68)) | i_file_acl_high,
            modified: timestamp(le32(raw, 0x10), extra(0x88)),
            changed: timestamp(le32(raw, 0xc), extra(0x84)),
            created: timestamp(extra(0x90), extra(0x94)),
            attributes: &raw[fields_end..],
            checksum_seed,
        })
    }

    /// i_block of a device node: the old encoding of 8 and 8 bits, or after an empty word the newer of 12 and 20.
    pub fn device(&self) -> u64 {
        let (old, new) = (le32(self.block, 0), le32(self.block, 4));
        let (major, minor) = match old {
            0 => ((new & 0xf_ff00) >> 8, (new & 0xff) | ((new >> 12) & 0xf_ff00)),
            old => ((old >> 8) & 0xff, old & 0xff),
        };
        let (major, minor) = (u64::from(major), u64::from(minor));
        (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12) | ((major & !0xfff) << 32)
    }
}

/// The checksum's own fields count as zeros. Its high half is there when i_extra_isize reaches past it.
fn checksum_holds(seed: u32, raw: &[u8], fields_end: usize) -> bool {
    let low = le16(raw, CHECKSUM_LO_AT);
    let sum = crc32c(crc32c(seed, &raw[..CHECKSUM_LO_AT]), &[0, 0]);
    if fields_end < CHECKSUM_HI_AT + 2 {
        return crc32c(sum, &raw[CHECKSUM_LO_AT + 2..]) as u16 == low;
    }
    let sum = crc32c(crc32c(sum, &raw[CHECKSUM_LO_AT + 2..CHECKSUM_HI_AT]), &[0, 0]);
    let high = le16(raw, CHECKSUM_HI_AT);
    crc32c(sum, &raw[CHECKSUM_HI_AT + 2..]) == u32::from(low) | u32::from(high) << 16
}

/// The lower two bits of the extra word carry the seconds past 2038, the others are nanoseconds.
fn timestamp(seconds: u32, extra: u32) -> Timestamp {
    let epoch = i64::from(extra & 3) << 32;
    let nanoseconds = extra >> 2;
    Timestamp {
        seconds: i64::from(seconds as i32) + epoch,
        nanoseconds: if nanoseconds < 1_000_000_000 { nanoseconds } else { 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::super::superblock::tests::plain;
    use super::*;
    use crate::disk::volume::Volume;

    fn superblock() -> Superblock {
        let mut bytes = vec![0; 1 << 20];
        bytes[1024..2048].copy_from_slice(&plain());
        Superblock::read(Volume::whole(&bytes)).unwrap()
    }

    #[test]
    fn times_past_2038_and_before_1970() {
        assert_eq!(timestamp(0xffff_ffff, 0).seconds, -1);
        assert_eq!(timestamp(0x8000_0000, 1).seconds, 0x8000_0000);
        assert_eq!(timestamp(5, 123_456_789 << 2 | 2), Timestamp { seconds: 5 + (2 << 32), nanoseconds: 123_456_789 });
    }

    #[test]
    fn devices_have_two_encodings() {
        let superblock = superblock();
        let mut raw = vec![0; 256];
        raw[1] = 0x20;
        raw[I_BLOCK_AT..I_BLOCK_AT + 4].copy_from_slice(&0x0501u32.to_le_bytes());
        assert_eq!(Inode::decode(&superblock, 12, &raw, 0).unwrap().device(), 0x501);
        raw[I_BLOCK_AT..I_BLOCK_AT + 4].fill(0);
        // Major 259, minor 0x12345.
        raw[I_BLOCK_AT + 4..I_BLOCK_AT + 8].copy_from_slice(&(0x45u32 | 259 << 8 | 0x123 << 20).to_le_bytes());
        assert_eq!(Inode::decode(&superblock, 12, &raw, 0).unwrap().device(), 0x45 | 259 << 8 | 0x123 << 20);
    }

    #[test]
    fn contradictions_are_refused() {
        let superblock = superblock();
        let mut raw = vec![0; 256];
        assert!(Inode::decode(&superblock, 12, &raw, 0).is_err(), "no kind");
        raw[1] = 0x80;
        assert!(Inode::decode(&superblock, 12, &raw, 0).is_ok());
        raw[0x80] = 132;
        assert!(Inode::decode(&superblock, 12, &raw, 0).is_err(), "i_extra_isize");
        raw[0x80] = 32;
        raw[0x6f] = 0x80;
        assert!(Inode::decode(&superblock, 12, &raw, 0).is_err(), "negative size");
    }
}
