//! Files that are no files: symbolic links, devices, pipes and sockets. Windows and WSL say so by a reparse point,
//! Interix (and `ntfs-3g`, by default) by a system file with a certain beginning. What each means is taken from
//! `ntfs-3g`, so that a tree reads as it does when mounted.

use crate::base::bytes::{le16, le32, le64};
use crate::fs::volume_map::Kind;
use crate::fs::wtf8::wtf8;

const TAG_MOUNT_POINT: u32 = 0xA000_0003;
const TAG_SYMLINK: u32 = 0xA000_000C;
const TAG_LX_SYMLINK: u32 = 0xA000_001D;
const TAG_AF_UNIX: u32 = 0x8000_0023;
const TAG_LX_FIFO: u32 = 0x8000_0024;
const TAG_LX_CHR: u32 = 0x8000_0025;
const TAG_LX_BLK: u32 = 0x8000_0026;
/// Tags whose file's own bytes are not its content (whole-file compression, deduplication, files in a cloud).
const TAG_WOF: u32 = 0x8000_0017;
const TAG_DEDUP: u32 = 0x8000_0013;
const TAG_CLOUD: u32 = 0x9000_001A;

const ATTR_HIDDEN: u32 = 2;
const ATTR_SYSTEM: u32 = 4;
const INTERIX_MAGIC_BYTES: usize = 8;

#[derive(Debug, PartialEq, Eq)]
pub enum Special {
    /// The link target, as bytes of a path.
    Symlink(Vec<u8>),
    Device(Kind, u64),
    Fifo,
    Socket,
}

/// What a reparse point makes of its file. `ea` is the value of $EA, where WSL keeps a device's numbers.
pub fn reparse(value: &[u8], ea: Option<&[u8]>) -> Option<Special> {
    let data = value.get(8..)?;
    match le32(value, 0) {
        TAG_SYMLINK => windows_link_target(data, 12).map(Special::Symlink),
        TAG_MOUNT_POINT => windows_link_target(data, 8).map(Special::Symlink),
        // A version of four bytes, then the link target in UTF-8.
        TAG_LX_SYMLINK => link(data.get(4..4 + usize::from(le16(value, 4)).checked_sub(4)?)?.to_vec()),
        TAG_AF_UNIX => Some(Special::Socket),
        TAG_LX_FIFO => Some(Special::Fifo),
        TAG_LX_CHR => Some(Special::Device(Kind::CharacterDevice, wsl_device(ea?)?)),
        TAG_LX_BLK => Some(Special::Device(Kind::BlockDevice, wsl_device(ea?)?)),
        _ => None,
    }
}

/// Whether `reparse` needs the value of $EA.
pub fn is_wsl_device(value: &[u8]) -> bool {
    value.len() >= 8 && [TAG_LX_CHR, TAG_LX_BLK].contains(&le32(value, 0))
}

/// Why the bytes of a file with this reparse point are not what its owner sees, if that is so.
pub fn stored_elsewhere(value: &[u8]) -> Option<&'static str> {
    match (value.len() >= 8).then(|| le32(value, 0))? {
        TAG_WOF => Some("compressed by Windows' overlay filter: its streams are kept as they are stored"),
        TAG_DEDUP => Some("deduplicated by Windows: its content lies in the chunk store of the volume"),
        tag if tag & 0xFFFF_0FFF == TAG_CLOUD => Some("a cloud file: its content may not be on this disk"),
        _ => None,
    }
}

fn link(link_target: Vec<u8>) -> Option<Special> {
    (!link_target.is_empty() && !link_target.contains(&0)).then_some(Special::Symlink(link_target))
}

/// The substitute name as a path with slashes. One that starts at a drive starts at the root here: the file map knows
/// no drives. `ntfs-3g` puts its mount point before it.
fn windows_link_target(data: &[u8], header_bytes: usize) -> Option<Vec<u8>> {
    if data.len() < header_bytes {
        return None;
    }
    let substitute_name_offset = header_bytes + usize::from(le16(data, 0));
    let substitute_name_length = usize::from(le16(data, 2));
    let name = data.get(substitute_name_offset..substitute_name_offset + substitute_name_length)?;
    let mut link_target = wtf8(&super::attributes::utf16(name));
    link_target.iter_mut().filter(|byte| **byte == b'\\').for_each(|byte| *byte = b'/');
    if let [b'/', b'?', b'?', b'/', letter, b':', path @ ..] = link_target.as_slice()
        && letter.is_ascii_alphabetic()
    {
        link_target = if path.is_empty() { b"/".to_vec() } else { path.to_vec() };
    }
    (!link_target.is_empty() && !link_target.contains(&0)).then_some(link_target)
}

/// $EA: next_entry_offset 4, flags 1, name length 1, value length 2, name, a zero, value. $LXDEV is major and minor.
fn wsl_device(ea: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"$LXDEV\0";
    let mut rest = ea;
    while rest.len() >= 8 {
        let next_entry_offset = le32(rest, 0) as usize;
        let value = rest.get(8 + NAME.len()..8 + NAME.len() + 8);
        if let (true, Some(value)) = (rest[8..].starts_with(NAME) && le16(rest, 6) == 8, value) {
            return Some(makedev(u64::from(le32(value, 0)), u64::from(le32(value, 4))));
        }
        // An offset of zero ends the list.
        rest = rest.get(next_entry_offset..).filter(|_| next_entry_offset > 0)?;
    }
    None
}

/// Whether a file with these DOS attributes and this size may be one of Interix's.
pub fn may_be_interix(file_attributes: u32, size: u64) -> bool {
    file_attributes & ATTR_SYSTEM != 0 && size <= crate::base::limits::LINK_BYTES
}

/// `data` is the whole unnamed stream.
pub fn interix(file_attributes: u32, data: &[u8]) -> Option<Special> {
    match (data.len(), file_attributes & ATTR_HIDDEN) {
        (0, 0) => return Some(Special::Fifo),
        (1, 0) => return Some(Special::Socket),
        _ => {}
    }
    let (magic, rest) = data.split_at_checked(INTERIX_MAGIC_BYTES)?;
    let device = || (rest.len() == 16).then(|| makedev(le64(rest, 0), le64(rest, 8)));
    match magic {
        b"IntxLNK\x01" => link(wtf8(&super::attributes::utf16(rest))),
        b"IntxCHR\0" => Some(Special::Device(Kind::CharacterDevice, device()?)),
        b"IntxBLK\0" => Some(Special::Device(Kind::BlockDevice, device()?)),
        _ => None,
    }
}

/// makedev(3) of Linux.
fn makedev(major: u64, minor: u64) -> u64 {
    (major & 0xFFFF_F000) << 32 | (major & 0xFFF) << 8 | (minor & 0xFFFF_FF00) << 12 | minor & 0xFF
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn windows(tag: u32, link_target: &str) -> Vec<u8> {
        let name = utf16(link_target);
        let extra = if tag == TAG_SYMLINK { 4 } else { 0 };
        let mut value = tag.to_le_bytes().to_vec();
        value.extend(((8 + extra + name.len()) as u16).to_le_bytes());
        value.extend([0, 0, 0, 0]);
        value.extend((name.len() as u16).to_le_bytes());
        value.extend(vec![0; 4 + extra]);
        value.extend(name);
        value
    }

    #[test]
    fn windows_links_become_paths() {
        let link_target = |tag, text| match reparse(&windows(tag, text), None) {
            Some(Special::Symlink(link_target)) => String::from_utf8(link_target).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(link_target(TAG_SYMLINK, "..\\a b\\ü"), "../a b/ü");
        assert_eq!(link_target(TAG_MOUNT_POINT, "\\??\\C:\\Users\\x"), "/Users/x");
        assert_eq!(link_target(TAG_MOUNT_POINT, "\\??\\D:"), "/");
        assert_eq!(link_target(TAG_MOUNT_POINT, "\\??\\Volume{1}\\"), "/??/Volume{1}/");
        let value = windows(TAG_SYMLINK, "abc");
        for length in 0..value.len() {
            assert_eq!(reparse(&value[..length], None), None);
        }
    }

    #[test]
    fn wsl_points_are_read() {
        let mut value = TAG_LX_SYMLINK.to_le_bytes().to_vec();
        value.extend([8, 0, 0, 0, 2, 0, 0, 0]);
        value.extend(b"../x");
        assert_eq!(reparse(&value, None), Some(Special::Symlink(b"../x".to_vec())));
        value[4] = 3;
        assert_eq!(reparse(&value, None), None);
        let mut ea = vec![16, 0, 0, 0, 0, 1, 0, 0, b'A', 0, 0, 0, 0, 0, 0, 0];
        ea.extend([0, 0, 0, 0, 0, 6, 8, 0]);
        ea.extend(b"$LXDEV\0\x08\0\0\0\x2C\x01\0\0");
        let device = [TAG_LX_BLK.to_le_bytes(), [0; 4]].concat();
        assert_eq!(reparse(&device, Some(&ea)), Some(Special::Device(Kind::BlockDevice, 0x10_082C)));
        ea[0] = 0;
        assert_eq!(reparse(&device, Some(&ea)), None);
    }

    #[test]
    fn interix_files_are_read() {
        let link = [b"IntxLNK\x01".to_vec(), utf16("../foo")].concat();
        assert_eq!(interix(4, &link), Some(Special::Symlink(b"../foo".to_vec())));
        assert_eq!(interix(4, &[]), Some(Special::Fifo));
        assert_eq!(interix(6, &[]), None);
        assert_eq!(interix(4, b"x"), Some(Special::Socket));
        let mut device = b"IntxCHR\0".to_vec();
        device.extend([5u64, 7].iter().flat_map(|number| number.to_le_bytes()));
        assert_eq!(interix(4, &device), Some(Special::Device(Kind::CharacterDevice, 0x507)));
        assert_eq!(interix(4, &device[..23]), None);
    }
}
