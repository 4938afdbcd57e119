//! The feature words of a superblock ("Super Block"): what is read, what is refused, and what they change elsewhere.

use crate::base::bytes::le32;
use crate::base::error::{Error, Result};

pub const COMPAT_HAS_JOURNAL: u32 = 0x4;
pub const COMPAT_RESIZE_INODE: u32 = 0x10;
const COMPAT_SPARSE_SUPER2: u32 = 0x200;
const COMPAT_ORPHAN_FILE: u32 = 0x1000;
const RO_COMPAT_SPARSE_SUPER: u32 = 0x1;
const RO_COMPAT_EXT3: u32 = 0x7;
const RO_COMPAT_GDT_CSUM: u32 = 0x10;
const RO_COMPAT_QUOTA: u32 = 0x100;
pub const RO_COMPAT_BIGALLOC: u32 = 0x200;
pub const RO_COMPAT_METADATA_CSUM: u32 = 0x400;
pub const INCOMPAT_FILETYPE: u32 = 0x2;
pub const INCOMPAT_RECOVER: u32 = 0x4;
pub const INCOMPAT_META_BG: u32 = 0x10;
pub const INCOMPAT_64BIT: u32 = 0x80;
pub const INCOMPAT_CSUM_SEED: u32 = 0x2000;
pub const INCOMPAT_LARGEDIR: u32 = 0x4000;
const INCOMPAT_EXT3: u32 = INCOMPAT_FILETYPE | INCOMPAT_RECOVER | INCOMPAT_META_BG;

/// Bit, name, and whether it is read here.
const INCOMPAT: [(u32, &str, bool); 16] = [
    (0x1, "compression", false),
    (INCOMPAT_FILETYPE, "filetype", true),
    (INCOMPAT_RECOVER, "needs_recovery", true),
    (0x8, "journal_dev", false),
    (INCOMPAT_META_BG, "meta_bg", true),
    (0x40, "extents", true),
    (INCOMPAT_64BIT, "64bit", true),
    (0x100, "mmp", true),
    (0x200, "flex_bg", true),
    (0x400, "ea_inode", true),
    (0x1000, "dirdata", false),
    (INCOMPAT_CSUM_SEED, "metadata_csum_seed", true),
    (INCOMPAT_LARGEDIR, "large_dir", true),
    (0x8000, "inline_data", true),
    (0x10000, "encrypt", true),
    (0x20000, "casefold", true),
];

/// Whether and how group descriptors carry a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupChecksum {
    None,
    Crc16,
    Crc32c,
}

/// Which groups hold a copy of the superblock, besides the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sparse {
    Every,
    Powers,
    Two([u32; 2]),
}

pub struct Features {
    pub compat: u32,
    pub incompat: u32,
    pub ro_compat: u32,
}

impl Features {
    /// Refuses what would be misread. An unknown ro_compat feature only forbids writing.
    pub fn decode(raw: &[u8]) -> Result<Self> {
        let s_rev_level = le32(raw, 0x4c);
        if s_rev_level == 0 {
            return Ok(Self { compat: 0, incompat: 0, ro_compat: 0 });
        }
        let (compat, incompat, ro_compat) = (le32(raw, 0x5c), le32(raw, 0x60), le32(raw, 0x64));
        let known = INCOMPAT.iter().filter(|(_, _, read)| *read).fold(0, |bits, (bit, _, _)| bits | bit);
        let names: Vec<String> = (0..32)
            .map(|shift| 1 << shift)
            .filter(|bit| incompat & bit & !known != 0)
            .map(|bit| match INCOMPAT.iter().find(|(known, _, _)| *known == bit) {
                Some((_, name, _)) => (*name).to_string(),
                None => format!("incompat {bit:#x}"),
            })
            .collect();
        if !names.is_empty() {
            return Err(Error::unsupported(format!("ext feature {}", names.join(", "))));
        }
        Ok(Self { compat, incompat, ro_compat })
    }

    /// As `blkid` names them.
    pub fn name(&self) -> &'static str {
        let newer = self.incompat & !INCOMPAT_EXT3 != 0 || self.ro_compat & !RO_COMPAT_EXT3 != 0;
        match (newer, self.compat & COMPAT_HAS_JOURNAL != 0) {
            (true, _) => "ext4",
            (false, true) => "ext3",
            (false, false) => "ext2",
        }
    }

    pub fn group_checksum(&self) -> GroupChecksum {
        if self.ro_compat & RO_COMPAT_METADATA_CSUM != 0 {
            GroupChecksum::Crc32c
        } else if self.ro_compat & RO_COMPAT_GDT_CSUM != 0 {
            GroupChecksum::Crc16
        } else {
            GroupChecksum::None
        }
    }

    pub fn sparse(&self, raw: &[u8]) -> Sparse {
        if self.compat & COMPAT_SPARSE_SUPER2 != 0 {
            Sparse::Two([le32(raw, 0x24c), le32(raw, 0x250)])
        } else if self.ro_compat & RO_COMPAT_SPARSE_SUPER != 0 {
            Sparse::Powers
        } else {
            Sparse::Every
        }
    }

    pub fn hidden_inodes(&self, raw: &[u8]) -> Vec<u32> {
        let mut numbers = Vec::new();
        if self.compat & COMPAT_HAS_JOURNAL != 0 {
            numbers.push(le32(raw, 0xe0));
        }
        if self.compat & COMPAT_ORPHAN_FILE != 0 {
            numbers.push(le32(raw, 0x280));
        }
        if self.ro_compat & RO_COMPAT_QUOTA != 0 {
            numbers.extend([le32(raw, 0x240), le32(raw, 0x244), le32(raw, 0x26c)]);
        }
        numbers
    }
}
