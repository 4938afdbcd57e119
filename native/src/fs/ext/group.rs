//! Group descriptors, and where a group's own metadata lies ("Block Group Descriptors", "Meta Block Groups",
//! "Sparse Superblocks"). A descriptor that cannot be believed costs its group, not the volume.

use super::checksum::{crc16, crc32c};
use super::features::{GroupChecksum, Sparse};
use super::superblock::{SUPERBLOCK_AT, Superblock};
use crate::base::bytes::{le16, le32};
use crate::base::error::{Error, Result};
use crate::disk::volume::Volume;
use crate::fs::shared::Doubts;

const CHECKSUM_AT: usize = 0x1e;
/// Descriptors from this size on have the high half of the block bitmap's checksum.
const BITMAP_CHECKSUM_HIGH_END: u16 = 0x3a;
const FLAG_INODE_UNINIT: u16 = 1;
const FLAG_BLOCK_UNINIT: u16 = 2;

#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The first three are meaningless without this: its checksum is wrong or it points outside the file system.
    pub trusted: bool,
    /// Read from the backup table of group 1.
    pub stands_in: bool,
    pub block_bitmap: u64,
    pub inode_bitmap: u64,
    pub inode_table: u64,
    /// The block bitmap was never written: only the group's own metadata is in use.
    pub block_uninit: bool,
    /// Inodes from the table's start that may be in use; the rest may never have been written.
    pub inodes: u32,
    /// As much of the block bitmap's CRC-32C as `bitmap_checksum_mask` covers.
    pub bitmap_checksum: u32,
    pub bitmap_checksum_mask: u32,
}

/// All descriptors, from the primary table. Fails when the table itself cannot lie in the volume.
pub fn read_all(volume: Volume, superblock: &Superblock, doubts: &mut Doubts) -> Result<Vec<Group>> {
    let per_block = superblock.block_bytes / u32::from(superblock.descriptor_bytes);
    let table_blocks = superblock.group_count.div_ceil(per_block);
    if superblock.first_meta_bg != u32::MAX && superblock.first_meta_bg > table_blocks {
        let why = format!("s_first_meta_bg is {}, of {table_blocks} blocks", superblock.first_meta_bg);
        return Err(Error::corrupt("ext superblock", SUPERBLOCK_AT + 0x104, why));
    }
    let mut groups = Vec::with_capacity(superblock.group_count as usize);
    for number in 0..table_blocks {
        let block = descriptor_block(superblock, number, per_block);
        if !superblock.holds(block, 1) {
            let at = SUPERBLOCK_AT + 0x20;
            return Err(Error::corrupt("ext superblock", at, "the group descriptors pass the end of the volume"));
        }
        let raw = volume.read_vec(superblock.bytes(block), superblock.block_bytes as usize)?;
        for raw in raw.chunks_exact(usize::from(superblock.descriptor_bytes)) {
            let group = groups.len() as u32;
            if group == superblock.group_count {
                break;
            }
            groups.push(decode(superblock, group, raw).unwrap_or_else(|why| {
                if let Some(backup) = backup(volume, superblock, group) {
                    doubts.push(format!("block group {group}: {why}; its backup was read"));
                    return backup;
                }
                doubts.push(format!("block group {group}: {why}; it is kept whole, its files are left out"));
                Group::untrusted()
            }));
        }
    }
    Ok(groups)
}

/// From the copy of the table in group 1, for tables that lie in one piece. Where tables are holds for ever; which of
/// them are in use was true when the copy was made, so all of each inode table is read.
fn backup(volume: Volume, superblock: &Superblock, group: u32) -> Option<Group> {
    if superblock.first_meta_bg != u32::MAX || superblock.group_count < 2 {
        return None;
    }
    let bytes = usize::from(superblock.descriptor_bytes);
    let table = superblock.bytes(superblock.group_first_block(1) + 1);
    let raw = volume.read_vec(table + u64::from(group) * bytes as u64, bytes).ok()?;
    let found = decode(superblock, group, &raw).ok()?;
    Some(Group { stands_in: true, block_uninit: false, inodes: superblock.inodes_per_group, ..found })
}

impl Group {
    fn untrusted() -> Self {
        Self {
            trusted: false,
            stands_in: false,
            block_bitmap: 0,
            inode_bitmap: 0,
            inode_table: 0,
            block_uninit: false,
            inodes: 0,
            bitmap_checksum: 0,
            bitmap_checksum_mask: 0,
        }
    }
}

fn decode(superblock: &Superblock, group: u32, raw: &[u8]) -> std::result::Result<Group, String> {
    let wide = superblock.descriptor_bytes >= 64;
    let high32 = |at: usize| if wide { u64::from(le32(raw, at)) << 32 } else { 0 };
    let high16 = |at: usize| if wide { u32::from(le16(raw, at)) << 16 } else { 0 };
    let bg_block_bitmap = u64::from(le32(raw, 0x0)) | high32(0x20);
    let bg_inode_bitmap = u64::from(le32(raw, 0x4)) | high32(0x24);
    let bg_inode_table = u64::from(le32(raw, 0x8)) | high32(0x28);
    let bg_flags = le16(raw, 0x12);
    let bg_itable_unused = u32::from(le16(raw, 0x1c)) | high16(0x32);
    let bg_checksum = le16(raw, CHECKSUM_AT);

    if checksum(superblock, group, raw).is_some_and(|checksum| checksum != bg_checksum) {
        return Err("bg_checksum does not match".into());
    }
    let table_blocks = superblock.inode_table_blocks();
    for (block, count) in [(bg_block_bitmap, 1), (bg_inode_bitmap, 1), (bg_inode_table, table_blocks)] {
        if !superblock.holds(block, count) {
            return Err(format!("its tables at block {block} are outside the file system"));
        }
    }
    // Both flags and the count of unused inodes only mean something where a checksum protects them.
    let checked = superblock.group_checksum != GroupChecksum::None;
    if checked && bg_itable_unused > superblock.inodes_per_group {
        return Err(format!("bg_itable_unused is {bg_itable_unused}"));
    }
    let inodes = match checked {
        false => superblock.inodes_per_group,
        true if bg_flags & FLAG_INODE_UNINIT != 0 => 0,
        true => superblock.inodes_per_group - bg_itable_unused,
    };
    let high_sum = superblock.descriptor_bytes >= BITMAP_CHECKSUM_HIGH_END;
    let high = if high_sum { u32::from(le16(raw, 0x38)) << 16 } else { 0 };
    Ok(Group {
        trusted: true,
        stands_in: false,
        block_bitmap: bg_block_bitmap,
        inode_bitmap: bg_inode_bitmap,
        inode_table: bg_inode_table,
        block_uninit: checked && bg_flags & FLAG_BLOCK_UNINIT != 0,
        inodes,
        bitmap_checksum: u32::from(le16(raw, 0x18)) | high,
        bitmap_checksum_mask: if high_sum { u32::MAX } else { 0xffff },
    })
}

fn checksum(superblock: &Superblock, group: u32, raw: &[u8]) -> Option<u16> {
    let (before, after) = (&raw[..CHECKSUM_AT], &raw[CHECKSUM_AT + 2..]);
    match superblock.group_checksum {
        GroupChecksum::None => None,
        GroupChecksum::Crc16 => {
            let sum = crc16(crc16(!0, &superblock.uuid), &group.to_le_bytes());
            Some(crc16(crc16(sum, before), after))
        }
        GroupChecksum::Crc32c => {
            let sum = crc32c(superblock.checksum_seed, &group.to_le_bytes());
            Some(crc32c(crc32c(crc32c(sum, before), &[0, 0]), after) as u16)
        }
    }
}

/// The block of the superblock itself: 1 with blocks of 1 KiB, else within block 0.
fn superblock_block(superblock: &Superblock) -> u64 {
    SUPERBLOCK_AT / u64::from(superblock.block_bytes)
}

/// The kernel's `descriptor_loc`.
fn descriptor_block(superblock: &Superblock, number: u32, per_block: u32) -> u64 {
    if number < superblock.first_meta_bg {
        return superblock_block(superblock) + 1 + u64::from(number);
    }
    // With 1 KiB blocks and clusters (first_data_block 0), group 0 starts with the boot block.
    let boot = number == 0 && superblock.block_bytes == 1024 && superblock.first_data_block == 0;
    let group = number * per_block;
    superblock.group_first_block(group) + u64::from(has_superblock(superblock, group)) + u64::from(boot)
}

pub fn has_superblock(superblock: &Superblock, group: u32) -> bool {
    match superblock.sparse {
        _ if group == 0 => true,
        Sparse::Every => true,
        Sparse::Two(groups) => groups.contains(&group),
        Sparse::Powers => group == 1 || [3, 5, 7].iter().any(|&base| power_of(base, group)),
    }
}

fn power_of(base: u32, mut number: u32) -> bool {
    while number > 1 && number.is_multiple_of(base) {
        number /= base;
    }
    number == 1
}

/// Blocks at the start of a group for the copies of superblock and descriptors (`ext4_num_base_meta_blocks`).
pub fn base_blocks(superblock: &Superblock, group: u32) -> u64 {
    let per_block = superblock.block_bytes / u32::from(superblock.descriptor_bytes);
    let table_blocks = superblock.group_count.div_ceil(per_block);
    let copy = has_superblock(superblock, group);
    // With 1 KiB clusters the boot block may be counted to group 0.
    let boot = if group == 0 { superblock_block(superblock) - u64::from(superblock.first_data_block) } else { 0 };
    let front = boot + u64::from(copy);
    if group / per_block < superblock.first_meta_bg {
        let descriptors = table_blocks.min(superblock.first_meta_bg);
        let table = u64::from(descriptors) + u64::from(superblock.reserved_gdt_blocks);
        return front + if copy { table } else { 0 };
    }
    let position = group % per_block;
    front + u64::from(position == 0 || position == 1 || position == per_block - 1)
}

#[cfg(test)]
mod tests {
    use super::super::superblock::tests::plain;
    use super::*;

    /// A volume of 1 MiB with the plain superblock and one descriptor.
    fn volume(bitmap: u32, inode_bitmap: u32, table: u32) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        bytes[1024..2048].copy_from_slice(&plain());
        for (at, value) in [(0, bitmap), (4, inode_bitmap), (8, table)] {
            bytes[2048 + at..2052 + at].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn a_descriptor_out_of_range_costs_its_group() {
        for (tables, trusted) in [
            ((3, 4, 5), true),
            ((0, 4, 5), false),
            ((3, 1024, 5), false),
            ((3, 4, 1017), false),
            ((3, 4, u32::MAX), false),
        ] {
            let bytes = volume(tables.0, tables.1, tables.2);
            let volume = Volume::whole(&bytes);
            let superblock = Superblock::read(volume).unwrap();
            let mut doubts = Doubts::default();
            let groups = read_all(volume, &superblock, &mut doubts).unwrap();
            assert_eq!((groups.len(), groups[0].trusted), (1, trusted), "{tables:?}");
            assert_eq!(doubts.into_sentences().is_empty(), trusted);
        }
    }

    #[test]
    fn copies_lie_in_powers_of_three_five_and_seven() {
        let bytes = volume(3, 4, 5);
        let mut superblock = Superblock::read(Volume::whole(&bytes)).unwrap();
        superblock.sparse = Sparse::Powers;
        let copies: Vec<u32> = (0..130).filter(|&group| has_superblock(&superblock, group)).collect();
        assert_eq!(copies, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
        superblock.sparse = Sparse::Two([1, 99]);
        let copies: Vec<u32> = (0..130).filter(|&group| has_superblock(&superblock, group)).collect();
        assert_eq!(copies, [0, 1, 99]);
    }
}
