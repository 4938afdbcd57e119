//! Where an inode's bytes lie: the extent tree ("Extent Tree"), or the block map of ext2 and ext3 (block_map.rs).
//! Depth falls by one at each level, every node holds something, and logical blocks only grow; so no node can be
//! met twice and the walk ends.

use super::block_map;
use super::checksum::crc32c;
use super::inode::{FLAG_ENCRYPT, FLAG_EXTENTS, Inode};
use super::reader::Ext;
use super::runs::{BlockRuns, LOGICAL_END};
use crate::base::bytes::{le16, le32};
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::fs::volume_map::Extent;

const MAGIC: u16 = 0xf30a;
const HEADER_BYTES: usize = 12;
const ENTRY_BYTES: usize = 12;
/// A longer ee_len says "unwritten" and is too long by this.
const WRITTEN_BLOCKS_MOST: u16 = 32768;

/// All extents of an inode that keeps its content in blocks. Absolute, sorted, and merged where they touch.
pub fn read(ext: &Ext, inode: &Inode) -> Result<Vec<Extent>> {
    let mut runs = BlockRuns::new(ext, inode.has(FLAG_ENCRYPT));
    if inode.has(FLAG_EXTENTS) {
        let mut tree = Tree { inode, runs };
        let depth = le16(inode.block, 6);
        if depth > limits::EXTENT_TREE_DEPTH {
            return Err(corrupt(inode, format!("the extent tree has depth {depth}")));
        }
        tree.walk(inode.block, depth, 0, LOGICAL_END, true)?;
        runs = tree.runs;
    } else {
        block_map::walk(inode, &mut runs)?;
    }
    Ok(runs.into_extents())
}

fn corrupt(inode: &Inode, why: String) -> Error {
    Error::corrupt("extents", 0, format!("inode {}: {why}", inode.number))
}

struct Tree<'a> {
    inode: &'a Inode<'a>,
    runs: BlockRuns<'a>,
}

impl Tree<'_> {
    /// Logical blocks of `node` lie from `from` to before `end`.
    fn walk(&mut self, node: &[u8], depth: u16, from: u64, end: u64, root: bool) -> Result<()> {
        let eh_magic = le16(node, 0);
        let eh_entries = usize::from(le16(node, 2));
        let eh_max = usize::from(le16(node, 4));
        let eh_depth = le16(node, 6);
        let room = (node.len() - HEADER_BYTES) / ENTRY_BYTES;
        if eh_magic != MAGIC || eh_depth != depth {
            return Err(corrupt(self.inode, format!("a node has magic {eh_magic:#x} and depth {eh_depth}")));
        }
        if eh_entries > eh_max || eh_max > room || (eh_entries == 0 && (!root || depth > 0)) {
            return Err(corrupt(self.inode, format!("a node has {eh_entries} of {eh_max} entries, room for {room}")));
        }
        let checked = !root && self.runs.ext.superblock.metadata_checksums();
        if checked && !tail_holds(self.inode.checksum_seed, node, HEADER_BYTES + eh_max * ENTRY_BYTES) {
            return Err(corrupt(self.inode, "the checksum of a node does not match".into()));
        }
        let entries = &node[HEADER_BYTES..HEADER_BYTES + eh_entries * ENTRY_BYTES];
        if depth == 0 {
            return self.leaf(entries, from, end);
        }
        for (number, entry) in entries.chunks_exact(ENTRY_BYTES).enumerate() {
            let ei_block = u64::from(le32(entry, 0));
            let ei_leaf = u64::from(le32(entry, 4)) | u64::from(le16(entry, 8)) << 32;
            let following = entries.get((number + 1) * ENTRY_BYTES..).filter(|rest| !rest.is_empty());
            let child_end = following.map_or(end, |rest| u64::from(le32(rest, 0)));
            if ei_block < from || ei_block >= child_end || child_end > end {
                return Err(corrupt(self.inode, format!("an index at logical block {ei_block} is out of order")));
            }
            let child = self.runs.node(ei_leaf)?;
            self.walk(&child, depth - 1, ei_block, child_end, false)?;
        }
        Ok(())
    }

    fn leaf(&mut self, entries: &[u8], from: u64, end: u64) -> Result<()> {
        for entry in entries.chunks_exact(ENTRY_BYTES) {
            let ee_block = u64::from(le32(entry, 0));
            let ee_len = le16(entry, 4);
            let ee_start = u64::from(le32(entry, 8)) | u64::from(le16(entry, 6)) << 32;
            let unwritten = ee_len > WRITTEN_BLOCKS_MOST;
            let count = u64::from(if unwritten { ee_len - WRITTEN_BLOCKS_MOST } else { ee_len });
            if count == 0 || ee_block < from || ee_block + count > end {
                return Err(corrupt(self.inode, format!("an extent of {count} blocks at {ee_block} is out of place")));
            }
            self.runs.push(ee_block, ee_start, count, unwritten)?;
        }
        Ok(())
    }
}

/// et_checksum follows the room for entries.
fn tail_holds(seed: u32, node: &[u8], at: usize) -> bool {
    node.len() >= at + 4 && crc32c(seed, &node[..at]) == le32(node, at)
}
