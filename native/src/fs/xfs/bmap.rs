//! Where a fork's bytes lie: a list of extents in the inode, or a B+tree of them (bmbt, long form). Level falls by
//! one, every node holds something, logical blocks only grow: the walk ends.

use super::checksum::FILE_TREE;
use super::inode::{Fork, Format, Inode};
use super::reader::Xfs;
use crate::base::bytes::{be16, be64};
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::fs::volume_map::{Extent, ExtentKind};

const WHAT: &str = "xfs extents";
const RECORD_BYTES: usize = 16;
const KEY_BYTES: usize = 8;
const POINTER_BYTES: usize = 8;
const ROOT_HEADER_BYTES: usize = 4;
const HEADER_BYTES_4: usize = 24;
const HEADER_BYTES_5: usize = 72;

/// Blocks of a fork that lie together.
#[derive(Clone, Copy, Debug)]
pub struct BlockRun {
    pub logical: u64,
    /// Linear.
    pub block: u64,
    pub count: u64,
    pub unwritten: bool,
}

impl BlockRun {
    pub fn end(&self) -> u64 {
        self.logical + self.count
    }
}

/// All runs of a fork that keeps its content in blocks: sorted, and merged where they touch.
pub fn read(xfs: &Xfs, inode: &Inode, fork: &Fork) -> Result<Vec<BlockRun>> {
    let mut walk = Walk { xfs, inode, runs: Vec::new(), next: 0, records: 0 };
    match fork.format {
        Format::Extents => {
            let room = fork.bytes.len() / RECORD_BYTES;
            if fork.extents > room as u64 {
                return Err(walk.corrupt(format!("{} extents in room for {room}", fork.extents)));
            }
            walk.records(&fork.bytes[..fork.extents as usize * RECORD_BYTES])?;
        }
        Format::Tree => walk.root(fork)?,
        Format::Device | Format::Local => return Err(walk.corrupt("a fork without extents".into())),
    }
    if walk.records != fork.extents {
        return Err(walk.corrupt(format!("{} extents, the inode says {}", walk.records, fork.extents)));
    }
    walk.runs.shrink_to_fit();
    Ok(walk.runs)
}

struct Walk<'a> {
    xfs: &'a Xfs<'a>,
    inode: &'a Inode<'a>,
    runs: Vec<BlockRun>,
    /// The first logical block that may follow.
    next: u64,
    records: u64,
}

impl Walk<'_> {
    fn corrupt(&self, why: String) -> Error {
        Error::corrupt(WHAT, 0, format!("inode {}: {why}", self.inode.number))
    }

    fn root(&mut self, fork: &Fork) -> Result<()> {
        if fork.bytes.len() < ROOT_HEADER_BYTES {
            return Err(self.corrupt("no room for a tree".into()));
        }
        let (bb_level, bb_numrecs) = (be16(fork.bytes, 0), usize::from(be16(fork.bytes, 2)));
        let room = (fork.bytes.len() - ROOT_HEADER_BYTES) / (KEY_BYTES + POINTER_BYTES);
        if bb_level == 0 || bb_level > limits::XFS_TREE_DEPTH || bb_numrecs == 0 || bb_numrecs > room {
            return Err(self.corrupt(format!("a root of level {bb_level} with {bb_numrecs} of {room} entries")));
        }
        self.children(&fork.bytes[ROOT_HEADER_BYTES + room * KEY_BYTES..], bb_numrecs, bb_level)
    }

    fn children(&mut self, pointers: &[u8], count: usize, level: u16) -> Result<()> {
        for pointer in pointers.chunks_exact(POINTER_BYTES).take(count) {
            self.node(be64(pointer, 0), level - 1)?;
        }
        Ok(())
    }

    fn node(&mut self, packed: u64, level: u16) -> Result<()> {
        let superblock = &self.xfs.superblock;
        let Some(block) = superblock.linear(packed, 1) else {
            return Err(self.corrupt("a node is outside the file system".into()));
        };
        self.xfs.budget.blocks(1)?;
        let at = superblock.bytes(block);
        let node = self.xfs.volume.read_vec(at, superblock.block_bytes as usize)?;
        let (magic, header) = if superblock.v5 { (b"BMA3", HEADER_BYTES_5) } else { (b"BMAP", HEADER_BYTES_4) };
        let (bb_level, bb_numrecs) = (be16(&node, 4), usize::from(be16(&node, 6)));
        let room = (node.len() - header) / RECORD_BYTES;
        if &node[..4] != magic || bb_level != level || bb_numrecs == 0 || bb_numrecs > room {
            return Err(self.corrupt(format!("a node of level {bb_level} with {bb_numrecs} of {room} entries")));
        }
        superblock.verify(WHAT, &node, at, self.inode.number, &FILE_TREE)?;
        self.xfs.in_use.claim(block, 1);
        if level == 0 {
            return self.records(&node[header..header + bb_numrecs * RECORD_BYTES]);
        }
        self.children(&node[header + room * KEY_BYTES..], bb_numrecs, level)
    }

    /// One bit: unwritten; 54 bits: logical block; 52 bits: packed block; 21 bits: count.
    fn records(&mut self, records: &[u8]) -> Result<()> {
        for record in records.chunks_exact(RECORD_BYTES) {
            let (high, low) = (be64(record, 0), be64(record, 8));
            let unwritten = high >> 63 == 1;
            let logical = (high & (u64::MAX >> 1)) >> 9;
            let packed = (high & 0x1ff) << 43 | low >> 21;
            let count = low & ((1 << 21) - 1);
            self.push(logical, packed, count, unwritten)?;
        }
        Ok(())
    }

    fn push(&mut self, logical: u64, packed: u64, count: u64, unwritten: bool) -> Result<()> {
        let superblock = &self.xfs.superblock;
        let most = i64::MAX as u64 / u64::from(superblock.block_bytes);
        if logical < self.next || logical + count > most {
            return Err(self.corrupt(format!("logical block {logical} is out of order")));
        }
        let Some(block) = superblock.linear(packed, count) else {
            return Err(self.corrupt(format!("{count} blocks at {packed:#x} are outside the file system")));
        };
        self.xfs.in_use.claim(block, count);
        self.next = logical + count;
        self.records += 1;
        self.xfs.budget.extents(1)?;
        if let Some(last) = self.runs.last_mut() {
            let touching = last.end() == logical && last.block + last.count == block;
            if touching && last.unwritten == unwritten {
                last.count += count;
                return Ok(());
            }
        }
        if self.runs.len() >= limits::STREAM_EXTENTS {
            return Err(self.corrupt("more extents than are read of one file".into()));
        }
        self.runs.push(BlockRun { logical, block, count, unwritten });
        Ok(())
    }
}

/// Absolute, in bytes.
pub fn into_extents(xfs: &Xfs, runs: &[BlockRun]) -> Vec<Extent> {
    let extent = |run: &BlockRun| Extent {
        kind: if run.unwritten { ExtentKind::Unwritten } else { ExtentKind::Plain },
        logical: xfs.superblock.bytes(run.logical),
        disk: xfs.volume.absolute(xfs.superblock.bytes(run.block)),
        length: xfs.superblock.bytes(run.count),
    };
    runs.iter().map(extent).collect()
}

/// The bytes of logical blocks, all of which must be there and written, and where the first of them lies.
pub fn read_blocks(xfs: &Xfs, runs: &[BlockRun], logical: u64, count: u64) -> Result<(Vec<u8>, u64)> {
    xfs.budget.blocks(count)?;
    let mut bytes = Vec::new();
    let (mut at, mut first) = (logical, None);
    while at < logical + count {
        let number = runs.partition_point(|run| run.end() <= at);
        let Some(run) = runs.get(number).filter(|run| run.logical <= at && !run.unwritten) else {
            return Err(Error::corrupt(WHAT, at, "a block that should hold metadata is a hole"));
        };
        let block = run.block + (at - run.logical);
        let together = (run.end() - at).min(logical + count - at);
        let disk = xfs.superblock.bytes(block);
        first.get_or_insert(disk);
        let before = bytes.len();
        bytes.resize(before + xfs.superblock.bytes(together) as usize, 0);
        xfs.volume.read(disk, &mut bytes[before..])?;
        at += together;
    }
    Ok((bytes, first.unwrap_or_default()))
}
