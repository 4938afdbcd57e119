//! ext2, ext3 and ext4 into the file map. One file a structure; the kernel's `Documentation/filesystems/ext4` names
//! the fields. A superblock that makes no sense refuses the volume; everything else costs its own group, inode,
//! block or name and is said in a doubt. Blocks in use are never left out of `allocated`.

mod acl;
mod backup;
mod bitmap;
mod block_map;
mod checksum;
mod directory;
mod extents;
mod features;
mod file;
mod group;
mod inode;
mod inode_table;
mod journal;
mod reader;
mod runs;
mod superblock;
#[cfg(test)]
mod tests;
mod xattr;

use self::inode::ROOT_INODE;
use self::reader::Ext;
use self::superblock::SUPERBLOCK_AT;
use crate::base::error::{Error, Result};
use crate::disk::volume::Volume;
use crate::fs::budget::Budget;
use crate::fs::file_system::FileSystem;
use crate::fs::shared::{Doubts, tidy};
use crate::fs::volume_map::{File, Kind, VolumeMap};

/// Extents and tree nodes of all files are at most the volume's blocks, unless blocks are shared; with this factor
/// even a read-only image of shared blocks is read, and a hostile one still ends.
const BUDGET_FACTOR: u64 = 8;

/// ext2, ext3 and ext4.
pub struct ExtFileSystem;

impl FileSystem for ExtFileSystem {
    fn name(&self) -> &'static str {
        "ext"
    }

    fn names(&self) -> &'static [&'static str] {
        &["ext2", "ext3", "ext4"]
    }

    fn detect(&self, volume: Volume) -> Result<bool> {
        detect(volume)
    }

    /// Only a backup of the superblock, which may be left over from before.
    fn detect_remains(&self, volume: Volume) -> Result<bool> {
        Ok(backup::find(volume).is_some())
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
        &["ext2", "ext3", "ext4"]
    }
}

/// Whether the volume has the magic number; `map` says whether it can be read.
pub fn detect(volume: Volume) -> Result<bool> {
    superblock::detect(volume)
}

pub fn map(volume: Volume) -> Result<VolumeMap> {
    let mut superblock = backup::read(volume)?;
    let mut doubts = Doubts::default();
    if let Some(why) = &superblock.stands_in {
        doubts.push(format!("{why}; its backup was read, and all of the volume is kept"));
    }
    let groups = group::read_all(volume, &superblock, &mut doubts)?;
    // Descriptors of a backup are as old as the file system: what they call free may not be.
    superblock.dirty |= groups.iter().any(|group| group.stands_in);
    let in_use = bitmap::read_all(volume, &superblock, &groups, &mut doubts);
    let most = superblock.blocks_count.saturating_mul(BUDGET_FACTOR);
    let ext = Ext { volume, budget: Budget::new("ext volume", most, most), superblock, groups, in_use };

    let mut files = Vec::new();
    let mut entries = Vec::new();
    inode_table::read_all(&ext, &mut files, &mut entries, &mut doubts);
    let root = files.iter().find(|file: &&File| file.number == u64::from(ROOT_INODE));
    if root.is_none_or(|root| root.kind != Kind::Directory) {
        return Err(Error::corrupt("ext root directory", SUPERBLOCK_AT, "it cannot be read"));
    }
    tidy(u64::from(ROOT_INODE), &files, &mut entries, &mut doubts);
    files.shrink_to_fit();
    let idle_journal = journal::idle(&ext);
    let tables = bitmap::tables(volume, &ext.superblock, &ext.groups);
    let allocated = ext.in_use.into_ranges("block bitmaps", &mut doubts);
    Ok(VolumeMap {
        file_system: ext.superblock.file_system,
        uuid: ext.superblock.uuid_text(),
        cluster_bytes: ext.superblock.block_bytes,
        dirty: ext.superblock.dirty,
        root: u64::from(ROOT_INODE),
        label: ext.superblock.label,
        allocated,
        files,
        entries,
        subvolumes: Vec::new(),
        tables,
        idle_journal,
        doubts: doubts.into_sentences(),
    })
}
