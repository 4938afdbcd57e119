//! exFAT into the file map: what differs from FAT. In use is what the allocation bitmap says, and whatever a file has
//! besides; the FAT leads only files that are not contiguous.

use super::bits::Bits;
use super::directory::{DIRECTORY, READ_ONLY};
use super::exfat_boot;
use super::exfat_directory::{Entry, Item, Reader};
use super::heap::{Chain, ENTRY_BYTES, Heap, MOST_BYTES};
use super::table::{self, TableLayout, Width};
use super::tree::{self, Found, Pending, Tree};
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::disk::volume::Volume;
use crate::fs::file_system::FileSystem;
use crate::fs::shared::Doubts;
use crate::fs::volume_map::VolumeMap;

/// exFAT.
pub struct ExFatFileSystem;

impl FileSystem for ExFatFileSystem {
    fn name(&self) -> &'static str {
        "exfat"
    }

    fn names(&self) -> &'static [&'static str] {
        &["exfat"]
    }

    fn detect(&self, volume: Volume) -> Result<bool> {
        detect(volume)
    }

    fn map(&self, volume: Volume) -> Result<VolumeMap> {
        map(volume)
    }

    fn has_windows_files(&self, _map: &VolumeMap) -> bool {
        true
    }

    /// Anybody may set them back.
    fn has_trustworthy_times(&self) -> bool {
        false
    }

    fn frozen_as(&self) -> &'static [&'static str] {
        &[]
    }
}

pub fn detect(volume: Volume) -> Result<bool> {
    exfat_boot::detect(volume)
}

/// What the root directory says about the volume.
#[derive(Default)]
struct Facts {
    label: Option<Vec<u8>>,
    /// First cluster and length of the bitmap of the FAT that counts.
    bitmap: Option<(u32, u64)>,
    others: Vec<u32>,
}

pub fn map(volume: Volume) -> Result<VolumeMap> {
    if volume.length > MOST_BYTES {
        return Err(Error::unsupported("exFAT on more than 8 PiB"));
    }
    let mut doubts = Doubts::default();
    let boot = exfat_boot::read(volume, &mut doubts)?;
    // Two FATs are not copies: the second one is of a transaction, as is the second bitmap.
    let at = boot.fat_at + if boot.second_fat { boot.fat_bytes } else { 0 };
    let layout = TableLayout { width: Width::ExFat, at, bytes: boot.fat_bytes, copies: 1, clusters: boot.clusters };
    let table = table::read(volume, &layout, &mut doubts)?;
    let mut heap = Heap {
        volume,
        at: boot.heap_at,
        cluster_bytes: u64::from(boot.cluster_bytes),
        clusters: boot.clusters,
        table,
        claimed: Bits::new(u64::from(boot.clusters) + 2),
        doubts,
    };
    let root = heap.chain(boot.root_cluster);
    if root.pieces.is_empty() {
        return Err(Error::corrupt("exFAT root directory", 96, root.broken.unwrap_or_default()));
    }
    if let Some(why) = &root.broken {
        heap.doubts.push(format!("the root directory: {why}; what follows is left out"));
    }
    let mut facts = Facts::default();
    let mut tree = Tree::new(heap.spans(&root));
    while let Some(pending) = tree.next_directory() {
        let found = read_directory(&mut heap, &pending, boot.second_fat, &mut facts);
        // The volume's own clusters come first, so that no file can take them.
        if pending.number == tree::ROOT {
            for first in facts.others.drain(..) {
                heap.chain(first);
            }
        }
        if let (true, Some((first, _))) = (pending.number == tree::ROOT, facts.bitmap) {
            let chain = heap.chain(first);
            facts.bitmap = facts.bitmap.filter(|_| chain.broken.is_none());
            read_bitmap(&mut heap, &chain, facts.bitmap)?;
        } else if pending.number == tree::ROOT {
            return Err(Error::corrupt("exFAT allocation bitmap", 0, "the root directory has none"));
        }
        for entry in found {
            let found = look_up(&mut heap, entry);
            tree.add(&mut heap, pending.number, found);
        }
    }
    let (files, entries) = tree.finish(&mut heap.doubts);
    let unmarked = heap.table.in_use.join(&heap.claimed);
    if unmarked > 0 {
        heap.doubts.push(format!("{unmarked} clusters of files are free in the allocation bitmap; they are kept"));
    }
    let allocated = heap.allocated(&heap.table.in_use);
    Ok(VolumeMap {
        subvolumes: vec![],
        file_system: "exfat",
        label: String::from_utf8_lossy(&facts.label.unwrap_or_default()).into_owned(),
        uuid: format!("{:04X}-{:04X}", boot.serial >> 16, boot.serial & 0xFFFF),
        cluster_bytes: boot.cluster_bytes,
        dirty: boot.dirty,
        root: tree::ROOT,
        allocated,
        files,
        entries,
        tables: Vec::new(),
        idle_journal: Vec::new(),
        doubts: heap.doubts.into_sentences(),
    })
}

fn read_directory(heap: &mut Heap, pending: &Pending, second: bool, facts: &mut Facts) -> Vec<Entry> {
    let in_root = pending.number == tree::ROOT;
    let mut reader = Reader::default();
    let mut found = Vec::new();
    let broken = |at: u64, why: &str, doubts: &mut Doubts| {
        doubts.push(format!("a file at byte {at}: {why}; it was left out"));
    };
    Heap::entries(heap.volume, &pending.spans, &mut heap.doubts, |at, raw, doubts| {
        for item in reader.next(at, raw) {
            match item {
                Item::End => return false,
                Item::Broken(at, why) => broken(at, why, doubts),
                Item::Entry(entry) => found.push(entry),
                Item::Label(label) if in_root && facts.label.is_none() => facts.label = Some(label),
                Item::Upcase(first) if in_root => facts.others.push(first),
                Item::Bitmap(flags, first, length) if in_root => {
                    if (flags & 1 != 0) == second && facts.bitmap.is_none() {
                        facts.bitmap = Some((first, length));
                    } else {
                        facts.others.push(first);
                    }
                }
                _ => {}
            }
        }
        true
    });
    if let Item::Broken(at, why) = reader.rest() {
        broken(at, why, &mut heap.doubts);
    }
    found
}

/// The bitmap takes the place of what the FAT says is in use, whose entries mean nothing for contiguous files.
fn read_bitmap(heap: &mut Heap, chain: &Chain, bitmap: Option<(u32, u64)>) -> Result<()> {
    let bytes = u64::from(heap.clusters).div_ceil(8);
    let has = chain.clusters() * heap.cluster_bytes;
    if bitmap.is_none_or(|(_, length)| length < bytes || has < bytes) {
        return Err(Error::corrupt("exFAT allocation bitmap", 0, "it is not whole"));
    }
    let mut in_use = Bits::new(u64::from(heap.clusters) + 2);
    let mut done = 0;
    let mut buffer = vec![0u8; bytes.min(limits::TABLE_READ_BYTES as u64) as usize];
    for (start, length) in heap.spans(chain) {
        let mut at = start;
        let end = start + length.min(bytes - done);
        while at < end {
            let take = (end - at).min(buffer.len() as u64) as usize;
            heap.volume.read(at, &mut buffer[..take])?;
            mark(&mut in_use, &buffer[..take], 2 + done * 8, heap.clusters);
            at += take as u64;
            done += take as u64;
        }
    }
    heap.table.in_use = in_use;
    Ok(())
}

fn mark(in_use: &mut Bits, bytes: &[u8], first: u64, clusters: u32) {
    let end = u64::from(clusters) + 2;
    let mut cluster = first;
    for &byte in bytes {
        let count = 8.min(end - cluster);
        match byte {
            0 => {}
            0xFF => in_use.set(cluster, count),
            _ => {
                for bit in (0..count).filter(|bit| byte >> bit & 1 == 1) {
                    in_use.set(cluster + bit, 1);
                }
            }
        }
        cluster += count;
    }
}

fn look_up(heap: &mut Heap, entry: Entry) -> Found {
    let directory = entry.attributes & u16::from(DIRECTORY) != 0;
    let wanted = entry.size.div_ceil(heap.cluster_bytes);
    let mut chain = match entry.first_cluster {
        0 => Chain::default(),
        first if entry.no_fat_chain => heap.contiguous(first, wanted),
        first => heap.chain(first),
    };
    if directory && entry.size > limits::EXFAT_DIRECTORY_BYTES {
        chain.broken = Some(format!("a directory of {} bytes", entry.size));
        chain.pieces.clear();
    }
    Found {
        number: entry.at / ENTRY_BYTES as u64,
        name: entry.name,
        directory,
        read_only: entry.attributes & u16::from(READ_ONLY) != 0,
        size: entry.size,
        valid: entry.valid,
        chain,
        modified: entry.modified,
        created: entry.created,
    }
}
