//! POSIX ACLs: ext keeps them shorter than the kernel hands them out (`posix_acl_xattr.h`, version 2).
//!
//! ```text
//! ext     a_version u32 = 1   then e_tag u16, e_perm u16 and, for a named user or group only, e_id u32
//! kernel  a_version u32 = 2   then e_tag u16, e_perm u16, e_id u32, which is all ones where there is none
//! ```

use crate::base::bytes::{Cursor, Writer};

const DISK_VERSION: u32 = 1;
const KERNEL_VERSION: u32 = 2;
const TAG_USER: u16 = 0x2;
const TAG_GROUP: u16 = 0x8;
/// Owner, owning group, mask, others.
const TAGS_WITHOUT_ID: [u16; 4] = [0x1, 0x4, 0x10, 0x20];

/// `None` when the bytes contradict themselves.
pub fn to_kernel(disk: &[u8]) -> Option<Vec<u8>> {
    let mut cursor = Cursor::new("POSIX ACL", disk);
    if cursor.u32().ok()? != DISK_VERSION {
        return None;
    }
    let mut kernel = Writer::default();
    kernel.bytes.reserve_exact(2 * disk.len());
    kernel.u32(KERNEL_VERSION);
    while cursor.remaining() > 0 {
        let (e_tag, e_perm) = (cursor.u16().ok()?, cursor.u16().ok()?);
        let e_id = match e_tag {
            TAG_USER | TAG_GROUP => cursor.u32().ok()?,
            tag if TAGS_WITHOUT_ID.contains(&tag) => u32::MAX,
            _ => return None,
        };
        kernel.u16(e_tag).u16(e_perm).u32(e_id);
    }
    kernel.bytes.shrink_to_fit();
    Some(kernel.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_filled_in() {
        let disk = [1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 4, 0, 0xe8, 3, 0, 0, 0x20, 0, 0, 0];
        let mut kernel = Writer::default();
        kernel.u32(2).u16(1).u16(6).u32(u32::MAX).u16(2).u16(4).u32(1000).u16(0x20).u16(0).u32(u32::MAX);
        assert_eq!(to_kernel(&disk).unwrap(), kernel.bytes);
    }

    #[test]
    fn contradictions_are_refused() {
        assert_eq!(to_kernel(&[]), None);
        assert_eq!(to_kernel(&[2, 0, 0, 0]), None);
        assert_eq!(to_kernel(&[1, 0, 0, 0, 2, 0, 4, 0]), None, "cut identity");
        assert_eq!(to_kernel(&[1, 0, 0, 0, 3, 0, 4, 0]), None, "unknown tag");
    }
}
