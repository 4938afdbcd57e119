//! What every reader of a structure needs, and how much may still be read of the volume.

use std::cell::{Cell, RefCell};

use super::chunks::Chunks;
use super::ranges::Ranges;
use super::superblock::Superblock;
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::disk::volume::Volume;

/// Snapshots share nodes, and each of them walks them all: so many times the nodes that fit in the volume.
const NODES_FACTOR: u64 = 8;
/// A file has at least an inode item and a name in a leaf, about 400 bytes; snapshots share those too.
const BYTES_PER_FILE: u64 = 256;
/// Files of a small volume with many snapshots.
const FILES_LEAST: u64 = 1 << 16;

pub struct Btrfs<'a> {
    pub volume: Volume<'a>,
    pub superblock: Superblock,
    pub chunks: Chunks,
    nodes_left: Cell<u64>,
    attribute_bytes_left: Cell<u64>,
    /// Logical ranges that trees and files use, whatever the extent tree says.
    pub seen: RefCell<Ranges>,
}

impl<'a> Btrfs<'a> {
    /// With the chunks that the superblock names, which hold the tree of all others (chunk_tree.rs).
    pub fn new(volume: Volume<'a>, superblock: Superblock) -> Result<Self> {
        let nodes = (volume.length / u64::from(superblock.node_bytes)).saturating_mul(NODES_FACTOR);
        Ok(Self {
            chunks: Chunks::from_superblock(volume, &superblock)?,
            nodes_left: Cell::new(nodes),
            attribute_bytes_left: Cell::new(limits::VOLUME_XATTR_BYTES as u64),
            seen: RefCell::default(),
            volume,
            superblock,
        })
    }

    pub fn spend_node(&self) -> Result<()> {
        let why = "its trees have more nodes than are read of a volume of this size";
        let left = self.nodes_left.get().checked_sub(1).ok_or_else(|| Error::corrupt("btrfs volume", 0, why))?;
        self.nodes_left.set(left);
        Ok(())
    }

    pub fn spend_attribute_bytes(&self, count: usize) -> bool {
        let left = self.attribute_bytes_left.get().checked_sub(count as u64);
        self.attribute_bytes_left.set(left.unwrap_or_default());
        left.is_some()
    }

    pub fn files_most(&self) -> u64 {
        (self.volume.length / BYTES_PER_FILE).clamp(FILES_LEAST, limits::BTRFS_FILES)
    }

    pub fn saw(&self, logical: u64, length: u64) {
        self.seen.borrow_mut().push(logical, length);
    }
}
