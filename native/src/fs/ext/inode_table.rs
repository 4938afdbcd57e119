//! The inode tables of all groups ("Index Nodes"), into files and names. What cannot be read is a doubt.

use super::file;
use super::inode::{self, FLAG_EA_INODE, Inode, ROOT_INODE};
use super::reader::Ext;
use super::superblock::Superblock;
use crate::base::error::Result;
use crate::base::limits::MIB;
use crate::fs::shared::Doubts;
use crate::fs::volume_map::{DirectoryEntry, File};

/// All files, by number, and the names in all directories.
pub fn read_all(ext: &Ext, files: &mut Vec<File>, entries: &mut Vec<DirectoryEntry>, doubts: &mut Doubts) {
    let mut table = Vec::new();
    for number in 0..ext.superblock.group_count {
        read_group(ext, number, &mut table, files, entries, doubts);
    }
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
    let table_at = ext.superblock.bytes(group.inode_table);
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
