//! Directories: short form in the inode, one block with everything ("block"), or data blocks below 32 GiB whose
//! indexes lie above and are not needed. A block that contradicts itself loses its own names only.

use super::bmap::{self, BlockRun};
use super::checksum::DIRECTORY;
use super::inode::{Format, Inode};
use super::reader::Xfs;
use crate::base::bytes::{be16, be32, be64};
use crate::base::error::{Error, Result};
use crate::fs::listing::Listing;

const WHAT: &str = "xfs directory";
/// Leaves and nodes of the index start here.
const INDEX_AT: u64 = 1 << 35;
const HEADER_BYTES_4: usize = 16;
const HEADER_BYTES_5: usize = 64;
/// "block" form ends with the count of index entries, 8 bytes each, and of stale ones.
const TAIL_BYTES: usize = 8;
const INDEX_ENTRY_BYTES: usize = 8;
const FREE_TAG: u16 = 0xffff;

fn corrupt(inode: &Inode, why: impl Into<String>) -> Error {
    Error::corrupt(WHAT, inode.number, why)
}

/// Fails when the extents do.
pub fn read(xfs: &Xfs, inode: &Inode) -> Result<Listing> {
    let mut listing = Listing::new(WHAT, inode.number, u64::MAX);
    if inode.data.format == Format::Local {
        if let Err(error) = short_form(xfs, inode, &mut listing) {
            listing.leave_out(error);
        }
        return Ok(listing);
    }
    let runs = bmap::read(xfs, inode, &inode.data)?;
    let step = 1u64 << xfs.superblock.directory_block_log;
    let index = INDEX_AT / u64::from(xfs.superblock.block_bytes);
    let mut next = 0;
    for run in &runs {
        let mut logical = (run.logical & !(step - 1)).max(next);
        while logical < run.end() && logical < index {
            let before = listing.entries.len();
            if let Err(error) = block(xfs, inode, &runs, logical, &mut listing) {
                listing.entries.truncate(before);
                listing.leave_out(error);
            }
            logical += step;
            next = logical;
        }
    }
    Ok(listing)
}

/// count u8, count of 8-byte numbers u8, parent; then namelen u8, offset u16, name, file type, number.
fn short_form(xfs: &Xfs, inode: &Inode, listing: &mut Listing) -> Result<()> {
    let cut = || corrupt(inode, "its short form is cut");
    let area = usize::try_from(inode.size).ok().and_then(|size| inode.data.bytes.get(..size)).ok_or_else(cut)?;
    let (&[count, wide], _) = area.split_first_chunk().ok_or_else(cut)?;
    let number_bytes = if wide == 0 { 4 } else { 8 };
    let mut rest = area.get(2 + number_bytes..).ok_or_else(cut)?;
    for _ in 0..count {
        let length = usize::from(*rest.first().ok_or_else(cut)?);
        let number_at = 3 + length + usize::from(xfs.superblock.file_type);
        let (entry, following) = rest.split_at_checked(number_at + number_bytes).ok_or_else(cut)?;
        let child = if wide == 0 { u64::from(be32(entry, number_at)) } else { be64(entry, number_at) };
        listing.take(child, &entry[3..3 + length], false);
        rest = following;
    }
    Ok(())
}

fn block(xfs: &Xfs, inode: &Inode, runs: &[BlockRun], logical: u64, listing: &mut Listing) -> Result<()> {
    let superblock = &xfs.superblock;
    let (bytes, at) = bmap::read_blocks(xfs, runs, logical, 1 << superblock.directory_block_log)?;
    let end = match (&bytes[..4], superblock.v5) {
        (b"XD2D", false) | (b"XDD3", true) => bytes.len(),
        (b"XD2B", false) | (b"XDB3", true) => {
            let tail = bytes.len() - TAIL_BYTES;
            let index = (be32(&bytes, tail) as usize).checked_mul(INDEX_ENTRY_BYTES);
            index.and_then(|index| tail.checked_sub(index)).ok_or_else(|| corrupt(inode, "its index is too long"))?
        }
        _ => return Err(corrupt(inode, "a block has no magic number")),
    };
    superblock.verify(WHAT, &bytes, at, inode.number, &DIRECTORY)?;
    let start = if superblock.v5 { HEADER_BYTES_5 } else { HEADER_BYTES_4 };
    let area = bytes.get(start..end).ok_or_else(|| corrupt(inode, "its index is too long"))?;
    names(xfs, inode, area, listing)
}

/// inumber u64, namelen u8, name, file type, tag u16 at the end of eight bytes; or FREE_TAG and a length u16.
fn names(xfs: &Xfs, inode: &Inode, mut area: &[u8], listing: &mut Listing) -> Result<()> {
    while !area.is_empty() {
        if area.len() < 16 && (area.len() < 8 || be16(area, 0) != FREE_TAG) {
            return Err(corrupt(inode, "its last entry is cut"));
        }
        let free = be16(area, 0) == FREE_TAG;
        let length = match free {
            true => usize::from(be16(area, 2)),
            false => (11 + usize::from(area[8]) + usize::from(xfs.superblock.file_type)).next_multiple_of(8),
        };
        if length == 0 || length % 8 != 0 || length > area.len() {
            return Err(corrupt(inode, format!("an entry of {length} bytes")));
        }
        let (entry, following) = area.split_at(length);
        if !free {
            listing.take(be64(entry, 0), &entry[9..9 + usize::from(entry[8])], false);
        }
        area = following;
    }
    Ok(())
}
