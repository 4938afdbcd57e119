//! btrfs on one device into the file map: all subvolumes and snapshots below the top-level one. One file a structure;
//! btrfs.readthedocs.io ("On-disk format") and the kernel's `btrfs_tree.h` name the fields. The superblock, the chunks
//! and the top of the root tree must be whole, or the volume is refused; everything else costs its own files and is
//! said in a doubt. Bytes in use are never left out of `allocated`.
//!
//! Files of all subvolumes share one space of numbers: the subvolume's place in the list (16 bits) and the inode's
//! number (32 bits).

mod allocation;
mod checksum;
mod chunks;
mod content;
mod inflate;
mod inode;
mod lzo;
mod names;
mod node;
pub mod packed;
mod roots;
mod subvolume;
mod superblock;
#[cfg(test)]
mod tests;
mod tree;

use std::cell::{Cell, RefCell};

use self::chunks::{CHUNK_ITEM, Chunks};
use self::node::Pointer;
use self::roots::{FIRST_FREE, Roots, TOP_LEVEL};
use self::superblock::{SUPERBLOCK_AT, Superblock};
use self::tree::Found;
use super::shared::{Doubts, tidy};
use super::volume_map::{File, Kind, VolumeMap};
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::disk::volume::Volume;

/// Snapshots share nodes, and each of them walks them all: so many times the nodes that fit in the volume.
const NODES_FACTOR: u64 = 8;
/// A file has at least an inode item and a name in a leaf, about 400 bytes; snapshots share those too.
const BYTES_PER_FILE: u64 = 256;
/// Files of a small volume with many snapshots.
const FILES_LEAST: u64 = 1 << 16;
const SUBVOLUME_SHIFT: u32 = 32;

/// Whether the volume has the magic; `map` says whether it can be read.
pub fn detect(volume: Volume) -> Result<bool> {
    superblock::detect(volume)
}

/// Inode number, in its subvolume, of a file of this map.
pub fn inode_number(number: u64) -> u64 {
    number & ((1 << SUBVOLUME_SHIFT) - 1)
}

/// Place in `VolumeMap::subvolumes` of a file of this map.
pub fn subvolume_index(number: u64) -> usize {
    (number >> SUBVOLUME_SHIFT) as usize
}

pub fn map(volume: Volume) -> Result<VolumeMap> {
    let mut doubts = Doubts::default();
    let btrfs = Btrfs::open(volume, &mut doubts)?;
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

/// What every reader of a structure needs.
struct Btrfs<'a> {
    volume: Volume<'a>,
    superblock: Superblock,
    chunks: Chunks,
    nodes_left: Cell<u64>,
    attribute_bytes_left: Cell<u64>,
    /// Logical ranges that trees and files use, whatever the extent tree says.
    seen: RefCell<allocation::Ranges>,
}

impl<'a> Btrfs<'a> {
    fn open(volume: Volume<'a>, doubts: &mut Doubts) -> Result<Self> {
        let superblock = Superblock::read(volume)?;
        if superblock.checksum == checksum::Checksum::Unverified {
            doubts.push("the checksums of its nodes are of a kind that is not verified here".into());
        }
        let nodes = (volume.length / u64::from(superblock.node_bytes)).saturating_mul(NODES_FACTOR);
        let chunks = Chunks::from_superblock(volume, &superblock)?;
        let seen = RefCell::default();
        let attribute_bytes_left = Cell::new(limits::VOLUME_XATTR_BYTES as u64);
        let nodes_left = Cell::new(nodes);
        let mut btrfs = Self { volume, superblock, chunks, nodes_left, attribute_bytes_left, seen };
        btrfs.read_chunk_tree()?;
        Ok(btrfs)
    }

    /// All of it, or the volume cannot be read: without a chunk nobody knows what lies where.
    fn read_chunk_tree(&mut self) -> Result<()> {
        let top = Pointer {
            logical: self.superblock.chunk_root,
            level: self.superblock.chunk_root_level,
            generation: self.superblock.chunk_root_generation,
            first: None,
        };
        let mut items = Vec::new();
        let mut lost = None;
        tree::walk(self, top, |found| match found {
            Found::Item(key, item) if key.kind == CHUNK_ITEM => items.push((key, item.to_vec())),
            Found::Item(..) => {}
            Found::Lost { error, .. } => lost = Some(error),
        });
        if let Some(error) = lost {
            return Err(error);
        }
        items.iter().try_for_each(|(key, item)| self.chunks.add(self.volume, &self.superblock, *key, item))
    }

    fn spend_node(&self) -> Result<()> {
        let why = "its trees have more nodes than are read of a volume of this size";
        let left = self.nodes_left.get().checked_sub(1).ok_or_else(|| Error::corrupt("btrfs volume", 0, why))?;
        self.nodes_left.set(left);
        Ok(())
    }

    fn spend_attribute_bytes(&self, count: usize) -> bool {
        let left = self.attribute_bytes_left.get().checked_sub(count as u64);
        self.attribute_bytes_left.set(left.unwrap_or_default());
        left.is_some()
    }

    fn files_most(&self) -> u64 {
        (self.volume.length / BYTES_PER_FILE).clamp(FILES_LEAST, limits::BTRFS_FILES)
    }

    fn saw(&self, logical: u64, length: u64) {
        self.seen.borrow_mut().push(logical, length);
    }
}
