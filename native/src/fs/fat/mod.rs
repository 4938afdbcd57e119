//! FAT12, FAT16, FAT32 and exFAT into the file map. One file a structure; Microsoft's specifications name the fields.
//! A boot sector or root directory that makes no sense refuses the volume; a file that cannot be read whole is left
//! out with a doubt, and its clusters stay in `allocated`.
//!
//! FAT has no file numbers: a file's is the position of its (short) entry on the volume, its byte offset / 32, and the
//! root's is 1, which lies in the boot sector. Permissions are 0777 for directories and 0666 for files, without the
//! write bits where a file is read-only. Hidden, system and archive attributes stay in the raw directory.

mod bits;
mod boot;
mod directory;
pub mod exfat;
mod exfat_boot;
mod exfat_directory;
#[cfg(test)]
mod exfat_tests;
mod heap;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod tree;

use self::bits::Bits;
use self::boot::{BOOT_BYTES, Boot};
use self::directory::{Item, Reader};
use self::heap::{Chain, Heap, MOST_BYTES};
use self::table::{TableLayout, Width};
use self::tree::{Found, Tree};
use crate::base::error::{Error, Result};
use crate::disk::volume::Volume;
use crate::fs::file_system::FileSystem;
use crate::fs::shared::Doubts;
use crate::fs::volume_map::VolumeMap;

/// FAT12, FAT16 and FAT32.
pub struct FatFileSystem;

impl FileSystem for FatFileSystem {
    fn name(&self) -> &'static str {
        "fat"
    }

    fn names(&self) -> &'static [&'static str] {
        &["fat12", "fat16", "fat32"]
    }

    fn detect(&self, volume: Volume) -> Result<bool> {
        detect(volume)
    }

    fn map(&self, volume: Volume) -> Result<VolumeMap> {
        map(volume)
    }

    fn has_windows_files(&self, map: &VolumeMap) -> bool {
        // Nothing starts from a floppy disk's.
        map.file_system != "fat12"
    }

    /// They count in two seconds, and anybody may set them back.
    fn has_trustworthy_times(&self) -> bool {
        false
    }

    fn frozen_as(&self) -> &'static [&'static str] {
        &[]
    }
}

/// Whether the boot sector is one of FAT12, FAT16 or FAT32; `exfat` tells for itself.
pub fn detect(volume: Volume) -> Result<bool> {
    if volume.length < BOOT_BYTES as u64 {
        return Ok(false);
    }
    Ok(boot::looks_like(&read_sector(volume)?))
}

pub fn map(volume: Volume) -> Result<VolumeMap> {
    let boot = boot::decode(&read_sector(volume)?, volume.length.min(MOST_BYTES))?;
    let mut doubts = Doubts::default();
    let layout = TableLayout {
        width: boot.width,
        at: boot.fat_at,
        bytes: boot.fat_bytes,
        copies: boot.fats,
        clusters: boot.clusters,
    };
    let table = table::read(volume, &layout, &mut doubts)?;
    if table.bad > 0 {
        doubts.push(format!("{} clusters are marked as bad, they were left out", table.bad));
    }
    let dirty = boot.dirty || table.dirty;
    let mut heap = Heap {
        volume,
        at: boot.heap_at,
        cluster_bytes: u64::from(boot.cluster_bytes),
        clusters: boot.clusters,
        table,
        claimed: Bits::new(u64::from(boot.clusters) + 2),
        doubts,
    };
    let root = root_spans(&mut heap, &boot)?;
    let mut label = directory::label(&boot.label);
    let mut tree = Tree::new(root);
    while let Some(pending) = tree.next_directory() {
        let in_root = pending.number == tree::ROOT;
        let mut reader = Reader::default();
        let mut found = Vec::new();
        let mut labelled = false;
        Heap::entries(volume, &pending.spans, &mut heap.doubts, |at, raw, doubts| {
            match reader.next(raw) {
                Item::End => return false,
                Item::Nothing => {}
                Item::Label(raw) if in_root && !labelled => {
                    label = directory::label(&raw);
                    labelled = true;
                }
                Item::Label(_) => {}
                Item::Unnameable => doubts.push(format!("a file at byte {at} has no usable name, it was left out")),
                Item::Entry(entry) => found.push((at, entry)),
            }
            true
        });
        for (at, entry) in found {
            let found = look_up(&mut heap, &boot, at, entry);
            tree.add(&mut heap, pending.number, found);
        }
    }
    let (files, entries) = tree.finish(&mut heap.doubts);
    let allocated = heap.allocated(&heap.table.in_use);
    let (high, low) = (boot.serial >> 16, boot.serial & 0xFFFF);
    Ok(VolumeMap {
        subvolumes: vec![],
        file_system: match boot.width {
            Width::Fat12 => "fat12",
            Width::Fat16 => "fat16",
            _ => "fat32",
        },
        label,
        uuid: if boot.serial == 0 { String::new() } else { format!("{high:04X}-{low:04X}") },
        cluster_bytes: boot.cluster_bytes,
        dirty,
        root: tree::ROOT,
        allocated,
        files,
        entries,
        tables: Vec::new(),
        idle_journal: Vec::new(),
        doubts: heap.doubts.into_sentences(),
    })
}

fn read_sector(volume: Volume) -> Result<[u8; BOOT_BYTES]> {
    let mut sector = [0; BOOT_BYTES];
    volume.read(0, &mut sector)?;
    Ok(sector)
}

fn root_spans(heap: &mut Heap, boot: &Boot) -> Result<Vec<(u64, u64)>> {
    if boot.width != Width::Fat32 {
        return Ok(vec![boot.root_region]);
    }
    let chain = heap.chain(boot.root_cluster);
    if chain.pieces.is_empty() {
        return Err(Error::corrupt("FAT root directory", 0x2C, chain.broken.unwrap_or_default()));
    }
    if let Some(why) = &chain.broken {
        heap.doubts.push(format!("the root directory: {why}; what follows is left out"));
    }
    Ok(heap.spans(&chain))
}

fn look_up(heap: &mut Heap, boot: &Boot, at: u64, entry: directory::Entry) -> Found {
    let directory = entry.attributes & directory::DIRECTORY != 0;
    // FAT12 and FAT16 have other things in the upper half.
    let first = if boot.width == Width::Fat32 { entry.first_cluster } else { entry.first_cluster & 0xFFFF };
    let chain = if first == 0 { Chain::default() } else { heap.chain(first) };
    let size = if directory { chain.clusters() * heap.cluster_bytes } else { u64::from(entry.size) };
    Found {
        number: at / heap::ENTRY_BYTES as u64,
        name: entry.name,
        directory,
        read_only: entry.attributes & directory::READ_ONLY != 0,
        size,
        valid: size,
        chain,
        modified: entry.modified,
        created: entry.created,
    }
}
