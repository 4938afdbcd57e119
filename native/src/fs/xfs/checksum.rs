//! What every metadata block of version 5 carries: a CRC-32C (kept little-endian), its own address, the file
//! system's UUID, and its owner. A block that is right but elsewhere or someone else's is refused like a wrong one.

use crate::base::bytes::{be32, be64, le32};
use crate::base::error::{Error, Result};

/// Offsets of the four.
pub struct Seal {
    pub crc: usize,
    pub address: usize,
    pub uuid: usize,
    pub owner: usize,
    /// A group's number has 32 bits, an inode's 64.
    pub wide_owner: bool,
}

pub const GROUP_TREE: Seal = Seal { crc: 52, address: 16, uuid: 32, owner: 48, wide_owner: false };
pub const FILE_TREE: Seal = Seal { crc: 64, address: 24, uuid: 40, owner: 56, wide_owner: true };
pub const DIRECTORY: Seal = Seal { crc: 4, address: 8, uuid: 24, owner: 40, wide_owner: true };
pub const ATTRIBUTES: Seal = Seal { crc: 12, address: 16, uuid: 32, owner: 48, wide_owner: true };
/// Remote attribute values and symbolic links.
pub const REMOTE: Seal = Seal { crc: 12, address: 40, uuid: 16, owner: 32, wide_owner: true };

/// Addresses count sectors of this size, whatever the device has.
const ADDRESS_BYTES: u64 = 512;

/// CRC-32C of all bytes with the field itself as zeros.
pub fn holds(bytes: &[u8], at: usize) -> bool {
    let sum = crc32c::crc32c(&bytes[..at]);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    crc32c::crc32c_append(sum, &bytes[at + 4..]) == le32(bytes, at)
}

/// `at` is the block's byte offset in the volume, `uuid` the file system's.
pub fn verify(uuid: &[u8; 16], what: &'static str, bytes: &[u8], at: u64, owner: u64, seal: &Seal) -> Result<()> {
    let refuse = |why: &str| Err(Error::corrupt(what, at, why));
    if !holds(bytes, seal.crc) {
        return refuse("the checksum does not match");
    }
    if be64(bytes, seal.address) != at / ADDRESS_BYTES {
        return refuse("it belongs elsewhere");
    }
    if bytes[seal.uuid..seal.uuid + 16] != *uuid {
        return refuse("it belongs to another file system");
    }
    let named = if seal.wide_owner { be64(bytes, seal.owner) } else { u64::from(be32(bytes, seal.owner)) };
    if named != owner {
        return refuse("it belongs to another owner");
    }
    Ok(())
}
