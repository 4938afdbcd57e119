//! Nodes of all trees: checked once, whole, before anything of them is used.
//!
//! ```text
//! csum 32   fsid 16   bytenr (0x30)   flags   chunk_tree_uuid 16   generation (0x50)   owner   nritems u32 (0x60)
//! level u8 (0x64); from 0x65: key 17, blockptr u64, generation u64; in a leaf: key 17, offset u32, size u32
//! ```

use super::key::{Key, Pointer};
use super::reader::Btrfs;
use crate::base::bytes::{le32, le64};
use crate::base::error::{Error, Result};

const HEADER_BYTES: usize = 0x65;
const KEY_BYTES: usize = 17;
const POINTER_BYTES: usize = 33;
const ITEM_BYTES: usize = 25;

/// A node that passed all checks.
pub struct Node {
    bytes: Vec<u8>,
    count: usize,
}

impl Node {
    /// From the first copy that is whole.
    pub fn read(btrfs: &Btrfs, pointer: &Pointer) -> Result<Self> {
        let length = btrfs.superblock.node_bytes;
        btrfs.spend_node()?;
        let (first, second) = btrfs.chunks.copies(pointer.logical, length.into())?;
        let read = |at: u64| {
            let bytes = btrfs.volume.read_vec(at, length as usize)?;
            let count = check(btrfs, pointer, &bytes)?;
            Ok(Self { bytes, count })
        };
        match (read(first), second) {
            (Err(error), Some(second)) => read(second).map_err(|_| error),
            (node, _) => node,
        }
    }

    /// Of an inner node of `level`.
    pub fn pointers(&self, level: u8) -> impl DoubleEndedIterator<Item = Pointer> + '_ {
        (0..self.count).map(move |number| {
            let at = HEADER_BYTES + number * POINTER_BYTES;
            Pointer {
                logical: le64(&self.bytes, at + KEY_BYTES),
                level: level - 1,
                generation: le64(&self.bytes, at + KEY_BYTES + 8),
                first: Some(Key::decode(&self.bytes, at)),
            }
        })
    }

    /// Of a leaf.
    pub fn items(&self) -> impl Iterator<Item = (Key, &[u8])> {
        (0..self.count).map(move |number| {
            let (from, to) = item_range(&self.bytes, number).expect("checked when it was read");
            (Key::decode(&self.bytes, HEADER_BYTES + number * ITEM_BYTES), &self.bytes[from..to])
        })
    }
}

/// Where the data of an item lies, inside the node and behind all items' headers' start.
fn item_range(bytes: &[u8], number: usize) -> Option<(usize, usize)> {
    let at = HEADER_BYTES + number * ITEM_BYTES + KEY_BYTES;
    let from = (le32(bytes, at) as usize).checked_add(HEADER_BYTES)?;
    let to = from.checked_add(le32(bytes, at + 4) as usize)?;
    (to <= bytes.len()).then_some((from, to))
}

/// Returns the count of items.
fn check(btrfs: &Btrfs, pointer: &Pointer, bytes: &[u8]) -> Result<usize> {
    let corrupt = |why: String| Err(Error::corrupt("btrfs node", pointer.logical, why));
    if !btrfs.superblock.checksum.holds(bytes) {
        return corrupt("its checksum does not match".into());
    }
    let (bytenr, generation, nritems, level) = (le64(bytes, 0x30), le64(bytes, 0x50), le32(bytes, 0x60), bytes[0x64]);
    if bytes[0x20..0x30] != btrfs.superblock.metadata_uuid || bytenr != pointer.logical {
        return corrupt(format!("it is the node of {bytenr}"));
    }
    if generation != pointer.generation || level != pointer.level {
        let (wanted, wanted_level) = (pointer.generation, pointer.level);
        return corrupt(format!("generation {generation} and level {level}, not {wanted} and {wanted_level}"));
    }
    let (count, slot) = (nritems as usize, if level == 0 { ITEM_BYTES } else { POINTER_BYTES });
    if count > (bytes.len() - HEADER_BYTES) / slot || (count == 0 && (level > 0 || pointer.first.is_some())) {
        return corrupt(format!("{count} items"));
    }
    let keys = (0..count).map(|number| Key::decode(bytes, HEADER_BYTES + number * slot));
    if !keys.clone().zip(keys.clone().skip(1)).all(|(key, next)| key < next) {
        return corrupt("its keys are out of order".into());
    }
    if pointer.first.is_some() && keys.clone().next() != pointer.first {
        return corrupt("it does not begin where its parent says".into());
    }
    // Data lies from the end downwards, item by item, without gaps: no two items share bytes.
    let mut end = bytes.len();
    for number in 0..if level == 0 { count } else { 0 } {
        match item_range(bytes, number) {
            Some((from, to)) if to == end && from >= HEADER_BYTES + count * slot => end = from,
            _ => return corrupt(format!("item {number} lies outside of its room")),
        }
    }
    Ok(count)
}
