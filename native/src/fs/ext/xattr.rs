//! Extended attributes ("Extended Attributes"): after the newer fields of an inode, and in one block that several
//! inodes may share. A large value may fill an inode of its own.

use super::checksum::crc32c;
use super::inode::{FLAG_EA_INODE, Inode};
use super::reader::Ext;
use super::{acl, extents};
use crate::base::bytes::{le16, le32};
use crate::base::error::{Error, Result};
use crate::base::limits;

const MAGIC: u32 = 0xea02_0000;
const BLOCK_HEADER_BYTES: usize = 32;
const H_CHECKSUM_AT: usize = 16;
const ENTRY_BYTES: usize = 16;
/// The kernel's XATTR_SIZE_MAX.
const VALUE_BYTES_MOST: usize = 64 * limits::KIB;

const INDEX_POSIX_ACL_ACCESS: u8 = 2;
const INDEX_POSIX_ACL_DEFAULT: u8 = 3;
const INDEX_SYSTEM: u8 = 7;
/// e_name_index to prefix. What the kernel does not list either (encryption contexts) has none here.
const PREFIXES: [(u8, &[u8]); 8] = [
    (1, b"user."),
    (INDEX_POSIX_ACL_ACCESS, b"system.posix_acl_access"),
    (INDEX_POSIX_ACL_DEFAULT, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
    (INDEX_SYSTEM, b"system."),
    (8, b"system.richacl"),
    (10, b"gnu."),
];

#[derive(Debug, Default)]
pub struct Attributes {
    /// Full names and values, ACLs in the kernel's form.
    pub pairs: Vec<(Vec<u8>, Vec<u8>)>,
    /// `system.data`: the bytes of an inline file or directory after the first 60.
    pub inline: Option<Vec<u8>>,
    bytes: usize,
}

/// Those in the inode itself.
pub fn read_body(ext: &Ext, inode: &Inode, found: &mut Attributes) -> Result<()> {
    match inode.attributes.split_at_checked(4) {
        Some((magic, area)) if le32(magic, 0) == MAGIC => parse(ext, inode, area, 0, found),
        _ => Ok(()),
    }
}

/// Those in the block that i_file_acl names.
pub fn read_block(ext: &Ext, inode: &Inode, found: &mut Attributes) -> Result<()> {
    if inode.file_acl == 0 {
        return Ok(());
    }
    let superblock = &ext.superblock;
    if !superblock.holds(inode.file_acl, 1) {
        return Err(corrupt(inode, format!("i_file_acl is {}", inode.file_acl)));
    }
    ext.in_use.claim(inode.file_acl, 1);
    let at = superblock.bytes(inode.file_acl);
    let block = ext.volume.read_vec(at, superblock.block_bytes as usize)?;
    let (h_magic, h_blocks, h_checksum) = (le32(&block, 0), le32(&block, 8), le32(&block, H_CHECKSUM_AT));
    if h_magic != MAGIC || h_blocks != 1 {
        return Err(corrupt(inode, format!("the block has magic {h_magic:#x} and h_blocks {h_blocks}")));
    }
    if superblock.metadata_checksums() {
        let sum = crc32c(superblock.checksum_seed, &inode.file_acl.to_le_bytes());
        let sum = crc32c(crc32c(sum, &block[..H_CHECKSUM_AT]), &[0; 4]);
        if crc32c(sum, &block[H_CHECKSUM_AT + 4..]) != h_checksum {
            return Err(corrupt(inode, "the checksum of the block does not match"));
        }
    }
    parse(ext, inode, &block, BLOCK_HEADER_BYTES, found)
}

fn corrupt(inode: &Inode, why: impl Into<String>) -> Error {
    Error::corrupt("extended attributes", u64::from(inode.number), why)
}

/// Entries from `at` up to four zero bytes; the offsets of values count from the start of `area`.
fn parse(ext: &Ext, inode: &Inode, area: &[u8], mut at: usize, found: &mut Attributes) -> Result<()> {
    while at + 4 <= area.len() && le32(area, at) != 0 {
        let Some(entry) = area.get(at..).filter(|rest| rest.len() >= ENTRY_BYTES) else {
            return Err(corrupt(inode, "the last entry is cut"));
        };
        let e_name_len = usize::from(entry[0]);
        let e_name_index = entry[1];
        let e_value_offs = usize::from(le16(entry, 2));
        let e_value_inum = le32(entry, 4);
        let e_value_size = le32(entry, 8) as usize;
        let Some(name) = entry.get(ENTRY_BYTES..ENTRY_BYTES + e_name_len) else {
            return Err(corrupt(inode, format!("a name of {e_name_len} bytes is cut")));
        };
        if e_value_size > VALUE_BYTES_MOST {
            return Err(corrupt(inode, format!("a value of {e_value_size} bytes")));
        }
        found.bytes += ENTRY_BYTES + e_name_len + e_value_size;
        if found.bytes > limits::XATTR_BYTES {
            return Err(corrupt(inode, format!("more than {} bytes", limits::XATTR_BYTES)));
        }
        ext.budget.attribute_bytes(ENTRY_BYTES + e_name_len + e_value_size)?;
        let value = if e_value_inum != 0 {
            read_value_inode(ext, inode, e_value_inum, e_value_size)?
        } else {
            let value = area.get(e_value_offs..).and_then(|rest| rest.get(..e_value_size));
            value.ok_or_else(|| corrupt(inode, "a value lies outside its area"))?.to_vec()
        };
        keep(inode, e_name_index, name, value, found)?;
        at += ENTRY_BYTES + e_name_len.next_multiple_of(4);
    }
    Ok(())
}

fn keep(inode: &Inode, index: u8, name: &[u8], value: Vec<u8>, found: &mut Attributes) -> Result<()> {
    if index == INDEX_SYSTEM && name == b"data" {
        found.inline = Some(value);
        return Ok(());
    }
    let Some((_, prefix)) = PREFIXES.iter().find(|(known, _)| *known == index) else { return Ok(()) };
    let value = match index {
        INDEX_POSIX_ACL_ACCESS | INDEX_POSIX_ACL_DEFAULT => {
            acl::to_kernel(&value).ok_or_else(|| corrupt(inode, "a POSIX ACL contradicts itself"))?
        }
        _ => value,
    };
    found.pairs.push(([*prefix, name].concat(), value));
    Ok(())
}

/// `size` is at most `VALUE_BYTES_MOST`.
fn read_value_inode(ext: &Ext, inode: &Inode, number: u32, size: usize) -> Result<Vec<u8>> {
    let (raw, at) = ext.read_inode(number)?;
    let holder = Inode::decode(&ext.superblock, number, &raw, at)?;
    if !holder.has(FLAG_EA_INODE) || holder.size != size as u64 {
        return Err(corrupt(inode, format!("inode {number} does not hold the value")));
    }
    let mut value = vec![0; size];
    for extent in extents::read(ext, &holder)? {
        let start = extent.logical.min(size as u64);
        let end = (extent.logical + extent.length).min(size as u64);
        ext.volume.read(extent.disk - ext.volume.start, &mut value[start as usize..end as usize])?;
    }
    Ok(value)
}
