//! btrfs on one device into the file map: all subvolumes and snapshots below the top-level one. One file a structure;
//! btrfs.readthedocs.io ("On-disk format") and the kernel's `btrfs_tree.h` name the fields. The superblock, the chunks
//! and the top of the root tree must be whole, or the volume is refused; everything else costs its own files and is
//! said in a doubt. Bytes in use are never left out of `allocated`.
//!
//! Files of all subvolumes share one space of numbers: the subvolume's index in the list (16 bits) and the inode's
//! number (32 bits).

mod allocation;
mod checksum;
mod chunk_tree;
mod chunks;
mod content;
mod corrupt;
mod inode;
mod key;
mod lzo;
mod names;
mod node;
pub mod packed;
mod ranges;
mod reader;
mod roots;
mod subvolume;
mod superblock;
#[cfg(test)]
mod tests;
mod tree;

use self::roots::{FIRST_FREE, Roots, TOP_LEVEL};
use self::subvolume::SUBVOLUME_SHIFT;
use self::superblock::SUPERBLOCK_AT;
use crate::base::error::{Error, Result};
use crate::disk::volume::Volume;
use crate::fs::file_system::FileSystem;
use crate::fs::shared::{Doubts, tidy};
use crate::fs::volume_map::{File, Kind, VolumeMap};

/// btrfs on one device.
pub struct BtrfsFileSystem;

impl FileSystem for BtrfsFileSystem {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn names(&self) -> &'static [&'static str] {
        &["btrfs"]
    }

    fn detect(&self, volume: Volume) -> Result<bool> {
        detect(volume)
    }

    fn map(&self, volume: Volume) -> Result<VolumeMap> {
        map(volume)
    }

    fn has_windows_files(&self, _map: &VolumeMap) -> bool {
        false
    }

    fn has_trustworthy_times(&self) -> bool {
        true
    }

    fn frozen_as(&self) -> &'static [&'static str] {
        &["btrfs"]
    }
}

/// Whether the volume has the magic; `map` says whether it can be read.
pub fn detect(volume: Volume) -> Result<bool> {
    superblock::detect(volume)
}

/// Inode number, in its subvolume, of a file of this map.
pub fn inode_number(number: u64) -> u64 {
    number & ((1 << SUBVOLUME_SHIFT) - 1)
}

/// Index in `VolumeMap::subvolumes` of a file of this map.
pub fn subvolume_index(number: u64) -> usize {
    (number >> SUBVOLUME_SHIFT) as usize
}

pub fn map(volume: Volume) -> Result<VolumeMap> {
    let mut doubts = Doubts::default();
    let btrfs = chunk_tree::open(volume, &mut doubts)?;
    let roots = Roots::read(&btrfs, &mut doubts)?;
    let mut files = Vec::new();
    let mut entries = Vec::new();
    let subvolumes = subvolume::read_all(&btrfs, &roots, &mut files, &mut entries, &mut doubts);
    let root = files.first().filter(|file: &&File| file.number == FIRST_FREE && file.kind == Kind::Directory);
    if root.is_none() || subvolumes.first() != Some(&TOP_LEVEL) {
        return Err(Error::corrupt("btrfs root directory", SUPERBLOCK_AT, "it cannot be read"));
    }
    tidy(files[0].number, &files, &mut entries, &mut doubts);
    files.shrink_to_fit();
    let allocated = allocation::read(&btrfs, &roots, &mut doubts);
    Ok(VolumeMap {
        file_system: "btrfs",
        uuid: btrfs.superblock.uuid_text(),
        cluster_bytes: btrfs.superblock.sector_bytes,
        dirty: btrfs.superblock.dirty,
        root: FIRST_FREE,
        label: btrfs.superblock.label,
        allocated,
        files,
        entries,
        subvolumes,
        tables: Vec::new(),
        idle_journal: Vec::new(),
        doubts: doubts.into_sentences(),
    })
}
