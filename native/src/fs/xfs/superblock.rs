//! The superblock (`struct xfs_dsb`): geometry and features, and how packed block numbers become offsets. What is
//! not understood refuses the volume; the copies in other groups are not consulted.

use super::checksum::{self, Seal};
use crate::base::bytes::{be16, be32, be64};
use crate::base::error::{Error, Result};
use crate::disk::volume::Volume;

const MAGIC: &[u8; 4] = b"XFSB";
const CRC_AT: usize = 224;
const LEAST_BYTES: usize = 512;
/// sb_versionnum: the version, and the bits that change what lies on the disk.
const VERSION_MASK: u16 = 0xf;
const VERSION_DIRECTORIES_2: u16 = 0x2000;
const VERSION_MORE: u16 = 0x8000;
const FEATURES2_FILE_TYPE: u32 = 0x200;
const INCOMPAT_FILE_TYPE: u32 = 0x1;
const INCOMPAT_SPARSE_INODES: u32 = 0x2;
const INCOMPAT_META_UUID: u32 = 0x4;
const INCOMPAT_NEEDS_REPAIR: u32 = 0x10;
/// Beside those: bigtime, nrext64, exchange-range, parent pointers.
const INCOMPAT_KNOWN: u32 = 0xff;
/// finobt, rmapbt, reflink, inobtcount.
const RO_COMPAT_KNOWN: u32 = 0xf;
/// XFS_MIN_AG_BLOCKS.
const AG_BLOCKS_LEAST: u32 = 64;
const NULL_INODE: u64 = u64::MAX;

#[derive(Debug, Clone)]
pub struct Superblock {
    /// Version 5: checksums and self-describing blocks.
    pub v5: bool,
    pub label: String,
    pub uuid: [u8; 16],
    /// What every block of version 5 carries.
    pub meta_uuid: [u8; 16],
    pub block_bytes: u32,
    pub blocks_count: u64,
    pub sector_bytes: u16,
    pub inode_bytes: u16,
    pub ag_blocks: u32,
    pub ag_count: u32,
    /// Bits of a packed block number below the group's number; 2^ag_block_log may be more than ag_blocks.
    pub ag_block_log: u32,
    /// Bits of an inode number below the block's.
    pub inode_block_log: u32,
    pub directory_block_log: u32,
    pub file_type: bool,
    pub sparse_inodes: bool,
    pub root: u64,
    /// Inodes of the file system itself.
    pub hidden_inodes: Vec<u64>,
    /// First block (linear) and number of blocks of the log; `None` when it is on another device.
    pub log: Option<(u64, u64)>,
    pub in_progress: bool,
}

pub fn detect(volume: Volume) -> Result<bool> {
    if volume.length < LEAST_BYTES as u64 {
        return Ok(false);
    }
    Ok(volume.read_vec(0, 4)? == MAGIC)
}

fn corrupt(at: usize, why: impl Into<String>) -> Error {
    Error::corrupt("xfs superblock", at as u64, why)
}

impl Superblock {
    pub fn read(volume: Volume) -> Result<Self> {
        if volume.length < LEAST_BYTES as u64 {
            return Err(corrupt(0, "it passes the end of the volume"));
        }
        let sb_sectsize = be16(&volume.read_vec(0, LEAST_BYTES)?, 102);
        if !sb_sectsize.is_power_of_two() || !(512..=32768).contains(&sb_sectsize) {
            return Err(corrupt(102, format!("sectors of {sb_sectsize} bytes")));
        }
        Self::decode(&volume.read_vec(0, usize::from(sb_sectsize))?, volume.length)
    }

    pub fn decode(raw: &[u8], volume_bytes: u64) -> Result<Self> {
        let sb_blocksize = be32(raw, 4);
        let sb_dblocks = be64(raw, 8);
        let sb_rblocks = be64(raw, 16);
        let sb_uuid = raw[32..48].try_into().expect("16 bytes");
        let sb_agblocks = be32(raw, 84);
        let sb_agcount = be32(raw, 88);
        let sb_versionnum = be16(raw, 100);
        let sb_inodesize = be16(raw, 104);
        let sb_inopblock = be16(raw, 106);
        let (sb_blocklog, sb_inopblog, sb_agblklog, sb_dirblklog) = (raw[120], raw[123], raw[124], raw[192]);

        if &raw[..4] != MAGIC {
            return Err(corrupt(0, "no magic number"));
        }
        let features = Features::decode(raw)?;
        if sb_rblocks != 0 {
            return Err(Error::unsupported("xfs with a real-time device"));
        }
        let blocks_good = sb_blocksize.is_power_of_two() && (512..=65536).contains(&sb_blocksize);
        if !blocks_good || u32::from(sb_blocklog) != sb_blocksize.ilog2() {
            return Err(corrupt(4, format!("blocks of {sb_blocksize} bytes")));
        }
        let inodes_good = sb_inodesize.is_power_of_two() && (256..=2048).contains(&sb_inodesize);
        if !inodes_good || u32::from(sb_inodesize) > sb_blocksize {
            return Err(corrupt(104, format!("inodes of {sb_inodesize} bytes")));
        }
        let per_block = sb_blocksize / u32::from(sb_inodesize);
        if u32::from(sb_inopblock) != per_block || u32::from(sb_inopblog) != per_block.ilog2() {
            return Err(corrupt(106, format!("{sb_inopblock} inodes in a block")));
        }
        if !(AG_BLOCKS_LEAST..=1 << 31).contains(&sb_agblocks) {
            return Err(corrupt(84, format!("groups of {sb_agblocks} blocks")));
        }
        if u32::from(sb_agblklog) != (sb_agblocks - 1).ilog2() + 1 || u32::from(sb_agblklog + sb_inopblog) > 32 {
            return Err(corrupt(124, format!("{sb_agblklog} bits for {sb_agblocks} blocks")));
        }
        if u64::from(sb_agcount) != sb_dblocks.div_ceil(u64::from(sb_agblocks)) || sb_agcount == 0 {
            return Err(corrupt(88, format!("{sb_agcount} groups for {sb_dblocks} blocks")));
        }
        if sb_dblocks > volume_bytes / u64::from(sb_blocksize) {
            return Err(corrupt(8, format!("{sb_dblocks} blocks pass the end of the volume")));
        }
        if u32::from(sb_dirblklog) + sb_blocksize.ilog2() > 16 {
            return Err(corrupt(192, format!("directory blocks of 2^{sb_dirblklog} blocks")));
        }
        let mut superblock = Self {
            v5: sb_versionnum & VERSION_MASK == 5,
            label: String::from_utf8_lossy(&raw[108..120]).trim_end_matches('\0').to_string(),
            uuid: sb_uuid,
            meta_uuid: if features.meta_uuid { raw[248..264].try_into().expect("16 bytes") } else { sb_uuid },
            block_bytes: sb_blocksize,
            blocks_count: sb_dblocks,
            sector_bytes: raw.len() as u16,
            inode_bytes: sb_inodesize,
            ag_blocks: sb_agblocks,
            ag_count: sb_agcount,
            ag_block_log: u32::from(sb_agblklog),
            inode_block_log: u32::from(sb_inopblog),
            directory_block_log: u32::from(sb_dirblklog),
            file_type: features.file_type,
            sparse_inodes: features.sparse_inodes,
            root: be64(raw, 56),
            hidden_inodes: hidden(raw),
            log: None,
            in_progress: raw[126] != 0,
        };
        let (sb_logstart, sb_logblocks) = (be64(raw, 48), be32(raw, 96));
        if sb_logstart != 0 {
            let first = superblock.linear(sb_logstart, u64::from(sb_logblocks));
            let first = first.ok_or_else(|| corrupt(48, "the log is outside the file system"))?;
            superblock.log = Some((first, u64::from(sb_logblocks)));
        }
        Ok(superblock)
    }

    /// The last group may be shorter.
    pub fn ag_length(&self, group: u32) -> u32 {
        (self.blocks_count - self.ag_first(group)).min(u64::from(self.ag_blocks)) as u32
    }

    pub fn ag_first(&self, group: u32) -> u64 {
        u64::from(group) * u64::from(self.ag_blocks)
    }

    /// The linear number of a packed block number, when `count` blocks from there lie in its group.
    pub fn linear(&self, packed: u64, count: u64) -> Option<u64> {
        let group = u32::try_from(packed >> self.ag_block_log).ok().filter(|&group| group < self.ag_count)?;
        let within = packed & ((1 << self.ag_block_log) - 1);
        let end = within.checked_add(count)?;
        (count > 0 && end <= u64::from(self.ag_length(group))).then(|| self.ag_first(group) + within)
    }

    /// Bytes before a linear block, or of a number of blocks; within the file system, so that nothing overflows.
    pub fn bytes(&self, blocks: u64) -> u64 {
        blocks * u64::from(self.block_bytes)
    }

    /// What a block of metadata says of itself (checksum.rs); `at` is its byte offset in the volume. Version 4 has
    /// nothing to check.
    pub fn verify(&self, what: &'static str, bytes: &[u8], at: u64, owner: u64, seal: &Seal) -> Result<()> {
        if self.v5 { checksum::verify(&self.meta_uuid, what, bytes, at, owner, seal) } else { Ok(()) }
    }

    pub fn uuid_text(&self) -> String {
        let hex: String = self.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}

struct Features {
    file_type: bool,
    sparse_inodes: bool,
    meta_uuid: bool,
}

impl Features {
    fn decode(raw: &[u8]) -> Result<Self> {
        let sb_versionnum = be16(raw, 100);
        let sb_features2 = be32(raw, 200);
        match sb_versionnum & VERSION_MASK {
            4 if sb_versionnum & VERSION_DIRECTORIES_2 == 0 => {
                Err(Error::unsupported("xfs with directories version 1"))
            }
            4 => Ok(Self {
                file_type: sb_versionnum & VERSION_MORE != 0 && sb_features2 & FEATURES2_FILE_TYPE != 0,
                sparse_inodes: false,
                meta_uuid: false,
            }),
            5 => Self::decode_5(raw),
            version => Err(Error::unsupported(format!("xfs version {version}"))),
        }
    }

    fn decode_5(raw: &[u8]) -> Result<Self> {
        let sb_features_ro_compat = be32(raw, 212);
        let sb_features_incompat = be32(raw, 216);
        if !checksum::holds(raw, CRC_AT) {
            return Err(corrupt(CRC_AT, "its checksum does not match"));
        }
        let unknown = sb_features_incompat & !INCOMPAT_KNOWN;
        if unknown != 0 {
            return Err(Error::unsupported(format!("xfs with incompatible features {unknown:#x}")));
        }
        let unknown = sb_features_ro_compat & !RO_COMPAT_KNOWN;
        if unknown != 0 {
            // Perhaps another owner of blocks; raw is always right.
            return Err(Error::unsupported(format!("xfs with read-only features {unknown:#x}")));
        }
        if sb_features_incompat & INCOMPAT_NEEDS_REPAIR != 0 {
            return Err(Error::unsupported("xfs that needs a repair"));
        }
        Ok(Self {
            file_type: sb_features_incompat & INCOMPAT_FILE_TYPE != 0,
            sparse_inodes: sb_features_incompat & INCOMPAT_SPARSE_INODES != 0,
            meta_uuid: sb_features_incompat & INCOMPAT_META_UUID != 0,
        })
    }
}

/// Bitmap and summary of the real-time device, and quotas of users, groups and projects.
fn hidden(raw: &[u8]) -> Vec<u64> {
    let inodes = [64, 72, 160, 168, 232].map(|at| be64(raw, at));
    inodes.into_iter().filter(|&number| number != 0 && number != NULL_INODE).collect()
}
