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
mod file;
mod group;
mod inode;
mod journal;
mod superblock;
#[cfg(test)]
mod tests;
mod xattr;

use std::cell::Cell;

use self::bitmap::InUse;
use self::group::Group;
use self::inode::{FLAG_EA_INODE, Inode};
use self::superblock::{SUPERBLOCK_AT, Superblock};
use super::shared::{Doubts, tidy};
use super::volume_map::{DirectoryEntry, File, Kind, VolumeMap};
use crate::base::error::{Error, Result};
use crate::base::limits::{self, MIB};
use crate::disk::volume::Volume;

const ROOT_INODE: u32 = 2;
/// Extents and tree nodes of all files are at most the volume's blocks, unless blocks are shared; with this factor
/// even a read-only image of shared blocks is read, and a hostile one still ends.
const BUDGET_FACTOR: u64 = 8;

/// Whether the volume has the magic number; `map` says whether it can be read.
pub fn detect(volume: Volume) -> Result<bool> {
    superblock::detect(volume)
}

/// Whether a backup of the superblock is where it should be. Only for volumes that nothing else is known of: it may be
/// left over from before.
pub fn detect_backup(volume: Volume) -> Result<bool> {
    Ok(backup::find(volume).is_some())
}

pub fn map(volume: Volume) -> Result<VolumeMap> {
    let mut superblock = Superblock::read(volume)?;
    let mut doubts = Doubts::default();
    if let Some(why) = &superblock.stands_in {
        doubts.push(format!("{why}; its backup was read, and all of the volume is kept"));
    }
    let groups = group::read_all(volume, &superblock, &mut doubts)?;
    // Descriptors of a backup are as old as the file system: what they call free may not be.
    superblock.dirty |= groups.iter().any(|group| group.stands_in);
    let in_use = bitmap::read_all(volume, &superblock, &groups, &mut doubts);
    let ext = Ext { volume, budget: Budget::new(&superblock), superblock, groups, in_use };

    let mut files = Vec::new();
    let mut entries = Vec::new();
    let mut table = Vec::new();
    for number in 0..ext.superblock.group_count {
        read_group(&ext, number, &mut table, &mut files, &mut entries, &mut doubts);
    }
    drop(table);
    let root = files.iter().find(|file: &&File| file.number == u64::from(ROOT_INODE));
    if root.is_none_or(|root| root.kind != Kind::Directory) {
        return Err(Error::corrupt("ext root directory", SUPERBLOCK_AT, "it cannot be read"));
    }
    tidy(u64::from(ROOT_INODE), &files, &mut entries, &mut doubts);
    files.shrink_to_fit();
    let idle_journal = journal::idle(&ext);
    let tables = bitmap::tables(volume, &ext.superblock, &ext.groups);
    let allocated = ext.in_use.into_ranges(volume, &ext.superblock, &mut doubts);
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

/// What every reader of a structure needs.
struct Ext<'a> {
    volume: Volume<'a>,
    superblock: Superblock,
    groups: Vec<Group>,
    budget: Budget,
    in_use: InUse,
}

impl Ext<'_> {
    /// One inode's bytes and where they lie, for an inode that another one names.
    fn read_inode(&self, number: u32) -> Result<(Vec<u8>, u64)> {
        let index = number.wrapping_sub(1);
        let (group, index) = (index / self.superblock.inodes_per_group, index % self.superblock.inodes_per_group);
        let group = self.groups.get(group as usize).filter(|group| group.trusted && index < group.inodes);
        let Some(group) = group else {
            return Err(Error::corrupt("inode", u64::from(number), "its table does not hold it"));
        };
        let inode_bytes = usize::from(self.superblock.inode_bytes);
        let at = blocks_bytes(&self.superblock, group.inode_table) + u64::from(index) * inode_bytes as u64;
        Ok((self.volume.read_vec(at, inode_bytes)?, at))
    }
}

/// Byte offset in the volume, or length; `blocks` are within the file system, so that nothing overflows.
fn blocks_bytes(superblock: &Superblock, blocks: u64) -> u64 {
    blocks * u64::from(superblock.block_bytes)
}

/// All inodes in use of one group, by whole chunks of its table. `table` is room that all groups share: a MiB of fresh
/// pages for each of them takes the kernel longer than reading it does.
fn read_group(
    ext: &Ext,
    number: u32,
    table: &mut Vec<u8>,
    files: &mut Vec<File>,
    entries: &mut Vec<DirectoryEntry>,
    doubts: &mut Doubts,
) {
    let group = &ext.groups[number as usize];
    let inode_bytes = usize::from(ext.superblock.inode_bytes);
    let table_at = blocks_bytes(&ext.superblock, group.inode_table);
    let mut inode_number = number * ext.superblock.inodes_per_group + 1;
    let end = inode_number + if group.trusted { group.inodes } else { 0 };
    let mut at = table_at;
    while inode_number < end {
        table.resize(((end - inode_number) as usize * inode_bytes).min(MIB), 0);
        read_table(ext, at, table, doubts);
        for raw in table.chunks_exact(inode_bytes) {
            if inode::links(raw) != 0 && is_visible(&ext.superblock, inode_number) {
                match read_file(ext, inode_number, raw, at, entries, doubts) {
                    Ok(file) => files.extend(file),
                    Err(error) => doubts.push(format!("inode {inode_number}: {error}; it is kept as blocks only")),
                }
            }
            inode_number += 1;
            at += inode_bytes as u64;
        }
    }
}

/// A part of an inode table. What cannot be read counts as unused inodes and is a doubt.
fn read_table(ext: &Ext, at: u64, bytes: &mut [u8], doubts: &mut Doubts) {
    if ext.volume.read(at, bytes).is_ok() {
        return;
    }
    let block_bytes = ext.superblock.block_bytes as usize;
    for (number, block) in bytes.chunks_mut(block_bytes).enumerate() {
        if let Err(error) = ext.volume.read(at + (number * block_bytes) as u64, block) {
            block.fill(0);
            doubts.push(format!("{error}; the inodes there are left out"));
        }
    }
}

/// Inodes below s_first_ino except the root, the journal and quotas belong to the file system itself.
fn is_visible(superblock: &Superblock, number: u32) -> bool {
    (number >= superblock.first_inode || number == ROOT_INODE) && !superblock.hidden_inodes.contains(&number)
}

/// `None` for the holder of an attribute's value.
fn read_file(
    ext: &Ext,
    number: u32,
    raw: &[u8],
    at: u64,
    entries: &mut Vec<DirectoryEntry>,
    doubts: &mut Doubts,
) -> Result<Option<File>> {
    let inode = Inode::decode(&ext.superblock, number, raw, at)?;
    if inode.has(FLAG_EA_INODE) {
        return Ok(None);
    }
    file::build(ext, &inode, entries, doubts).map(Some)
}

/// Work that is left for the whole volume, so that many inodes cannot each claim the same blocks.
struct Budget {
    blocks: Cell<u64>,
    extents: Cell<u64>,
    attribute_bytes: Cell<u64>,
}

impl Budget {
    fn new(superblock: &Superblock) -> Self {
        let most = superblock.blocks_count.saturating_mul(BUDGET_FACTOR);
        let attribute_bytes = Cell::new(limits::VOLUME_XATTR_BYTES as u64);
        Self { blocks: Cell::new(most), extents: Cell::new(most), attribute_bytes }
    }

    /// Nodes of trees and blocks of directories.
    fn blocks(&self, count: u64) -> Result<()> {
        spend(&self.blocks, count, "the files of the volume have more metadata blocks than it has blocks")
    }

    fn extents(&self, count: u64) -> Result<()> {
        spend(&self.extents, count, "the files of the volume have more extents than it has blocks")
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
        None => Err(Error::corrupt("ext volume", 0, why)),
    }
}
