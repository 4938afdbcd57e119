//! The block map of ext2 and ext3 ("Direct/Indirect Block Addressing"): twelve blocks, then one, two and three
//! levels of blocks full of pointers. A pointer of 0 is a hole.

use super::inode::Inode;
use super::runs::BlockRuns;
use crate::base::bytes::le32;
use crate::base::error::Result;

const DIRECT_BLOCKS: u64 = 12;
const LEVELS: u32 = 3;
const POINTER_BYTES: usize = 4;

pub fn walk(inode: &Inode, runs: &mut BlockRuns) -> Result<()> {
    let per_block = u64::from(runs.ext.superblock.block_bytes) / POINTER_BYTES as u64;
    let (direct, indirect) = inode.block.split_at(DIRECT_BLOCKS as usize * POINTER_BYTES);
    push_all(direct, 0, runs)?;
    let mut logical = DIRECT_BLOCKS;
    for (level, pointer) in (1..=LEVELS).zip(indirect.chunks_exact(POINTER_BYTES)) {
        walk_level(le32(pointer, 0), level, logical, per_block, runs)?;
        logical += per_block.pow(level);
    }
    Ok(())
}

fn walk_level(pointer: u32, level: u32, logical: u64, per_block: u64, runs: &mut BlockRuns) -> Result<()> {
    if pointer == 0 {
        return Ok(());
    }
    let node = runs.node(u64::from(pointer))?;
    if level == 1 {
        return push_all(&node, logical, runs);
    }
    let step = per_block.pow(level - 1);
    for (number, pointer) in (0..).zip(node.chunks_exact(POINTER_BYTES)) {
        walk_level(le32(pointer, 0), level - 1, logical + number * step, per_block, runs)?;
    }
    Ok(())
}

/// Consecutive pointers are one run.
fn push_all(pointers: &[u8], logical: u64, runs: &mut BlockRuns) -> Result<()> {
    let mut pointers = (logical..).zip(pointers.chunks_exact(POINTER_BYTES).map(|pointer| u64::from(le32(pointer, 0))));
    let Some((mut start, mut block)) = pointers.next() else { return Ok(()) };
    let mut count = 1;
    for (logical, pointer) in pointers {
        if block != 0 && pointer == block + count {
            count += 1;
            continue;
        }
        if block != 0 {
            runs.push(start, block, count, false)?;
        }
        (start, block, count) = (logical, pointer, 1);
    }
    if block != 0 {
        runs.push(start, block, count, false)?;
    }
    Ok(())
}
