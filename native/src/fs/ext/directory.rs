//! Directories ("Directory Entries"). Blocks are read one after the other: the inner nodes of a hash tree look like
//! empty entries, so the linear way meets every name. A block that contradicts itself loses its own names only.

use super::checksum::crc32c;
use super::extents;
use super::inode::{FLAG_ENCRYPT, I_BLOCK_BYTES, Inode};
use super::reader::Ext;
use crate::base::bytes::{le16, le32};
use crate::base::error::{Error, Result};
use crate::base::limits::MIB;
use crate::fs::listing::Listing;

const WHAT: &str = "directory";
const HEADER_BYTES: usize = 8;
/// An inline directory starts with its parent's number instead of "." and "..".
const INLINE_PARENT_BYTES: usize = 4;
/// The checksum's entry: inode 0, rec_len 12, name_len 0, file_type 0xDE, det_checksum.
const TAIL_BYTES: usize = 12;
const TAIL_MARK: [u8; 8] = [0, 0, 0, 0, 12, 0, 0, 0xde];
/// Only a block of 64 KiB needs it: an entry as long as the block, in 16 bits.
const WHOLE_BLOCK: usize = 65536;

fn listing_of(ext: &Ext, inode: &Inode) -> Listing {
    Listing::new(WHAT, inode.number.into(), ext.superblock.inodes_count.into())
}

/// A directory in blocks of its own. Fails when its extents do.
pub fn read(ext: &Ext, inode: &Inode) -> Result<Listing> {
    let mut listing = listing_of(ext, inode);
    let block_bytes = ext.superblock.block_bytes as usize;
    for extent in extents::read(ext, inode)? {
        let length = inode.size.saturating_sub(extent.logical).min(extent.length);
        let mut done = 0;
        while done < length {
            let wanted = (length - done).next_multiple_of(block_bytes as u64).min(MIB as u64);
            ext.budget.blocks(wanted / block_bytes as u64)?;
            let at = extent.disk - ext.volume.start + done;
            match ext.volume.read_vec(at, wanted as usize) {
                Ok(blocks) => blocks.chunks_exact(block_bytes).for_each(|block| list(ext, inode, block, &mut listing)),
                Err(error) => listing.leave_out(error),
            }
            done += wanted;
        }
    }
    Ok(listing)
}

/// An inline directory: the rest of i_block, then the attribute that continues it.
pub fn read_inline(ext: &Ext, inode: &Inode, continuation: &[u8]) -> Listing {
    let mut listing = listing_of(ext, inode);
    for area in [&inode.block[INLINE_PARENT_BYTES..I_BLOCK_BYTES], continuation] {
        if let Err(error) = parse(ext, inode, area, &mut listing) {
            listing.leave_out(error);
        }
    }
    listing
}

fn list(ext: &Ext, inode: &Inode, block: &[u8], listing: &mut Listing) {
    let before = listing.entries.len();
    if let Err(error) = parse(ext, inode, block, listing).and_then(|last| verify(ext, inode, block, last)) {
        listing.entries.truncate(before);
        listing.leave_out(error);
    }
}

/// A checksum only counts where the entries lead to it: the root of a hash tree keeps the remains of one.
fn verify(ext: &Ext, inode: &Inode, block: &[u8], last: usize) -> Result<()> {
    let (content, tail) = block.split_at(block.len() - TAIL_BYTES);
    let sealed = ext.superblock.metadata_checksums() && last == content.len() && tail[..8] == TAIL_MARK;
    if sealed && crc32c(inode.checksum_seed, content) != le32(tail, 8) {
        return Err(corrupt(inode, "the checksum of a block does not match"));
    }
    Ok(())
}

fn corrupt(inode: &Inode, why: impl Into<String>) -> Error {
    Error::corrupt(WHAT, u64::from(inode.number), why)
}

/// Returns where the last entry starts.
fn parse(ext: &Ext, inode: &Inode, area: &[u8], listing: &mut Listing) -> Result<usize> {
    let (mut at, mut last) = (0, 0);
    while at < area.len() {
        let rest = &area[at..];
        if rest.len() < HEADER_BYTES {
            return Err(corrupt(inode, "its last entry is cut"));
        }
        let child = le32(rest, 0);
        let rec_len = match usize::from(le16(rest, 4)) {
            0 | 0xffff if area.len() == WHOLE_BLOCK => WHOLE_BLOCK,
            length => length,
        };
        let name_len = usize::from(if ext.superblock.file_type { u16::from(rest[6]) } else { le16(rest, 6) });
        let least = HEADER_BYTES + if child == 0 { 0 } else { name_len };
        if rec_len < least || rec_len % 4 != 0 || rec_len > rest.len() || name_len > 255 {
            return Err(corrupt(inode, format!("an entry has rec_len {rec_len} and name_len {name_len}")));
        }
        if child != 0 {
            let name = &rest[HEADER_BYTES..HEADER_BYTES + name_len];
            listing.take(child.into(), name, inode.has(FLAG_ENCRYPT));
        }
        last = at;
        at += rec_len;
    }
    Ok(last)
}
