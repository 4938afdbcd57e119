//! POSIX ACLs: XFS keeps them as `trusted.SGI_ACL_FILE` (access) and `SGI_ACL_DEFAULT`, big-endian; the kernel hands
//! them out as `system.posix_acl_*` (`posix_acl_xattr.h`, version 2, little-endian).
//!
//! ```text
//! xfs     acl_cnt u32         then ae_tag u32, ae_id u32, ae_perm u16, padding u16
//! kernel  a_version u32 = 2   then e_tag u16, e_perm u16, e_id u32, which is all ones where there is none
//! ```

use crate::base::bytes::{Writer, be16, be32};

const KERNEL_VERSION: u32 = 2;
const ENTRY_BYTES: usize = 12;
const TAG_USER: u32 = 0x2;
const TAG_GROUP: u32 = 0x8;
/// Owner, owning group, mask, others.
const TAGS_WITHOUT_ID: [u32; 4] = [0x1, 0x4, 0x10, 0x20];

/// `None` when the bytes contradict themselves.
pub fn to_kernel(disk: &[u8]) -> Option<Vec<u8>> {
    let (count, entries) = disk.split_at_checked(4)?;
    if entries.len() as u64 != u64::from(be32(count, 0)) * ENTRY_BYTES as u64 {
        return None;
    }
    let mut kernel = Writer::default();
    kernel.u32(KERNEL_VERSION);
    for entry in entries.chunks_exact(ENTRY_BYTES) {
        let ae_tag = be32(entry, 0);
        let e_id = match ae_tag {
            TAG_USER | TAG_GROUP => be32(entry, 4),
            tag if TAGS_WITHOUT_ID.contains(&tag) => u32::MAX,
            _ => return None,
        };
        kernel.u16(ae_tag as u16).u16(be16(entry, 8)).u32(e_id);
    }
    Some(kernel.bytes)
}
