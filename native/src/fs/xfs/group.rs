//! The headers of an allocation group: AGF (free space) and AGI (inodes), and the two trees they lead to. A group
//! whose free space cannot be believed is in use as a whole; one whose inodes cannot be found loses its files.

use super::checksum;
use super::group_tree::{Format, GroupTree};
use super::reader::Xfs;
use super::superblock::Superblock;
use crate::base::bytes::{be16, be32, be64};
use crate::base::error::{Error, Result};
use crate::disk::volume::Volume;
use crate::fs::budget::Budget;
use crate::fs::shared::Doubts;

const AGF: Header = Header { what: "xfs AGF", magic: b"XAGF", sector: 1, uuid: 64, crc: 216 };
const AGI: Header = Header { what: "xfs AGI", magic: b"XAGI", sector: 2, uuid: 296, crc: 312 };

/// Free space by block.
const BNOBT: Format =
    Format { what: "xfs tree of free space", magic_4: b"ABTB", magic_5: b"AB3B", key_bytes: 8, record_bytes: 8 };
const INOBT: Format =
    Format { what: "xfs tree of inodes", magic_4: b"IABT", magic_5: b"IAB3", key_bytes: 4, record_bytes: 16 };

pub const CHUNK_INODES: u32 = 64;
/// Inodes of one bit of a hole mask.
const HOLE_INODES: u32 = 4;

struct Header {
    what: &'static str,
    magic: &'static [u8; 4],
    sector: u64,
    uuid: usize,
    crc: usize,
}

impl Header {
    fn read(&self, volume: Volume, superblock: &Superblock, group: u32) -> Result<Vec<u8>> {
        let at = superblock.bytes(superblock.ag_first(group)) + self.sector * u64::from(superblock.sector_bytes);
        let raw = volume.read_vec(at, usize::from(superblock.sector_bytes))?;
        let refuse = |why: String| Err(Error::corrupt(self.what, at, why));
        let (version, seqno, length) = (be32(&raw, 4), be32(&raw, 8), be32(&raw, 12));
        if &raw[..4] != self.magic || version != 1 {
            return refuse("no magic number".into());
        }
        if seqno != group || length != superblock.ag_length(group) {
            return refuse(format!("it names group {seqno} of {length} blocks"));
        }
        if superblock.v5 && !checksum::holds(&raw, self.crc) {
            return refuse("the checksum does not match".into());
        }
        if superblock.v5 && raw[self.uuid..self.uuid + 16] != superblock.meta_uuid {
            return refuse("it belongs to another file system".into());
        }
        Ok(raw)
    }
}

/// Free blocks of all groups, sorted and disjoint: the first one of a range, and the one behind its last. Blocks of the
/// free list (AGFL) are not among them.
pub fn free_space(volume: Volume, superblock: &Superblock, budget: &Budget, doubts: &mut Doubts) -> Vec<(u64, u64)> {
    let mut free = Vec::new();
    for group in 0..superblock.ag_count {
        let before = free.len();
        if let Err(error) = free_of_group(volume, superblock, budget, group, &mut free) {
            free.truncate(before);
            doubts.push(format!("group {group}: {error}; all its blocks are kept"));
        }
    }
    free
}

fn free_of_group(
    volume: Volume,
    superblock: &Superblock,
    budget: &Budget,
    group: u32,
    free: &mut Vec<(u64, u64)>,
) -> Result<()> {
    let agf = AGF.read(volume, superblock, group)?;
    let (agf_root, agf_level, agf_freeblks) = (be32(&agf, 16), be32(&agf, 28), be32(&agf, 52));
    let (first, length) = (superblock.ag_first(group), superblock.ag_length(group));
    let headers = (4 * u32::from(superblock.sector_bytes)).div_ceil(superblock.block_bytes);
    let (mut next, mut sum) = (headers, 0u32);
    let mut tree = GroupTree { volume, superblock, budget, group, format: &BNOBT, nodes: Vec::new() };
    let corrupt = |why: String| Error::corrupt(BNOBT.what, superblock.bytes(first), why);
    tree.walk(
        agf_root,
        agf_level,
        &mut |records| {
            for record in records.chunks_exact(BNOBT.record_bytes) {
                let (start, count) = (be32(record, 0), be32(record, 4));
                let end = start.checked_add(count).filter(|&end| end <= length && count > 0 && start >= next);
                let Some(end) = end else { return Err(corrupt(format!("{count} free blocks at {start}"))) };
                free.push((first + u64::from(start), first + u64::from(end)));
                sum += count;
                next = end;
            }
            Ok(())
        },
        &mut Err,
    )?;
    if sum != agf_freeblks {
        return Err(corrupt(format!("{sum} free blocks, the AGF says {agf_freeblks}")));
    }
    Ok(())
}

/// Inodes of one record of the tree.
pub struct Chunk {
    /// Within the group.
    pub first: u32,
    /// A bit for each inode that exists and is in use.
    pub used: u64,
}

/// All chunks of a group in the order of their inodes. What cannot be read is a doubt.
pub fn chunks(xfs: &Xfs, group: u32, doubts: &mut Doubts) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    if let Err(error) = read_chunks(xfs, group, &mut chunks, doubts) {
        doubts.push(format!("group {group}: {error}; files there are left out"));
    }
    chunks
}

fn read_chunks(xfs: &Xfs, group: u32, chunks: &mut Vec<Chunk>, doubts: &mut Doubts) -> Result<()> {
    let superblock = &xfs.superblock;
    let agi = AGI.read(xfs.volume, superblock, group)?;
    let (agi_root, agi_level) = (be32(&agi, 20), be32(&agi, 24));
    let (volume, budget) = (xfs.volume, &xfs.budget);
    let mut tree = GroupTree { volume, superblock, budget, group, format: &INOBT, nodes: Vec::new() };
    let mut next = 0u64;
    let walked = tree.walk(
        agi_root,
        agi_level,
        &mut |records| {
            for record in records.chunks_exact(INOBT.record_bytes) {
                let chunk = decode(superblock, group, record)?;
                if u64::from(chunk.first) < next {
                    return Err(Error::corrupt(INOBT.what, u64::from(chunk.first), "inodes are out of order"));
                }
                next = u64::from(chunk.first) + u64::from(CHUNK_INODES);
                chunks.push(chunk);
            }
            Ok(())
        },
        &mut |error| {
            doubts.push(format!("group {group}: {error}; the inodes there are left out"));
            Ok(())
        },
    );
    tree.nodes.iter().for_each(|&block| xfs.in_use.claim(block, 1));
    walked
}

fn decode(superblock: &Superblock, group: u32, record: &[u8]) -> Result<Chunk> {
    let ir_startino = be32(record, 0);
    let ir_free = be64(record, 8);
    let holes = if superblock.sparse_inodes { be16(record, 4) } else { 0 };
    let missing: u64 = (0..16).filter(|bit| holes >> bit & 1 == 1).map(|bit| 0xf << (bit * HOLE_INODES)).sum();
    let used = !ir_free & !missing;
    let highest = u64::from(ir_startino) + u64::from(CHUNK_INODES - used.leading_zeros());
    let end = u64::from(superblock.ag_length(group)) << superblock.inode_block_log;
    if used != 0 && highest > end {
        return Err(Error::corrupt(INOBT.what, u64::from(ir_startino), "inodes outside the group"));
    }
    Ok(Chunk { first: ir_startino, used })
}
