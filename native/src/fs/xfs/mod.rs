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
mod chunk;
mod directory;
mod file;
mod group;
mod group_tree;
mod inode;
mod log;
mod reader;
mod superblock;
#[cfg(test)]
mod tests;

use self::reader::Xfs;
use self::superblock::Superblock;
use crate::base::error::{Error, Result};
use crate::disk::volume::Volume;
use crate::fs::budget::Budget;
use crate::fs::file_system::FileSystem;
use crate::fs::in_use::{Blocks, InUse};
use crate::fs::shared::{Doubts, tidy};
use crate::fs::volume_map::{File, Kind, VolumeMap};

/// Blocks of metadata of all files are at most the volume's blocks; each is read at most twice.
const BUDGET_FACTOR: u64 = 4;
/// An extent takes this much of an inode or of a block that belongs to one inode.
const EXTENT_RECORD_BYTES: u64 = 16;

/// XFS, versions 4 and 5.
pub struct XfsFileSystem;

impl FileSystem for XfsFileSystem {
    fn name(&self) -> &'static str {
        "xfs"
    }

    fn names(&self) -> &'static [&'static str] {
        &["xfs"]
    }

    fn detect(&self, volume: Volume) -> Result<bool> {
        detect(volume)
    }

    fn map(&self, volume: Volume) -> Result<VolumeMap> {
        map(volume)
    }

    fn has_windows_files(&self, _map: &VolumeMap) -> bool {
        false
    }

    fn has_trustworthy_times(&self) -> bool {
        true
    }

    fn frozen_as(&self) -> &'static [&'static str] {
        &["xfs"]
    }
}

/// Whether the volume has the magic number; `map` says whether it can be read.
pub fn detect(volume: Volume) -> Result<bool> {
    superblock::detect(volume)
}

pub fn map(volume: Volume) -> Result<VolumeMap> {
    let superblock = Superblock::read(volume)?;
    let mut doubts = Doubts::default();
    let budget = budget(&superblock);
    let free = group::free_space(volume, &superblock, &budget, &mut doubts);
    let blocks = Blocks { volume, block_bytes: superblock.block_bytes, count: superblock.blocks_count };
    let in_use = InUse::all_but(blocks, &free);
    drop(free);
    let xfs = Xfs { volume, superblock, budget, in_use };
    xfs.claim_headers();

    let mut files = Vec::new();
    let mut entries = Vec::new();
    for group in 0..xfs.superblock.ag_count {
        for chunk in group::chunks(&xfs, group, &mut doubts) {
            chunk::read(&xfs, group, &chunk, &mut files, &mut entries, &mut doubts);
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
    let allocated = xfs.in_use.into_ranges("trees of free space", &mut doubts);
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

/// Before version 5 no blocks are shared, and each has one extent at most. From there on a block of extents names its
/// owner, so that their records bound them.
fn budget(superblock: &Superblock) -> Budget {
    let per_block = if superblock.v5 { u64::from(superblock.block_bytes) / EXTENT_RECORD_BYTES } else { 1 };
    let blocks = superblock.blocks_count;
    Budget::new("xfs volume", blocks.saturating_mul(BUDGET_FACTOR), blocks.saturating_mul(per_block))
}
