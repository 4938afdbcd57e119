//! An inode into the `File` of the map. What contradicts itself is refused here, for this inode alone.

use super::inode::{FLAG_ENCRYPT, FLAG_EXTENTS, FLAG_INLINE_DATA, I_BLOCK_BYTES, Inode};
use super::reader::Ext;
use super::xattr::{self, Attributes};
use super::{directory, extents};
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::fs::shared::Doubts;
use crate::fs::volume_map::{Content, DirectoryEntry, File, Kind, Stream};

/// The file, and a directory's entries appended to `entries`.
pub fn build(ext: &Ext, inode: &Inode, entries: &mut Vec<DirectoryEntry>, doubts: &mut Doubts) -> Result<File> {
    let attributes = read_attributes(ext, inode, doubts)?;
    let streams = match inode.kind {
        Kind::File | Kind::Symlink => vec![stream(ext, inode, attributes.inline.as_deref(), doubts)?],
        Kind::Directory => {
            list(ext, inode, attributes.inline.as_deref(), entries, doubts)?;
            // Its size for people; its blocks are metadata, not content.
            vec![Stream { name: Vec::new(), size: inode.size, valid: 0, content: Content::Extents(Vec::new()) }]
        }
        _ => Vec::new(),
    };
    let device = matches!(inode.kind, Kind::BlockDevice | Kind::CharacterDevice);
    Ok(File {
        number: u64::from(inode.number),
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
        xattrs: attributes.pairs,
        streams,
        opaque: Vec::new(),
    })
}

/// Unreadable attributes cost the attributes only, unless the content is one of them.
fn read_attributes(ext: &Ext, inode: &Inode, doubts: &mut Doubts) -> Result<Attributes> {
    let mut attributes = Attributes::default();
    let body = xattr::read_body(ext, inode, &mut attributes);
    if inode.has(FLAG_INLINE_DATA) && attributes.inline.is_none() {
        body?;
    } else if let Err(error) = body {
        doubts.push(format!("inode {}: {error}; such attributes are left out", inode.number));
    }
    if let Err(error) = xattr::read_block(ext, inode, &mut attributes) {
        doubts.push(format!("inode {}: {error}; such attributes are left out", inode.number));
    }
    attributes.pairs.shrink_to_fit();
    Ok(attributes)
}

fn stream(ext: &Ext, inode: &Inode, inline: Option<&[u8]>, doubts: &mut Doubts) -> Result<Stream> {
    let short_link_target = inode.kind == Kind::Symlink && inode.size < I_BLOCK_BYTES as u64;
    let content = if inode.has(FLAG_INLINE_DATA) {
        Content::Resident(resident(inode, inline.unwrap_or_default())?)
    } else if short_link_target && !inode.has(FLAG_EXTENTS) {
        Content::Resident(inode.block[..inode.size as usize].to_vec())
    } else {
        Content::Extents(extents::read(ext, inode)?)
    };
    if inode.has(FLAG_ENCRYPT) && matches!(content, Content::Resident(_)) {
        doubts.push(format!("inode {}: what it holds is ciphertext", inode.number));
    }
    Ok(Stream { name: Vec::new(), size: inode.size, valid: inode.size, content })
}

/// i_block, then the attribute; zeros where i_size is larger than both.
fn resident(inode: &Inode, continuation: &[u8]) -> Result<Vec<u8>> {
    if inode.size > limits::RESIDENT_BYTES as u64 {
        let why = format!("inline data of {} bytes", inode.size);
        return Err(Error::corrupt("inode", u64::from(inode.number), why));
    }
    let mut bytes = [inode.block, continuation].concat();
    bytes.resize(inode.size as usize, 0);
    bytes.shrink_to_fit();
    Ok(bytes)
}

fn list(
    ext: &Ext,
    inode: &Inode,
    inline: Option<&[u8]>,
    entries: &mut Vec<DirectoryEntry>,
    doubts: &mut Doubts,
) -> Result<()> {
    let listing = if inode.has(FLAG_INLINE_DATA) {
        directory::read_inline(ext, inode, inline.unwrap_or_default())
    } else {
        directory::read(ext, inode)?
    };
    listing.finish(entries, doubts);
    Ok(())
}
