//! The checksum in front of the superblock and of every node: 32 bytes, over all that follows them.

use crate::base::bytes::le32;

pub const CHECKSUM_BYTES: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    Crc32c,
    Sha256,
    /// xxhash64 or BLAKE2b: not computed here; all other checks still hold.
    Unverified,
}

impl Checksum {
    pub fn of_type(csum_type: u16) -> Option<Self> {
        match csum_type {
            0 => Some(Self::Crc32c),
            2 => Some(Self::Sha256),
            1 | 3 => Some(Self::Unverified),
            _ => None,
        }
    }

    /// `block` begins with its checksum.
    pub fn holds(self, block: &[u8]) -> bool {
        let (sum, content) = block.split_at(CHECKSUM_BYTES);
        match self {
            Self::Crc32c => le32(sum, 0) == crc32c::crc32c(content),
            Self::Sha256 => aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content).as_ref() == sum,
            Self::Unverified => true,
        }
    }
}
