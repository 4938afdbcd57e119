//! The chunk tree, from which everything is found: what lies where on the disk.

use super::checksum::Checksum;
use super::chunks::CHUNK_ITEM;
use super::key::Pointer;
use super::reader::Btrfs;
use super::superblock::Superblock;
use super::tree::{self, Found};
use crate::base::error::Result;
use crate::disk::volume::Volume;
use crate::fs::shared::Doubts;

/// The volume with all its chunks.
pub fn open<'a>(volume: Volume<'a>, doubts: &mut Doubts) -> Result<Btrfs<'a>> {
    let superblock = Superblock::read(volume)?;
    if superblock.checksum == Checksum::Unverified {
        doubts.push("the checksums of its nodes are of a kind that is not verified here".into());
    }
    let mut btrfs = Btrfs::new(volume, superblock)?;
    read(&mut btrfs)?;
    Ok(btrfs)
}

/// All of it, or the volume cannot be read: without a chunk nobody knows what lies where.
fn read(btrfs: &mut Btrfs) -> Result<()> {
    let top = Pointer {
        logical: btrfs.superblock.chunk_root,
        level: btrfs.superblock.chunk_root_level,
        generation: btrfs.superblock.chunk_root_generation,
        first: None,
    };
    let mut items = Vec::new();
    let mut lost = None;
    tree::walk(btrfs, top, |found| match found {
        Found::Item(key, item) if key.kind == CHUNK_ITEM => items.push((key, item.to_vec())),
        Found::Item(..) => {}
        Found::Lost { error, .. } => lost = Some(error),
    });
    if let Some(error) = lost {
        return Err(error);
    }
    items.iter().try_for_each(|(key, item)| btrfs.chunks.add(btrfs.volume, &btrfs.superblock, *key, item))
}
