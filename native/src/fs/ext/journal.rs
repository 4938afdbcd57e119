//! The journal of a volume that was cleanly unmounted ("Journal (jbd2)"): behind its superblock it holds only what is
//! in its place already, and nobody reads it again.

use super::extents;
use super::inode::{FLAG_EXTENTS, Inode};
use super::reader::Ext;
use crate::base::bytes::{be32, le16};
use crate::base::error::Result;
use crate::base::ranges::ByteRange;
use crate::fs::volume_map::ExtentKind;

const MAGIC: u32 = 0xC03B_3998;
/// A superblock of version 1 or 2.
const SUPERBLOCKS: [u32; 2] = [3, 4];

/// The blocks behind its superblock; empty where there is none, or where it is not certain to be empty.
pub fn idle(ext: &Ext) -> Vec<ByteRange> {
    match ext.superblock.journal_inode {
        Some(number) if !ext.superblock.dirty => read(ext, number).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn read(ext: &Ext, number: u32) -> Result<Vec<ByteRange>> {
    let (raw, at) = ext.read_inode(number)?;
    let inode = Inode::decode(&ext.superblock, number, &raw, at)?;
    // Where it lies is said twice. What is below the inode is said once, and must have a checksum.
    let flat = !inode.has(FLAG_EXTENTS) || le16(inode.block, 6) == 0;
    if ext.superblock.journal_blocks.as_slice() != inode.block || !(flat || ext.superblock.metadata_checksums()) {
        return Ok(Vec::new());
    }
    let extents = extents::read(ext, &inode)?;
    let block_bytes = u64::from(ext.superblock.block_bytes);
    let Some(first) = extents.first() else { return Ok(Vec::new()) };
    let raw = ext.volume.read_vec(first.disk - ext.volume.start, 1024)?;
    let (h_magic, h_blocktype) = (be32(&raw, 0x0), be32(&raw, 0x4));
    let (s_blocksize, s_start) = (be32(&raw, 0xc), be32(&raw, 0x1c));
    let whole = extents.iter().all(|extent| extent.kind == ExtentKind::Plain) && first.logical == 0;
    let empty = h_magic == MAGIC && SUPERBLOCKS.contains(&h_blocktype) && s_start == 0;
    if !whole || !empty || u64::from(s_blocksize) != block_bytes {
        return Ok(Vec::new());
    }
    let mut ranges: Vec<ByteRange> =
        extents.iter().map(|extent| ByteRange { start: extent.disk, length: extent.length }).collect();
    ranges[0] = ByteRange { start: first.disk + block_bytes, length: first.length - block_bytes };
    Ok(ranges)
}
