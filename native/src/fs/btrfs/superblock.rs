//! The superblock at 64 KiB (`struct btrfs_super_block`). What it says about features and devices decides whether the
//! volume is read at all.
//!
//! ```text
//! 0x00 csum 32   0x20 fsid 16   0x30 bytenr   0x38 flags   0x40 magic   0x48 generation   0x50 root
//! 0x58 chunk_root   0x60 log_root   0x70 total_bytes   0x88 num_devices   0x90 sectorsize u32   0x94 nodesize u32
//! 0xa0 sys_chunk_array_size u32   0xa4 chunk_root_generation   0xb4 compat_ro_flags   0xbc incompat_flags
//! 0xc4 csum_type u16   0xc6 root_level u8   0xc7 chunk_root_level u8   0xc9 dev_item: devid u64 ... uuid at 0x10b
//! 0x12b label 256   0x23b metadata_uuid 16   0x32b sys_chunk_array 2048
//! ```

use super::checksum::Checksum;
use crate::base::bytes::{le16, le32, le64};
use crate::base::error::{Error, Result};
use crate::base::limits::KIB;
use crate::disk::volume::Volume;

pub const SUPERBLOCK_AT: u64 = 64 * KIB as u64;
pub const SUPERBLOCK_BYTES: usize = 4096;
/// Where copies lie, the first one included.
pub const MIRRORS: [u64; 3] = [SUPERBLOCK_AT, 64 << 20, 256 << 30];
const MAGIC: &[u8; 8] = b"_BHRfS_M";
const MAGIC_AT: u64 = 0x40;
const SYSTEM_CHUNK_BYTES: usize = 2048;

/// MIXED_BACKREF, DEFAULT_SUBVOL, MIXED_GROUPS, COMPRESS_LZO, COMPRESS_ZSTD, BIG_METADATA, EXTENDED_IREF,
/// SKINNY_METADATA, NO_HOLES, METADATA_UUID, SIMPLE_QUOTA. RAID bits are judged by the chunks themselves.
const INCOMPAT_READ: u64 = 0x7f | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 16;
const INCOMPAT_METADATA_UUID: u64 = 1 << 10;
const COMPAT_RO_BLOCK_GROUP_TREE: u64 = 1 << 3;
/// METADUMP and METADUMP_V2, CHANGING_FSID and CHANGING_FSID_V2: half of a file system, or one being rewritten.
const FLAGS_REFUSED: u64 = 0xf << 33;
pub const MOST_LEVEL: u8 = 7;

#[derive(Debug, Clone)]
pub struct Superblock {
    pub uuid: [u8; 16],
    /// What every node's header carries.
    pub metadata_uuid: [u8; 16],
    pub generation: u64,
    pub root: u64,
    pub root_level: u8,
    pub chunk_root: u64,
    pub chunk_root_level: u8,
    pub chunk_root_generation: u64,
    /// The last fsyncs are in the log tree, not in the others.
    pub dirty: bool,
    pub total_bytes: u64,
    pub sector_bytes: u32,
    pub node_bytes: u32,
    pub device: u64,
    pub device_uuid: [u8; 16],
    /// Block groups have a tree of their own.
    pub block_group_tree: bool,
    pub checksum: Checksum,
    pub label: String,
    pub system_chunks: Vec<u8>,
}

pub fn detect(volume: Volume) -> Result<bool> {
    if volume.length < SUPERBLOCK_AT + SUPERBLOCK_BYTES as u64 {
        return Ok(false);
    }
    let mut magic = [0; 8];
    volume.read(SUPERBLOCK_AT + MAGIC_AT, &mut magic)?;
    Ok(&magic == MAGIC)
}

impl Superblock {
    pub fn read(volume: Volume) -> Result<Self> {
        Self::decode(&volume.read_vec(SUPERBLOCK_AT, SUPERBLOCK_BYTES)?)
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let corrupt = |why: String| Err(Error::corrupt("btrfs superblock", SUPERBLOCK_AT, why));
        let csum_type = le16(bytes, 0xc4);
        let Some(checksum) = Checksum::of_type(csum_type) else {
            return Err(Error::unsupported(format!("btrfs checksum type {csum_type}")));
        };
        if !checksum.holds(bytes) {
            return corrupt("its checksum does not match".into());
        }
        let (bytenr, flags, total_bytes) = (le64(bytes, 0x30), le64(bytes, 0x38), le64(bytes, 0x70));
        if &bytes[0x40..0x48] != MAGIC || bytenr != SUPERBLOCK_AT {
            return corrupt(format!("it claims to lie at {bytenr}"));
        }
        let incompat = le64(bytes, 0xbc);
        if incompat & !INCOMPAT_READ != 0 || flags & FLAGS_REFUSED != 0 {
            return Err(Error::unsupported(format!("btrfs with features {incompat:#x} and flags {flags:#x}")));
        }
        let num_devices = le64(bytes, 0x88);
        if num_devices != 1 {
            return Err(Error::unsupported(format!("btrfs on {num_devices} devices")));
        }
        let (sectorsize, nodesize) = (le32(bytes, 0x90), le32(bytes, 0x94));
        let sized = |size: u32| size.is_power_of_two() && (4096..=65536).contains(&size);
        if !sized(sectorsize) || !sized(nodesize) || nodesize < sectorsize {
            return corrupt(format!("sectorsize {sectorsize}, nodesize {nodesize}"));
        }
        let (root_level, chunk_root_level) = (bytes[0xc6], bytes[0xc7]);
        if root_level > MOST_LEVEL || chunk_root_level > MOST_LEVEL {
            return corrupt(format!("trees of {root_level} and {chunk_root_level} levels"));
        }
        let array_size = le32(bytes, 0xa0) as usize;
        if array_size > SYSTEM_CHUNK_BYTES {
            return corrupt(format!("a system chunk array of {array_size} bytes"));
        }
        let id = |at: usize| -> [u8; 16] { bytes[at..at + 16].try_into().expect("sixteen bytes") };
        let uuid = id(0x20);
        let label = bytes[0x12b..0x22b].split(|&byte| byte == 0).next().unwrap_or_default();
        Ok(Self {
            uuid,
            metadata_uuid: if incompat & INCOMPAT_METADATA_UUID != 0 { id(0x23b) } else { uuid },
            generation: le64(bytes, 0x48),
            root: le64(bytes, 0x50),
            root_level,
            chunk_root: le64(bytes, 0x58),
            chunk_root_level,
            chunk_root_generation: le64(bytes, 0xa4),
            dirty: le64(bytes, 0x60) != 0,
            total_bytes,
            sector_bytes: sectorsize,
            node_bytes: nodesize,
            device: le64(bytes, 0xc9),
            device_uuid: id(0x10b),
            block_group_tree: le64(bytes, 0xb4) & COMPAT_RO_BLOCK_GROUP_TREE != 0,
            checksum,
            label: String::from_utf8_lossy(label).into_owned(),
            system_chunks: bytes[0x32b..0x32b + array_size].to_vec(),
        })
    }

    pub fn uuid_text(&self) -> String {
        let hex = |from: usize, to: usize| self.uuid[from..to].iter().map(|b| format!("{b:02x}")).collect::<String>();
        [hex(0, 4), hex(4, 6), hex(6, 8), hex(8, 10), hex(10, 16)].join("-")
    }
}
