//! What is in use: the extent tree through the chunks, in all copies. Each chunk is compared with its block group; where
//! the two differ, or a part of the extent tree is lost, the whole chunk counts as in use.
//!
//! ```text
//! EXTENT_ITEM 168 (logical, 168, length)   METADATA_ITEM 169 (logical, 169, level), one node long
//! BLOCK_GROUP_ITEM 192 (logical, 192, length): used   chunk_objectid   flags
//! ```

use std::collections::HashMap;

use super::chunks::Chunk;
use super::key::Pointer;
use super::reader::Btrfs;
use super::roots::{BLOCK_GROUP_TREE, EXTENT_TREE, Roots};
use super::superblock::{MIRRORS, SUPERBLOCK_BYTES};
use super::tree::{self, Found};
use crate::base::bytes::le64;
use crate::base::limits::MIB;
use crate::base::ranges::{ByteRange, coalesce};
use crate::fs::shared::Doubts;

const EXTENT_ITEM: u8 = 168;
const METADATA_ITEM: u8 = 169;
const BLOCK_GROUP_ITEM: u8 = 192;
/// btrfs puts no chunk before it, boot loaders do.
const RESERVED_BYTES: u64 = MIB as u64;

/// All bytes in use: a set, absolute in the source.
pub fn read(btrfs: &Btrfs, roots: &Roots, doubts: &mut Doubts) -> Vec<ByteRange> {
    let Told { mut extents, used, whole } = Told::read(btrfs, roots, doubts);
    if !whole {
        doubts.push("the extent tree cannot be trusted: all chunks count as in use".into());
    }
    extents.sort_unstable();
    let mut in_use = Vec::new();
    for chunk in btrfs.chunks.all() {
        let from = extents.partition_point(|extent| extent.start < chunk.logical);
        let to = extents.partition_point(|extent| extent.start < chunk.logical + chunk.length);
        let inside = &extents[from..to];
        let sum: u64 = inside.iter().map(|extent| extent.length).fold(0, u64::saturating_add);
        let group = used.get(&(chunk.logical, chunk.length)).copied();
        if whole && group == Some(sum) && well_laid(inside, chunk) {
            in_use.extend_from_slice(inside);
        } else {
            in_use.push(ByteRange { start: chunk.logical, length: chunk.length });
            if whole {
                let (logical, group) = (chunk.logical, group.map_or("none".into(), |used| used.to_string()));
                doubts.push(format!(
                    "chunk {logical}: extents of {sum} bytes, its block group says {group}: it counts as in use"
                ));
            }
        }
    }
    let in_use = coalesce(in_use);
    let seen = btrfs.seen.take().into_set();
    let all = coalesce([in_use.as_slice(), seen.as_slice()].concat());
    if total(&all) != total(&in_use) {
        let more = total(&all) - total(&in_use);
        doubts.push(format!("{more} bytes of trees or files are free by the extent tree: they count as in use"));
    }
    on_disk(btrfs, &all)
}

/// Disjoint and inside their chunk.
fn well_laid(extents: &[ByteRange], chunk: &Chunk) -> bool {
    let ends = |extent: &ByteRange| extent.start.checked_add(extent.length);
    extents.windows(2).all(|pair| ends(&pair[0]).is_some_and(|end| end <= pair[1].start))
        && extents.last().is_none_or(|last| ends(last).is_some_and(|end| end <= chunk.logical + chunk.length))
}

/// Logical ranges to the disk, in all copies; with what belongs to no chunk.
fn on_disk(btrfs: &Btrfs, logical: &[ByteRange]) -> Vec<ByteRange> {
    let length = btrfs.volume.length;
    let mut ranges = vec![ByteRange { start: 0, length: RESERVED_BYTES.min(length) }];
    ranges.extend(MIRRORS.iter().filter(|&&at| at < length).map(|&at| {
        let most = length - at;
        ByteRange { start: at, length: most.min(SUPERBLOCK_BYTES as u64) }
    }));
    let device_end = btrfs.superblock.total_bytes.min(length);
    ranges.push(ByteRange { start: device_end, length: length - device_end });
    let mut chunks = btrfs.chunks.all().iter().peekable();
    for range in logical {
        while chunks.next_if(|chunk| chunk.logical + chunk.length <= range.start).is_some() {}
        for chunk in chunks.clone().take_while(|chunk| chunk.logical < range.end()) {
            let start = range.start.max(chunk.logical);
            let end = range.end().min(chunk.logical + chunk.length);
            for copy in [Some(chunk.first), chunk.second].into_iter().flatten() {
                ranges.push(ByteRange { start: copy + (start - chunk.logical), length: end - start });
            }
        }
    }
    ranges.iter_mut().for_each(|range| range.start = btrfs.volume.absolute(range.start));
    coalesce(ranges)
}

fn total(ranges: &[ByteRange]) -> u64 {
    ranges.iter().map(|range| range.length).sum()
}

/// What the extent tree and the block groups say, unjudged.
struct Told {
    /// Logical.
    extents: Vec<ByteRange>,
    /// Block groups (logical, length) to the bytes in use.
    used: HashMap<(u64, u64), u64>,
    /// Every node of both trees could be read.
    whole: bool,
}

impl Told {
    fn read(btrfs: &Btrfs, roots: &Roots, doubts: &mut Doubts) -> Self {
        let mut told = Self { extents: Vec::new(), used: HashMap::new(), whole: true };
        let groups = if btrfs.superblock.block_group_tree { BLOCK_GROUP_TREE } else { EXTENT_TREE };
        for id in [EXTENT_TREE, groups].into_iter().take(if groups == EXTENT_TREE { 1 } else { 2 }) {
            match roots.trees.get(&id) {
                Some(top) => told.read_tree(btrfs, *top, doubts),
                None => told.whole = false,
            }
        }
        told
    }

    fn read_tree(&mut self, btrfs: &Btrfs, top: Pointer, doubts: &mut Doubts) {
        let node_bytes = u64::from(btrfs.superblock.node_bytes);
        tree::walk(btrfs, top, |found| match found {
            Found::Item(key, _) if key.kind == EXTENT_ITEM => {
                self.extents.push(ByteRange { start: key.objectid, length: key.offset });
            }
            Found::Item(key, _) if key.kind == METADATA_ITEM => {
                self.extents.push(ByteRange { start: key.objectid, length: node_bytes });
            }
            Found::Item(key, item) if key.kind == BLOCK_GROUP_ITEM && item.len() >= 8 => {
                self.used.insert((key.objectid, key.offset), le64(item, 0));
            }
            Found::Item(..) => {}
            Found::Lost { error, .. } => {
                self.whole = false;
                doubts.push(error.to_string());
            }
        });
    }
}
