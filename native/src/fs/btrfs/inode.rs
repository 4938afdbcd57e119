//! INODE_ITEM, 160 bytes.
//!
//! ```text
//! generation   transid   size (16)   nbytes   block_group   nlink u32 (40)   uid u32   gid u32   mode u32   rdev (56)
//! flags   sequence   reserved 32   atime (112: seconds, nanoseconds u32)   ctime (124)   mtime (136)   otime (148)
//! ```

use crate::base::bytes::{le32, le64};
use crate::base::error::{Error, Result};
use crate::fs::volume_map::{Kind, Timestamp};

pub const INODE_ITEM: u8 = 1;
const INODE_BYTES: usize = 160;

#[derive(Debug, Clone)]
pub struct Inode {
    pub generation: u64,
    pub size: u64,
    pub kind: Kind,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    pub device: u64,
    pub modified: Timestamp,
    pub changed: Timestamp,
    pub created: Timestamp,
}

impl Inode {
    pub fn decode(number: u64, item: &[u8]) -> Result<Self> {
        let corrupt = |why: String| Err(Error::corrupt("btrfs inode", number, why));
        if item.len() != INODE_BYTES {
            return corrupt(format!("it has {} bytes", item.len()));
        }
        let (size, mode) = (le64(item, 16), le32(item, 52));
        let Some(kind) = Kind::of_mode(mode) else { return corrupt(format!("mode {mode:o}")) };
        if size > i64::MAX as u64 {
            return corrupt(format!("a size of {size}"));
        }
        let mut times = [Timestamp::default(); 3];
        for (time, at) in times.iter_mut().zip([136, 124, 148]) {
            *time = Timestamp { seconds: le64(item, at) as i64, nanoseconds: le32(item, at + 8) };
            if time.nanoseconds >= 1_000_000_000 {
                return corrupt(format!("{} nanoseconds", time.nanoseconds));
            }
        }
        let device = matches!(kind, Kind::BlockDevice | Kind::CharacterDevice);
        Ok(Self {
            generation: le64(item, 0),
            size,
            kind,
            mode: (mode & 0o7777) as u16,
            uid: le32(item, 44),
            gid: le32(item, 48),
            links: le32(item, 40),
            device: if device { makedev(le64(item, 56)) } else { 0 },
            modified: times[0],
            changed: times[1],
            created: times[2],
        })
    }
}

/// From the kernel's own dev_t (major << 20 | minor) to `makedev(3)`.
fn makedev(rdev: u64) -> u64 {
    let (major, minor) = (rdev >> 20 & 0xfff, rdev & 0xf_ffff);
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12
}
