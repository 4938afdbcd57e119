//! Extended attributes: short form in the inode, or leaf blocks below nodes, with long values in blocks of their
//! own. Level falls by one and every block is counted, so the walk ends.

use super::acl;
use super::bmap::{self, BlockRun};
use super::checksum::{ATTRIBUTES, REMOTE};
use super::inode::{Fork, Format, Inode};
use super::reader::Xfs;
use crate::base::bytes::{be16, be32};
use crate::base::error::{Error, Result};
use crate::base::limits;

const WHAT: &str = "xfs attributes";
const FLAG_LOCAL: u8 = 0x1;
const FLAG_TRUSTED: u8 = 0x2;
const FLAG_SECURE: u8 = 0x4;
/// Parent pointers are the directory's business; an incomplete one is being written or removed.
const FLAGS_HIDDEN: u8 = 0x88;
const LEAF_MAGIC: (u16, u16) = (0xfbee, 0x3bee);
const NODE_MAGIC: (u16, u16) = (0xfebe, 0x3ebe);
const REMOTE_HEADER_BYTES: usize = 56;
/// The kernel's XATTR_SIZE_MAX.
const VALUE_BYTES_MOST: u32 = 64 * limits::KIB as u32;

pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Appends what can be read; fails with the first block, name or value that cannot.
pub fn read(xfs: &Xfs, inode: &Inode, fork: &Fork, pairs: &mut Pairs) -> Result<()> {
    let mut found = Found { xfs, inode, pairs, bytes: 0 };
    match fork.format {
        Format::Local => found.short_form(fork.bytes),
        Format::Extents if fork.extents == 0 => Ok(()),
        _ => {
            let runs = bmap::read(xfs, inode, fork)?;
            found.tree(&runs, 0, None)
        }
    }
}

struct Found<'a> {
    xfs: &'a Xfs<'a>,
    inode: &'a Inode<'a>,
    pairs: &'a mut Pairs,
    bytes: usize,
}

impl Found<'_> {
    fn corrupt(&self, why: impl Into<String>) -> Error {
        Error::corrupt(WHAT, self.inode.number, why)
    }

    /// totsize u16, count u8; then namelen u8, valuelen u8, flags u8, name, value.
    fn short_form(&mut self, area: &[u8]) -> Result<()> {
        let cut = || Error::corrupt(WHAT, self.inode.number, "their short form is cut");
        let (header, mut rest) = area.split_at_checked(4).ok_or_else(cut)?;
        for _ in 0..header[2] {
            let (&[name_length, value_length, flags], content) = rest.split_first_chunk().ok_or_else(cut)?;
            let (name, content) = content.split_at_checked(usize::from(name_length)).ok_or_else(cut)?;
            let (value, content) = content.split_at_checked(usize::from(value_length)).ok_or_else(cut)?;
            self.take(flags, name, value.to_vec())?;
            rest = content;
        }
        Ok(())
    }

    /// The block at `logical` is a leaf at level 0; the root may be of any level.
    fn tree(&mut self, runs: &[BlockRun], logical: u64, level: Option<u16>) -> Result<()> {
        let superblock = &self.xfs.superblock;
        let (block, at) = bmap::read_blocks(self.xfs, runs, logical, 1)?;
        let pick = |magic: (u16, u16)| if superblock.v5 { magic.1 } else { magic.0 };
        let magic = be16(&block, 8);
        superblock.verify(WHAT, &block, at, self.inode.number, &ATTRIBUTES)?;
        if magic == pick(LEAF_MAGIC) && level.unwrap_or(0) == 0 {
            return self.leaf(runs, &block);
        }
        let (header, entries) = if superblock.v5 { (56, 64) } else { (12, 16) };
        let (count, found) = (usize::from(be16(&block, header)), be16(&block, header + 2));
        let level = level.unwrap_or(found);
        let known = magic == pick(NODE_MAGIC) && found == level && (1..=limits::XFS_ATTRIBUTE_DEPTH).contains(&level);
        let entries = block.get(entries..entries + count * 8).filter(|_| known);
        let entries = entries.ok_or_else(|| self.corrupt(format!("no node or leaf at block {logical}")))?;
        for entry in entries.chunks_exact(8) {
            self.tree(runs, u64::from(be32(entry, 4)), Some(level - 1))?;
        }
        Ok(())
    }

    /// hashval u32, nameidx u16, flags u8, padding u8 each.
    fn leaf(&mut self, runs: &[BlockRun], block: &[u8]) -> Result<()> {
        let (header, entries) = if self.xfs.superblock.v5 { (56, 80) } else { (12, 32) };
        let count = usize::from(be16(block, header));
        let Some(entries) = block.get(entries..entries + count * 8) else {
            return Err(self.corrupt(format!("a leaf of {count} entries")));
        };
        for entry in entries.chunks_exact(8) {
            let (nameidx, flags) = (usize::from(be16(entry, 4)), entry[6]);
            if flags & FLAGS_HIDDEN != 0 {
                continue;
            }
            let cut = || Error::corrupt(WHAT, self.inode.number, "a name or value outside its leaf");
            let area = block.get(nameidx..).ok_or_else(cut)?;
            if flags & FLAG_LOCAL != 0 {
                let (head, content) = area.split_at_checked(3).ok_or_else(cut)?;
                let (name, content) = content.split_at_checked(usize::from(head[2])).ok_or_else(cut)?;
                let value = content.get(..usize::from(be16(head, 0))).ok_or_else(cut)?;
                self.take(flags, name, value.to_vec())?;
            } else {
                let (head, content) = area.split_at_checked(9).ok_or_else(cut)?;
                let name = content.get(..usize::from(head[8])).ok_or_else(cut)?;
                let value = self.remote(runs, be32(head, 0), be32(head, 4))?;
                self.take(flags, name, value)?;
            }
        }
        Ok(())
    }

    /// Version 5: each block has a header with offset u32, and bytes u32, before its part.
    fn remote(&self, runs: &[BlockRun], first: u32, length: u32) -> Result<Vec<u8>> {
        if length > VALUE_BYTES_MOST {
            return Err(self.corrupt(format!("a value of {length} bytes")));
        }
        let block_bytes = self.xfs.superblock.block_bytes as usize;
        let mut value = Vec::new();
        let mut logical = u64::from(first);
        while value.len() < length as usize {
            let wanted = length as usize - value.len();
            let (block, at) = bmap::read_blocks(self.xfs, runs, logical, 1)?;
            if self.xfs.superblock.v5 {
                let (offset, bytes) = (be32(&block, 4) as usize, be32(&block, 8) as usize);
                let whole = wanted.min(block_bytes - REMOTE_HEADER_BYTES);
                if &block[..4] != b"XARM" || offset != value.len() || bytes != whole {
                    return Err(self.corrupt("a value's block contradicts itself"));
                }
                self.xfs.superblock.verify(WHAT, &block, at, self.inode.number, &REMOTE)?;
                value.extend_from_slice(&block[REMOTE_HEADER_BYTES..REMOTE_HEADER_BYTES + whole]);
            } else {
                value.extend_from_slice(&block[..wanted.min(block_bytes)]);
            }
            logical += 1;
        }
        Ok(value)
    }

    fn take(&mut self, flags: u8, name: &[u8], value: Vec<u8>) -> Result<()> {
        if flags & FLAGS_HIDDEN != 0 {
            return Ok(());
        }
        let size = name.len() + value.len();
        self.bytes += size;
        if self.bytes > limits::XATTR_BYTES || name.is_empty() || name.contains(&0) {
            return Err(self.corrupt("an empty name, or more than are read of one file"));
        }
        self.xfs.budget.attribute_bytes(size)?;
        let prefix: &[u8] = match flags & (FLAG_TRUSTED | FLAG_SECURE) {
            0 => b"user.",
            FLAG_TRUSTED => b"trusted.",
            FLAG_SECURE => b"security.",
            _ => return Err(self.corrupt("a name in two namespaces")),
        };
        let acl = match (prefix, name) {
            (b"trusted.", b"SGI_ACL_FILE") => Some(b"system.posix_acl_access".to_vec()),
            (b"trusted.", b"SGI_ACL_DEFAULT") => Some(b"system.posix_acl_default".to_vec()),
            _ => None,
        };
        let pair = match (acl, acl::to_kernel(&value)) {
            (Some(full), Some(value)) => (full, value),
            _ => ([prefix, name].concat(), value),
        };
        self.pairs.push(pair);
        Ok(())
    }
}
