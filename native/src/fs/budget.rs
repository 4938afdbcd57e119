//! Work that is left for the whole volume, so that many inodes cannot each claim the same blocks.

use std::cell::Cell;

use crate::base::error::{Error, Result};
use crate::base::limits;

pub struct Budget {
    /// Whose, for errors: "ext volume".
    what: &'static str,
    blocks: Cell<u64>,
    extents: Cell<u64>,
    attribute_bytes: Cell<u64>,
}

impl Budget {
    pub fn new(what: &'static str, blocks: u64, extents: u64) -> Self {
        let attribute_bytes = Cell::new(limits::VOLUME_XATTR_BYTES as u64);
        Self { what, blocks: Cell::new(blocks), extents: Cell::new(extents), attribute_bytes }
    }

    /// Nodes of trees, and blocks of directories and attributes.
    pub fn blocks(&self, count: u64) -> Result<()> {
        self.spend(&self.blocks, count, "the files of the volume have more metadata blocks than it has blocks")
    }

    pub fn extents(&self, count: u64) -> Result<()> {
        self.spend(&self.extents, count, "the files of the volume have more extents than it has blocks to hold them")
    }

    pub fn attribute_bytes(&self, count: usize) -> Result<()> {
        self.spend(&self.attribute_bytes, count as u64, "more extended attributes than are read of one volume")
    }

    fn spend(&self, left: &Cell<u64>, count: u64, why: &str) -> Result<()> {
        let rest = left.get().checked_sub(count).ok_or_else(|| Error::corrupt(self.what, 0, why))?;
        left.set(rest);
        Ok(())
    }
}
