//! The inodes of one chunk, into files and names. What cannot be read is a doubt.

use super::file;
use super::group::Chunk;
use super::inode::{self, Inode};
use super::reader::Xfs;
use crate::fs::shared::Doubts;
use crate::fs::volume_map::{DirectoryEntry, File};

/// The inodes in use of one chunk. Inodes lie side by side from the group's start on.
pub fn read(
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
