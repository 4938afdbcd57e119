//! The B+trees of an allocation group (`struct xfs_btree_block`, short form). Level falls by one, every node holds
//! something and is counted, so the walk ends.

use super::checksum::GROUP_TREE;
use super::superblock::Superblock;
use crate::base::bytes::{be16, be32};
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::disk::volume::Volume;
use crate::fs::budget::Budget;

const HEADER_BYTES_4: usize = 16;
const HEADER_BYTES_5: usize = 56;
const POINTER_BYTES: usize = 4;

pub struct Format {
    pub what: &'static str,
    pub magic_4: &'static [u8; 4],
    pub magic_5: &'static [u8; 4],
    pub key_bytes: usize,
    pub record_bytes: usize,
}

pub struct GroupTree<'a> {
    pub volume: Volume<'a>,
    pub superblock: &'a Superblock,
    pub budget: &'a Budget,
    pub group: u32,
    pub format: &'static Format,
    /// Blocks of the tree itself, linear.
    pub nodes: Vec<u64>,
}

impl GroupTree<'_> {
    /// `leaf` gets the records of each leaf, from left to right; `lost` decides whether a subtree may be missing.
    pub fn walk(
        &mut self,
        root: u32,
        levels: u32,
        leaf: &mut dyn FnMut(&[u8]) -> Result<()>,
        lost: &mut dyn FnMut(Error) -> Result<()>,
    ) -> Result<()> {
        if levels == 0 || levels > u32::from(limits::XFS_TREE_DEPTH) {
            return Err(Error::corrupt(self.format.what, u64::from(root), format!("a tree of {levels} levels")));
        }
        self.visit(root, levels as u16 - 1, true, leaf, lost)
    }

    fn visit(
        &mut self,
        block: u32,
        level: u16,
        is_root: bool,
        leaf: &mut dyn FnMut(&[u8]) -> Result<()>,
        lost: &mut dyn FnMut(Error) -> Result<()>,
    ) -> Result<()> {
        let node = self.read(block, level, is_root)?;
        let header = if self.superblock.v5 { HEADER_BYTES_5 } else { HEADER_BYTES_4 };
        let bb_numrecs = usize::from(be16(&node, 6));
        if level == 0 {
            return leaf(&node[header..header + bb_numrecs * self.format.record_bytes]);
        }
        let room = (node.len() - header) / (self.format.key_bytes + POINTER_BYTES);
        let pointers = header + room * self.format.key_bytes;
        for number in 0..bb_numrecs {
            let child = be32(&node, pointers + number * POINTER_BYTES);
            // The budget is for the whole volume; without this, a tolerated loss would be tried again and again.
            self.budget.blocks(1)?;
            if let Err(error) = self.visit(child, level - 1, false, leaf, lost) {
                lost(error)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, block: u32, level: u16, is_root: bool) -> Result<Vec<u8>> {
        let what = self.format.what;
        if block == 0 || block >= self.superblock.ag_length(self.group) {
            let why = format!("a node at block {block} of group {}", self.group);
            return Err(Error::corrupt(what, u64::from(block), why));
        }
        let linear = self.superblock.ag_first(self.group) + u64::from(block);
        let at = self.superblock.bytes(linear);
        let node = self.volume.read_vec(at, self.superblock.block_bytes as usize)?;
        let (magic, header) = match self.superblock.v5 {
            true => (self.format.magic_5, HEADER_BYTES_5),
            false => (self.format.magic_4, HEADER_BYTES_4),
        };
        let (bb_level, bb_numrecs) = (be16(&node, 4), usize::from(be16(&node, 6)));
        if &node[..4] != magic || bb_level != level {
            return Err(Error::corrupt(what, at, format!("no node of level {level}")));
        }
        let entry = if level == 0 { self.format.record_bytes } else { self.format.key_bytes + POINTER_BYTES };
        if bb_numrecs > (node.len() - header) / entry || (bb_numrecs == 0 && (level > 0 || !is_root)) {
            return Err(Error::corrupt(what, at, format!("a node of {bb_numrecs} entries")));
        }
        self.superblock.verify(what, &node, at, u64::from(self.group), &GROUP_TREE)?;
        self.nodes.push(linear);
        Ok(node)
    }
}
