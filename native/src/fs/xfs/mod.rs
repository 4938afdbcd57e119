//! XFS versions 4 and 5 into the file map. One file a structure; the names are those of the kernel's `xfs_format.h`.
//! A superblock that makes no sense refuses the volume; everything else costs its own group, inode, block or name
//! and is said in a doubt. Blocks in use are never left out of `allocated`.
//!
//! Numbers: a packed block is (group << ag_block_log) | block in the group. Groups need not have a power of two of
//! blocks, so a linear block (offset in the volume / block size) is something else; only `Superblock::linear` turns
//! one into the other.

mod acl;
mod attributes;
mod bmap;
mod checksum;
mod directory;
mod file;
mod group;
mod group_tree;
mod inode;
mod log;
mod space;
mod superblock;
#[cfg(test)]
mod tests;

use std::cell::Cell;

use self::group::Chunk;
use self::inode::Inode;
use self::space::InUse;
use self::superblock::Superblock;
use super::shared::{Doubts, tidy};
use super::volume_map::{DirectoryEntry, File, Kind, VolumeMap};
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::disk::volume::Volume;

/// Blocks of metadata of all files are at most the volume's blocks; each is read at most twice.
const BUDGET_FACTOR: u64 = 4;
/// An extent takes this much of an inode or of a block that belongs to one inode.
const EXTENT_RECORD_BYTES: u64 = 16;

/// Whether the volume has the magic number; `map` says whether it can be read.
pub fn detect(volume: Volume) -> Result<bool> {
    superblock::detect(volume)
}

pub fn map(volume: Volume) -> Result<VolumeMap> {
    let superblock = Superblock::read(volume)?;
    let mut doubts = Doubts::default();
    let budget = Budget::new(&superblock);
    let free = group::free_space(volume, &superblock, &budget, &mut doubts);
    let in_use = InUse::all_but(&free, superblock.blocks_count);
    drop(free);
    let xfs = Xfs { volume, superblock, budget, in_use };
    claim_headers(&xfs);

    let mut files = Vec::new();
    let mut entries = Vec::new();
    for group in 0..xfs.superblock.ag_count {
        for chunk in group::chunks(&xfs, group, &mut doubts) {
            read_chunk(&xfs, group, &chunk, &mut files, &mut entries, &mut doubts);
        }
    }
    let root = xfs.superblock.root;
    let found = files.binary_search_by_key(&root, |file: &File| file.number);
    if found.is_err() || found.is_ok_and(|at| files[at].kind != Kind::Directory) {
        return Err(Error::corrupt("xfs root directory", root, "it cannot be read"));
    }
    tidy(root, &files, &mut entries, &mut doubts);
    files.shrink_to_fit();
    let dirty = xfs.superblock.in_progress || !log::is_clean(volume, &xfs.superblock);
    let allocated = xfs.in_use.into_ranges(volume, &xfs.superblock, &mut doubts);
    Ok(VolumeMap {
        subvolumes: vec![],
        file_system: "xfs",
        uuid: xfs.superblock.uuid_text(),
        cluster_bytes: xfs.superblock.block_bytes,
        dirty,
        root,
        label: xfs.superblock.label,
        allocated,
        files,
        entries,
        tables: Vec::new(),
        idle_journal: Vec::new(),
        doubts: doubts.into_sentences(),
    })
}

/// What every reader of a structure needs.
struct Xfs<'a> {
    volume: Volume<'a>,
    superblock: Superblock,
    budget: Budget,
    in_use: InUse,
}

/// Superblock, AGF, AGI and AGFL of each group, and the log.
fn claim_headers(xfs: &Xfs) {
    let superblock = &xfs.superblock;
    let blocks = (4 * u32::from(superblock.sector_bytes)).div_ceil(superblock.block_bytes);
    for group in 0..superblock.ag_count {
        let count = blocks.min(superblock.ag_length(group));
        xfs.in_use.claim(superblock.ag_first(group), u64::from(count));
    }
    if let Some((first, count)) = superblock.log {
        xfs.in_use.claim(first, count);
    }
}

/// The inodes in use of one chunk. Inodes lie side by side from the group's start on.
fn read_chunk(
    xfs: &Xfs,
    group: u32,
    chunk: &Chunk,
    files: &mut Vec<File>,
    entries: &mut Vec<DirectoryEntry>,
    doubts: &mut Doubts,
) {
    let superblock = &xfs.superblock;
    let inode_bytes = usize::from(superblock.inode_bytes);
    let first_bytes = superblock.bytes(superblock.ag_first(group));
    let mut rest = chunk.used;
    while rest != 0 {
        let start = rest.trailing_zeros();
        let count = (rest >> start).trailing_ones();
        rest &= !(u64::MAX >> (64 - count) << start);
        let first = chunk.first + start;
        let at = first_bytes + u64::from(first) * inode_bytes as u64;
        let block = at / u64::from(superblock.block_bytes);
        let end = (at + u64::from(count) * inode_bytes as u64).div_ceil(u64::from(superblock.block_bytes));
        xfs.in_use.claim(block, end - block);
        let raw = match xfs.volume.read_vec(at, count as usize * inode_bytes) {
            Ok(raw) => raw,
            Err(error) => {
                doubts.push(format!("{error}; {count} inodes there are left out"));
                continue;
            }
        };
        for (index, raw) in (0..).zip(raw.chunks_exact(inode_bytes)) {
            let bits = superblock.ag_block_log + superblock.inode_block_log;
            let number = u64::from(group) << bits | u64::from(first + index);
            if superblock.hidden_inodes.contains(&number) || inode::links(raw) == 0 {
                continue;
            }
            let file =
                Inode::decode(superblock, number, raw).and_then(|inode| file::build(xfs, &inode, entries, doubts));
            match file {
                Ok(file) => files.push(file),
                Err(error) => doubts.push(format!("inode {number}: {error}; it is kept as blocks only")),
            }
        }
    }
}

/// Work that is left for the whole volume, so that many inodes cannot each claim the same blocks.
struct Budget {
    blocks: Cell<u64>,
    extents: Cell<u64>,
    attribute_bytes: Cell<u64>,
}

impl Budget {
    /// Before version 5 no blocks are shared, and each has one extent at most. From there on a block of extents names
    /// its owner, so that their records bound them.
    fn new(superblock: &Superblock) -> Self {
        let per_block = if superblock.v5 { u64::from(superblock.block_bytes) / EXTENT_RECORD_BYTES } else { 1 };
        Self {
            blocks: Cell::new(superblock.blocks_count.saturating_mul(BUDGET_FACTOR)),
            extents: Cell::new(superblock.blocks_count.saturating_mul(per_block)),
            attribute_bytes: Cell::new(limits::VOLUME_XATTR_BYTES as u64),
        }
    }

    /// Nodes of trees, and blocks of directories and attributes.
    fn blocks(&self, count: u64) -> Result<()> {
        spend(&self.blocks, count, "the files of the volume have more metadata blocks than it has blocks")
    }

    fn extents(&self, count: u64) -> Result<()> {
        spend(&self.extents, count, "the files of the volume have more extents than it has room for")
    }

    fn attribute_bytes(&self, count: usize) -> Result<()> {
        spend(&self.attribute_bytes, count as u64, "more extended attributes than are read of one volume")
    }
}

fn spend(left: &Cell<u64>, count: u64, why: &str) -> Result<()> {
    match left.get().checked_sub(count) {
        Some(rest) => {
            left.set(rest);
            Ok(())
        }
        None => Err(Error::corrupt("xfs volume", 0, why)),
    }
}
