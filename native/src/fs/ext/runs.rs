//! What the extent tree and the block map lead to: runs of blocks in logical order, which become extents.

use super::reader::Ext;
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::fs::volume_map::{Extent, ExtentKind};

/// Logical blocks are 32 bits.
pub const LOGICAL_END: u64 = 1 << 32;

/// Collects runs of blocks in logical order.
pub struct BlockRuns<'a> {
    pub ext: &'a Ext<'a>,
    encrypted: bool,
    extents: Vec<Extent>,
    /// The first logical block that may follow.
    next: u64,
}

impl<'a> BlockRuns<'a> {
    /// Of `encrypted` files the bytes are ciphertext.
    pub fn new(ext: &'a Ext<'a>, encrypted: bool) -> Self {
        Self { ext, encrypted, extents: Vec::new(), next: 0 }
    }

    /// Absolute and sorted.
    pub fn into_extents(mut self) -> Vec<Extent> {
        self.extents.shrink_to_fit();
        self.extents
    }

    pub fn push(&mut self, logical: u64, block: u64, count: u64, unwritten: bool) -> Result<()> {
        let superblock = &self.ext.superblock;
        if logical < self.next || logical + count > LOGICAL_END {
            return Err(Error::corrupt("extents", block, format!("logical block {logical} is out of order")));
        }
        if !superblock.holds(block, count) {
            return Err(Error::corrupt("extents", block, format!("{count} blocks are outside the file system")));
        }
        self.ext.in_use.claim(block, count);
        self.next = logical + count;
        let extent = Extent {
            kind: match (unwritten, self.encrypted) {
                (true, _) => ExtentKind::Unwritten,
                (false, true) => ExtentKind::Encrypted,
                (false, false) => ExtentKind::Plain,
            },
            logical: superblock.bytes(logical),
            disk: self.ext.volume.absolute(superblock.bytes(block)),
            length: superblock.bytes(count),
        };
        if let Some(last) = self.extents.last_mut() {
            let touching = last.logical + last.length == extent.logical && last.disk + last.length == extent.disk;
            if touching && last.kind == extent.kind {
                last.length += extent.length;
                return Ok(());
            }
        }
        if self.extents.len() >= limits::STREAM_EXTENTS {
            return Err(Error::corrupt("extents", block, "more extents than are read of one file"));
        }
        self.ext.budget.extents(1)?;
        self.extents.push(extent);
        Ok(())
    }

    /// A block of the map itself: counted, because each is used once only.
    pub fn node(&self, block: u64) -> Result<Vec<u8>> {
        let superblock = &self.ext.superblock;
        if !superblock.holds(block, 1) {
            return Err(Error::corrupt("extents", block, "a node is outside the file system"));
        }
        self.ext.budget.blocks(1)?;
        self.ext.in_use.claim(block, 1);
        self.ext.volume.read_vec(superblock.bytes(block), superblock.block_bytes as usize)
    }
}
