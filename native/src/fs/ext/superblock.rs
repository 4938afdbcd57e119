//! The superblock: 1024 bytes at byte 1024, whatever the block size (Documentation/filesystems/ext4, "Super Block").
//! Everything later is computed from these fields, so nonsense here refuses the whole volume.

use super::checksum::crc32c;
use super::features::{
    COMPAT_HAS_JOURNAL, COMPAT_RESIZE_INODE, Features, GroupChecksum, INCOMPAT_64BIT, INCOMPAT_CSUM_SEED,
    INCOMPAT_FILETYPE, INCOMPAT_LARGEDIR, INCOMPAT_META_BG, INCOMPAT_RECOVER, RO_COMPAT_BIGALLOC, Sparse,
};
use crate::base::bytes::{le16, le32};
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::disk::volume::Volume;
use crate::fs::in_use::Blocks;

pub const SUPERBLOCK_AT: u64 = 1024;
pub const SUPERBLOCK_BYTES: usize = 1024;
const MAGIC_AT: usize = 0x38;
const MAGIC: u16 = 0xef53;
const CHECKSUM_AT: usize = 0x3fc;

const STATE_VALID: u16 = 1;
const STATE_ERROR: u16 = 2;
const OLD_INODE_BYTES: u16 = 128;
const OLD_FIRST_INODE: u32 = 11;
/// 64 KiB.
pub const LOG_BLOCK_SIZE_MOST: u32 = 6;
/// 2^30 bytes, the kernel's EXT4_MAX_CLUSTER_LOG_SIZE.
const LOG_CLUSTER_SIZE_MOST: u32 = 20;
/// What mke2fs accepts at least; bounds the count of groups by the size of the volume.
const BLOCKS_PER_GROUP_LEAST: u32 = 256;
const DESCRIPTOR_BYTES_LEAST: u16 = 64;
const DESCRIPTOR_BYTES_MOST: u16 = 1024;

#[derive(Clone, Debug)]
pub struct Superblock {
    pub file_system: &'static str,
    pub label: String,
    pub uuid: [u8; 16],
    pub dirty: bool,
    pub block_bytes: u32,
    pub blocks_count: u64,
    pub first_data_block: u32,
    /// Blocks of a cluster are 2^cluster_bits; 0 without bigalloc.
    pub cluster_bits: u32,
    pub blocks_per_group: u32,
    pub group_count: u32,
    pub inodes_per_group: u32,
    pub inodes_count: u32,
    pub inode_bytes: u16,
    pub first_inode: u32,
    /// Journal, quota and orphan inodes that may have an ordinary number.
    pub hidden_inodes: Vec<u32>,
    /// Where the journal lies inside the file system.
    pub journal_inode: Option<u32>,
    /// The copy of that inode's i_block; zeros where there is none.
    pub journal_blocks: [u8; 60],
    pub descriptor_bytes: u16,
    pub group_checksum: GroupChecksum,
    pub checksum_seed: u32,
    /// Descriptor blocks before this one lie together after the superblock, later ones in their own groups.
    pub first_meta_bg: u32,
    pub reserved_gdt_blocks: u16,
    pub sparse: Sparse,
    pub large_dir: bool,
    pub file_type: bool,
    /// Why a backup stands in for the primary one. What it says of the state is as old as the file system.
    pub stands_in: Option<String>,
}

pub fn detect(volume: Volume) -> Result<bool> {
    let mut magic = [0; 2];
    if volume.length < SUPERBLOCK_AT + SUPERBLOCK_BYTES as u64 {
        return Ok(false);
    }
    volume.read(SUPERBLOCK_AT + MAGIC_AT as u64, &mut magic)?;
    Ok(u16::from_le_bytes(magic) == MAGIC)
}

impl Superblock {
    /// The primary one; backup.rs has those that stand in for it.
    pub fn read(volume: Volume) -> Result<Self> {
        Self::decode(&volume.read_vec(SUPERBLOCK_AT, SUPERBLOCK_BYTES)?, volume.length)
    }

    /// `raw` are `SUPERBLOCK_BYTES`.
    pub fn decode(raw: &[u8], volume_bytes: u64) -> Result<Self> {
        if le16(raw, MAGIC_AT) != MAGIC {
            return corrupt(MAGIC_AT, "s_magic is not 0xEF53");
        }
        let features = Features::decode(raw)?;
        if features.group_checksum() == GroupChecksum::Crc32c {
            verify_checksum(raw)?;
        }
        let shape = Shape::decode(raw, &features, volume_bytes)?;
        let uuid: [u8; 16] = raw[0x68..0x78].try_into().expect("sixteen bytes");
        let s_state = le16(raw, 0x3a);
        let s_volume_name = raw[0x78..0x88].split(|&byte| byte == 0).next().unwrap_or_default();
        let s_checksum_seed = le32(raw, 0x270);
        let seeded = features.incompat & INCOMPAT_CSUM_SEED != 0;
        let reserved = features.compat & COMPAT_RESIZE_INODE != 0;
        Ok(Self {
            file_system: features.name(),
            label: String::from_utf8_lossy(s_volume_name).into_owned(),
            uuid,
            dirty: s_state & STATE_VALID == 0
                || s_state & STATE_ERROR != 0
                || features.incompat & INCOMPAT_RECOVER != 0,
            block_bytes: shape.block_bytes,
            blocks_count: shape.blocks_count,
            first_data_block: shape.first_data_block,
            cluster_bits: shape.cluster_bits,
            blocks_per_group: shape.blocks_per_group,
            group_count: shape.group_count,
            inodes_per_group: shape.inodes_per_group,
            inodes_count: shape.inodes_count,
            inode_bytes: shape.inode_bytes,
            first_inode: shape.first_inode,
            hidden_inodes: features.hidden_inodes(raw),
            journal_blocks: journal_blocks(raw),
            journal_inode: (features.compat & COMPAT_HAS_JOURNAL != 0)
                .then(|| le32(raw, 0xe0))
                .filter(|&number| number != 0),
            descriptor_bytes: descriptor_bytes(&features, raw)?,
            group_checksum: features.group_checksum(),
            checksum_seed: if seeded { s_checksum_seed } else { crc32c(!0, &uuid) },
            first_meta_bg: if features.incompat & INCOMPAT_META_BG != 0 { le32(raw, 0x104) } else { u32::MAX },
            reserved_gdt_blocks: if reserved { le16(raw, 0xce) } else { 0 },
            sparse: features.sparse(raw),
            large_dir: features.incompat & INCOMPAT_LARGEDIR != 0,
            file_type: features.incompat & INCOMPAT_FILETYPE != 0,
            stands_in: None,
        })
    }

    pub fn uuid_text(&self) -> String {
        let hex: String = self.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }

    /// Byte offset in the volume, or length; `blocks` are within the file system, so that nothing overflows.
    pub fn bytes(&self, blocks: u64) -> u64 {
        blocks * u64::from(self.block_bytes)
    }

    pub fn blocks<'a>(&self, volume: Volume<'a>) -> Blocks<'a> {
        Blocks { volume, block_bytes: self.block_bytes, count: self.blocks_count }
    }

    pub fn metadata_checksums(&self) -> bool {
        self.group_checksum == GroupChecksum::Crc32c
    }

    /// Whether `count` blocks from `block` lie in the file system, and not on its superblock.
    pub fn holds(&self, block: u64, count: u64) -> bool {
        block > u64::from(self.first_data_block) && block.checked_add(count).is_some_and(|end| end <= self.blocks_count)
    }

    pub fn group_first_block(&self, group: u32) -> u64 {
        u64::from(self.first_data_block) + u64::from(group) * u64::from(self.blocks_per_group)
    }

    pub fn group_blocks(&self, group: u32) -> u64 {
        (self.blocks_count - self.group_first_block(group)).min(u64::from(self.blocks_per_group))
    }

    pub fn inode_table_blocks(&self) -> u64 {
        (u64::from(self.inodes_per_group) * u64::from(self.inode_bytes)).div_ceil(u64::from(self.block_bytes))
    }
}

/// s_jnl_blocks, where s_jnl_backup_type says that it is a copy of i_block.
fn journal_blocks(raw: &[u8]) -> [u8; 60] {
    if raw[0xfd] == 1 { raw[0x10c..0x148].try_into().expect("sixty bytes") } else { [0; 60] }
}

fn corrupt<T>(at: usize, why: impl Into<String>) -> Result<T> {
    Err(Error::corrupt("ext superblock", SUPERBLOCK_AT + at as u64, why))
}

fn verify_checksum(raw: &[u8]) -> Result<()> {
    let s_checksum = le32(raw, CHECKSUM_AT);
    if crc32c(!0, &raw[..CHECKSUM_AT]) != s_checksum {
        return corrupt(CHECKSUM_AT, "s_checksum does not match");
    }
    Ok(())
}

fn descriptor_bytes(features: &Features, raw: &[u8]) -> Result<u16> {
    if features.incompat & INCOMPAT_64BIT == 0 {
        return Ok(32);
    }
    let s_desc_size = le16(raw, 0xfe);
    let sizes = DESCRIPTOR_BYTES_LEAST..=DESCRIPTOR_BYTES_MOST;
    if !sizes.contains(&s_desc_size) || !s_desc_size.is_power_of_two() {
        return corrupt(0xfe, format!("s_desc_size is {s_desc_size}"));
    }
    Ok(s_desc_size)
}

/// The sizes and counts, checked against each other and the volume.
struct Shape {
    block_bytes: u32,
    blocks_count: u64,
    first_data_block: u32,
    cluster_bits: u32,
    blocks_per_group: u32,
    group_count: u32,
    inodes_per_group: u32,
    inodes_count: u32,
    inode_bytes: u16,
    first_inode: u32,
}

impl Shape {
    fn decode(raw: &[u8], features: &Features, volume_bytes: u64) -> Result<Self> {
        let s_blocks_count_hi = if features.incompat & INCOMPAT_64BIT != 0 { le32(raw, 0x150) } else { 0 };
        let blocks_count = u64::from(s_blocks_count_hi) << 32 | u64::from(le32(raw, 0x4));
        let s_first_data_block = le32(raw, 0x14);
        let s_log_block_size = le32(raw, 0x18);
        let s_blocks_per_group = le32(raw, 0x20);

        if s_log_block_size > LOG_BLOCK_SIZE_MOST {
            return corrupt(0x18, format!("s_log_block_size is {s_log_block_size}"));
        }
        let block_bytes = 1024u32 << s_log_block_size;
        let cluster_bits = Self::cluster_bits(raw, features)?;
        if u64::from(s_first_data_block) > SUPERBLOCK_AT / u64::from(block_bytes) {
            return corrupt(0x14, format!("s_first_data_block is {s_first_data_block}"));
        }
        if blocks_count.checked_mul(u64::from(block_bytes)).is_none_or(|bytes| bytes > volume_bytes) {
            return corrupt(0x4, format!("{blocks_count} blocks of {block_bytes} are more than the volume has"));
        }
        if blocks_count <= u64::from(s_first_data_block) {
            return corrupt(0x4, format!("s_blocks_count is {blocks_count}"));
        }
        let s_clusters_per_group = s_blocks_per_group >> cluster_bits;
        let whole = s_clusters_per_group << cluster_bits == s_blocks_per_group;
        if s_blocks_per_group < BLOCKS_PER_GROUP_LEAST || s_clusters_per_group > 8 * block_bytes || !whole {
            return corrupt(0x20, format!("s_blocks_per_group is {s_blocks_per_group}"));
        }
        let groups = (blocks_count - u64::from(s_first_data_block)).div_ceil(u64::from(s_blocks_per_group));
        if groups > limits::EXT_GROUPS {
            return corrupt(0x20, format!("{groups} block groups, at most {} are read", limits::EXT_GROUPS));
        }
        let mut shape = Self {
            block_bytes,
            blocks_count,
            first_data_block: s_first_data_block,
            cluster_bits,
            blocks_per_group: s_blocks_per_group,
            group_count: groups as u32,
            inodes_per_group: 0,
            inodes_count: 0,
            inode_bytes: OLD_INODE_BYTES,
            first_inode: OLD_FIRST_INODE,
        };
        shape.decode_inodes(raw)?;
        Ok(shape)
    }

    fn cluster_bits(raw: &[u8], features: &Features) -> Result<u32> {
        if features.ro_compat & RO_COMPAT_BIGALLOC == 0 {
            return Ok(0);
        }
        let (s_log_block_size, s_log_cluster_size) = (le32(raw, 0x18), le32(raw, 0x1c));
        if s_log_cluster_size > LOG_CLUSTER_SIZE_MOST || s_log_cluster_size < s_log_block_size {
            return corrupt(0x1c, format!("s_log_cluster_size is {s_log_cluster_size}"));
        }
        Ok(s_log_cluster_size - s_log_block_size)
    }

    fn decode_inodes(&mut self, raw: &[u8]) -> Result<()> {
        let s_inodes_count = le32(raw, 0x0);
        let s_inodes_per_group = le32(raw, 0x28);
        let s_rev_level = le32(raw, 0x4c);
        if s_rev_level > 0 {
            self.first_inode = le32(raw, 0x54);
            self.inode_bytes = le16(raw, 0x58);
        }
        let sizes = u32::from(OLD_INODE_BYTES)..=self.block_bytes;
        if !sizes.contains(&u32::from(self.inode_bytes)) || !self.inode_bytes.is_power_of_two() {
            return corrupt(0x58, format!("s_inode_size is {}", self.inode_bytes));
        }
        if !(OLD_FIRST_INODE..=s_inodes_count.max(OLD_FIRST_INODE)).contains(&self.first_inode) {
            return corrupt(0x54, format!("s_first_ino is {}", self.first_inode));
        }
        if s_inodes_per_group == 0 || s_inodes_per_group > 8 * self.block_bytes {
            return corrupt(0x28, format!("s_inodes_per_group is {s_inodes_per_group}"));
        }
        let inodes = u64::from(s_inodes_per_group) * u64::from(self.group_count);
        // One less than 2^32, so that the number after the last one is a number too.
        if inodes != u64::from(s_inodes_count) || s_inodes_count == u32::MAX {
            return corrupt(0x0, format!("s_inodes_count is {s_inodes_count}, the groups have {inodes}"));
        }
        let table_bytes = inodes * u64::from(self.inode_bytes);
        if table_bytes > self.blocks_count * u64::from(self.block_bytes) {
            return corrupt(0x0, format!("{inodes} inodes are more than the volume has room for"));
        }
        self.inodes_per_group = s_inodes_per_group;
        self.inodes_count = s_inodes_count;
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::features::RO_COMPAT_METADATA_CSUM;
    use super::*;

    /// A superblock of 1,024 blocks of 1 KiB in one group, without any feature but `filetype`.
    pub fn plain() -> Vec<u8> {
        let mut raw = vec![0; SUPERBLOCK_BYTES];
        for (at, value) in [
            (0x0, 64u32),
            (0x4, 1024),
            (0x14, 1),
            (0x20, 8192),
            (0x24, 8192),
            (0x28, 64),
            (0x4c, 1),
            (0x54, 11),
            (0x60, INCOMPAT_FILETYPE),
        ] {
            raw[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        raw[MAGIC_AT..MAGIC_AT + 2].copy_from_slice(&MAGIC.to_le_bytes());
        raw[0x3a] = 1;
        raw[0x58..0x5a].copy_from_slice(&128u16.to_le_bytes());
        raw[0x78..0x7c].copy_from_slice(b"root");
        raw
    }

    fn with(at: usize, value: u32) -> Result<Superblock> {
        let mut raw = plain();
        raw[at..at + 4].copy_from_slice(&value.to_le_bytes());
        Superblock::decode(&raw, 1 << 20)
    }

    #[test]
    fn a_plain_one_is_read() {
        let superblock = Superblock::decode(&plain(), 1 << 20).unwrap();
        assert_eq!((superblock.file_system, superblock.label.as_str(), superblock.dirty), ("ext2", "root", false));
        assert_eq!((superblock.group_count, superblock.inode_table_blocks()), (1, 8));
        assert_eq!(superblock.uuid_text(), "00000000-0000-0000-0000-000000000000");
    }

    #[test]
    fn absurd_values_are_refused() {
        for (at, value) in [
            (0x4, 0),
            (0x4, 1025),
            (0x4, u32::MAX),
            (0x14, 2),
            (0x18, 7),
            (0x18, u32::MAX),
            (0x20, 0),
            (0x20, 8),
            (0x20, u32::MAX),
            (0x28, 0),
            (0x28, u32::MAX),
            (0x0, 0),
            (0x0, u32::MAX),
            (0x54, 0),
            (0x54, u32::MAX),
            (0x58, 0),
            (0x58, 300),
            (0x58, 32768),
        ] {
            assert_eq!(with(at, value).unwrap_err().code(), "CORRUPT", "{at:#x} = {value}");
        }
        assert_eq!(Superblock::decode(&plain(), 1 << 19).unwrap_err().code(), "CORRUPT", "cut volume");
    }

    #[test]
    fn unknown_features_are_named() {
        let error = with(0x60, 0x1000_1009).unwrap_err();
        assert_eq!(error.code(), "UNSUPPORTED");
        assert!(error.to_string().contains("compression, journal_dev, dirdata, incompat 0x10000000"), "{error}");
    }

    #[test]
    fn a_wrong_checksum_is_refused() {
        assert!(with(0x64, RO_COMPAT_METADATA_CSUM).unwrap_err().to_string().contains("s_checksum"));
    }
}
