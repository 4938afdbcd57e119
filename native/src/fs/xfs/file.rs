//! An inode into the `File` of the map. What contradicts itself is refused here, for this inode alone.

use super::checksum::REMOTE;
use super::inode::{Format, Inode};
use super::reader::Xfs;
use super::{attributes, bmap, directory};
use crate::base::bytes::be32;
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::fs::shared::Doubts;
use crate::fs::volume_map::{Content, DirectoryEntry, File, Kind, Stream};

const LINK_HEADER_BYTES: usize = 56;
/// Of 512 bytes each, the kernel's longest link target needs three.
const LINK_BLOCKS: u64 = 3;

/// The file, and a directory's entries appended to `entries`.
pub fn build(xfs: &Xfs, inode: &Inode, entries: &mut Vec<DirectoryEntry>, doubts: &mut Doubts) -> Result<File> {
    let streams = match inode.kind {
        Kind::File | Kind::Symlink => {
            vec![Stream { name: Vec::new(), size: inode.size, valid: inode.size, content: content(xfs, inode)? }]
        }
        Kind::Directory => {
            directory::read(xfs, inode)?.finish(entries, doubts);
            // Its size for people; its blocks are metadata, not content.
            vec![Stream { name: Vec::new(), size: inode.size, valid: 0, content: Content::Extents(Vec::new()) }]
        }
        _ => Vec::new(),
    };
    let mut xattrs = Vec::new();
    if let Some(fork) = &inode.attributes
        && let Err(error) = attributes::read(xfs, inode, fork, &mut xattrs)
    {
        doubts.push(format!("inode {}: {error}; such attributes are left out", inode.number));
    }
    xattrs.shrink_to_fit();
    let device = matches!(inode.kind, Kind::BlockDevice | Kind::CharacterDevice);
    if device && inode.data.format != Format::Device {
        return Err(Error::corrupt("xfs inode", inode.number, "a device without its number"));
    }
    Ok(File {
        number: inode.number,
        generation: inode.generation,
        kind: inode.kind,
        mode: inode.mode,
        uid: inode.uid,
        gid: inode.gid,
        links: inode.links,
        device: if device { inode.device() } else { 0 },
        modified: inode.modified,
        changed: inode.changed,
        created: inode.created,
        xattrs,
        streams,
        opaque: Vec::new(),
    })
}

fn content(xfs: &Xfs, inode: &Inode) -> Result<Content> {
    if inode.data.format == Format::Local {
        let bytes = usize::try_from(inode.size).ok().and_then(|size| inode.data.bytes.get(..size));
        let cut = || Error::corrupt("xfs inode", inode.number, "its size is more than it holds");
        return Ok(Content::Resident(bytes.ok_or_else(cut)?.to_vec()));
    }
    if inode.kind == Kind::Symlink {
        return link_target(xfs, inode).map(Content::Resident);
    }
    let runs = bmap::read(xfs, inode, &inode.data)?;
    Ok(Content::Extents(bmap::into_extents(xfs, &runs)))
}

/// A link target in blocks. On version 5 each run of them starts with a header, so that it is no extent of the content;
/// the link target counts as resident on version 4 as well.
fn link_target(xfs: &Xfs, inode: &Inode) -> Result<Vec<u8>> {
    let corrupt = |why: &str| Error::corrupt("xfs symbolic link", inode.number, why);
    if inode.size > limits::XFS_LINK_TARGET_BYTES {
        return Err(corrupt("its target is too long"));
    }
    let runs = bmap::read(xfs, inode, &inode.data)?;
    let header = if xfs.superblock.v5 { LINK_HEADER_BYTES } else { 0 };
    let mut link_target = Vec::new();
    for run in &runs {
        if run.count > LINK_BLOCKS {
            return Err(corrupt("its target has too many blocks"));
        }
        let (bytes, at) = bmap::read_blocks(xfs, &runs, run.logical, run.count)?;
        let part = (inode.size as usize - link_target.len()).min(bytes.len() - header);
        if xfs.superblock.v5 {
            let (sl_offset, sl_bytes) = (be32(&bytes, 4) as usize, be32(&bytes, 8) as usize);
            if &bytes[..4] != b"XSLM" || sl_offset != link_target.len() || sl_bytes != part {
                return Err(corrupt("a block of its target contradicts itself"));
            }
            xfs.superblock.verify("xfs symbolic link", &bytes, at, inode.number, &REMOTE)?;
        }
        link_target.extend_from_slice(&bytes[header..header + part]);
    }
    if link_target.len() as u64 != inode.size {
        return Err(corrupt("its target is cut"));
    }
    Ok(link_target)
}
