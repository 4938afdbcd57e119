//! Names: DIR_INDEX items of directories, and XATTR_ITEMs, which have the same form.
//!
//! ```text
//! location: key 17   transid (17)   data_len u16 (25)   name_len u16 (27)   type u8 (29)   name   data
//! ```

use super::key::Key;
use crate::base::bytes::le16;
use crate::base::error::{Error, Result};

pub const XATTR_ITEM: u8 = 24;
pub const DIR_INDEX: u8 = 96;
const HEADER_BYTES: usize = 30;
const NAME_BYTES: usize = 255;

pub struct Name<'a> {
    pub location: Key,
    pub name: &'a [u8],
    pub data: &'a [u8],
}

/// Several attributes whose names have one hash share an item.
pub fn decode(inode: u64, item: &[u8]) -> Result<Vec<Name<'_>>> {
    let corrupt = |why: &str| Error::corrupt("btrfs inode", inode, why);
    let mut names = Vec::new();
    let mut rest = item;
    while !rest.is_empty() {
        let header = rest.get(..HEADER_BYTES).ok_or_else(|| corrupt("a name is cut"))?;
        let (data_len, name_len) = (usize::from(le16(header, 25)), usize::from(le16(header, 27)));
        let end = HEADER_BYTES + name_len + data_len;
        let body = rest.get(HEADER_BYTES..end).ok_or_else(|| corrupt("a name is cut"))?;
        let (name, data) = body.split_at(name_len);
        if name.is_empty() || name.len() > NAME_BYTES || name.contains(&0) {
            return Err(corrupt("a name is empty, too long or holds NUL"));
        }
        names.push(Name { location: Key::decode(header, 0), name, data });
        rest = &rest[end..];
    }
    Ok(names)
}

/// Whether a folder can hold it.
pub fn is_entry(name: &[u8]) -> bool {
    name != b"." && name != b".." && !name.contains(&b'/')
}
