//! An inode's bytes (`struct xfs_dinode`, versions 1 to 3) into fields and forks.

use super::checksum;
use super::superblock::Superblock;
use crate::base::bytes::{be16, be32, be64};
use crate::base::error::{Error, Result};
use crate::fs::volume_map::{Kind, Timestamp};

const MAGIC: &[u8; 2] = b"IN";
const CRC_AT: usize = 100;
const LITERAL_AT: usize = 100;
const LITERAL_AT_3: usize = 176;
const FLAG_REALTIME: u16 = 1;
const FLAG2_BIGTIME: u64 = 8;
const FLAG2_LARGE_COUNTS: u64 = 16;
/// A bigtime counts nanoseconds from 2^31 seconds before 1970.
const BIGTIME_EPOCH: i64 = -(1 << 31);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Device,
    Local,
    Extents,
    Tree,
}

/// One of an inode's two: content, or attributes.
#[derive(Clone, Copy, Debug)]
pub struct Fork<'a> {
    pub format: Format,
    pub bytes: &'a [u8],
    pub extents: u64,
}

#[derive(Debug)]
pub struct Inode<'a> {
    pub number: u64,
    pub kind: Kind,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    pub size: u64,
    pub generation: u32,
    pub modified: Timestamp,
    pub changed: Timestamp,
    /// Zero before version 3.
    pub created: Timestamp,
    pub data: Fork<'a>,
    pub attributes: Option<Fork<'a>>,
}

fn corrupt(number: u64, why: impl Into<String>) -> Error {
    Error::corrupt("xfs inode", number, why)
}

/// Its link count, before anything else is believed: 0 is an orphan.
pub fn links(raw: &[u8]) -> u32 {
    if raw[4] == 1 { u32::from(be16(raw, 6)) } else { be32(raw, 16) }
}

impl<'a> Inode<'a> {
    /// `raw` has the superblock's inode size.
    pub fn decode(superblock: &Superblock, number: u64, raw: &'a [u8]) -> Result<Self> {
        let di_mode = be16(raw, 2);
        let di_version = raw[4];
        let di_size = be64(raw, 56);
        let di_forkoff = usize::from(raw[82]) * 8;
        let di_flags = be16(raw, 90);
        if &raw[..2] != MAGIC {
            return Err(corrupt(number, "no magic number"));
        }
        if (di_version == 3) != superblock.v5 || !(1..=3).contains(&di_version) {
            return Err(corrupt(number, format!("version {di_version}")));
        }
        if superblock.v5 {
            verify(superblock, number, raw)?;
        }
        if di_size > i64::MAX as u64 {
            return Err(corrupt(number, "a negative size"));
        }
        if di_flags & FLAG_REALTIME != 0 {
            return Err(corrupt(number, "its content is on a real-time device"));
        }
        let literal = &raw[if superblock.v5 { LITERAL_AT_3 } else { LITERAL_AT }..];
        if di_forkoff >= literal.len() {
            return Err(corrupt(number, format!("its attributes start at {di_forkoff}")));
        }
        let di_flags2 = if superblock.v5 { be64(raw, 120) } else { 0 };
        let (extents, attribute_extents) = match di_flags2 & FLAG2_LARGE_COUNTS {
            0 => (u64::from(be32(raw, 76)), u64::from(be16(raw, 80))),
            _ => (be64(raw, 24), u64::from(be32(raw, 76))),
        };
        let (data, attributes) = literal.split_at(if di_forkoff == 0 { literal.len() } else { di_forkoff });
        let attributes = match di_forkoff {
            0 => None,
            _ => Some(Fork { format: format(number, raw[83])?, bytes: attributes, extents: attribute_extents }),
        };
        let time = |at: usize| timestamp(be64(raw, at), di_flags2 & FLAG2_BIGTIME != 0);
        let kind = Kind::of_mode(di_mode.into()).ok_or_else(|| corrupt(number, format!("mode {di_mode:#o}")))?;
        Ok(Self {
            number,
            kind,
            mode: di_mode & 0o7777,
            uid: be32(raw, 8),
            gid: be32(raw, 12),
            links: links(raw),
            size: di_size,
            generation: be32(raw, 92),
            modified: time(40),
            changed: time(48),
            created: if superblock.v5 { time(144) } else { Timestamp::default() },
            data: Fork { format: format(number, raw[5])?, bytes: data, extents },
            attributes,
        })
    }

    /// 14 bits of major, 18 of minor, into the value of `makedev`.
    pub fn device(&self) -> u64 {
        let dev = u64::from(be32(self.data.bytes, 0));
        let (major, minor) = (dev >> 18, dev & 0x3ffff);
        (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12 | (major & !0xfff) << 32
    }
}

fn verify(superblock: &Superblock, number: u64, raw: &[u8]) -> Result<()> {
    let (di_ino, di_uuid) = (be64(raw, 152), &raw[160..176]);
    if !checksum::holds(raw, CRC_AT) {
        return Err(corrupt(number, "the checksum does not match"));
    }
    if di_ino != number || di_uuid != superblock.meta_uuid {
        return Err(corrupt(number, format!("it calls itself {di_ino}, or belongs to another file system")));
    }
    Ok(())
}

fn format(number: u64, value: u8) -> Result<Format> {
    Ok(match value {
        0 => Format::Device,
        1 => Format::Local,
        2 => Format::Extents,
        3 => Format::Tree,
        _ => return Err(corrupt(number, format!("a fork of format {value}"))),
    })
}

/// Seconds (signed) and nanoseconds of 32 bits each, or nanoseconds of 64 bits.
fn timestamp(value: u64, bigtime: bool) -> Timestamp {
    const NANOSECONDS: u64 = 1_000_000_000;
    if bigtime {
        let seconds = (value / NANOSECONDS) as i64 + BIGTIME_EPOCH;
        return Timestamp { seconds, nanoseconds: (value % NANOSECONDS) as u32 };
    }
    let nanoseconds = value as u32;
    let nanoseconds = if u64::from(nanoseconds) < NANOSECONDS { nanoseconds } else { 0 };
    Timestamp { seconds: i64::from((value >> 32) as i32), nanoseconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_2038() {
        let time = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
        assert_eq!(timestamp(0xffff_ffff_0000_0007, false), time(-1, 7));
        assert_eq!(timestamp(0x0000_0001_ffff_ffff, false), time(1, 0));
        assert_eq!(timestamp(0, true), time(-(1 << 31), 0));
        assert_eq!(timestamp((1 << 31) * 1_000_000_000 + 5, true), time(0, 5));
        assert_eq!(timestamp(u64::MAX, true).seconds, 16_299_260_425);
    }
}
