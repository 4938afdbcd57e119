//! Edits from bytes, so that the fuzzer's own changes of its input are small changes of what is edited. Each takes
//! fourteen bytes: group, index of the region in it (2), offset in the region (2), operation, value (8).

use super::image::Damaged;
use super::image::Sparse;
use super::layout::{Governs, Layout, Region};

pub const EDIT_BYTES: usize = 14;
/// More would only make an execution slow.
const EDITS: usize = 32;
/// Odd values of this bit leave the checksum wrong; the fuzzer seldom wants that.
const UNSEALED: u8 = 0x80;
const SPLICE_BYTES: usize = 64;

struct Edit<'a> {
    group: u8,
    index: u16,
    offset: u16,
    operation: u8,
    value: &'a [u8; 8],
}

impl<'a> Edit<'a> {
    fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (head, value) = bytes.split_first_chunk::<6>()?;
        Some(Self {
            group: head[0],
            index: u16::from_le_bytes([head[1], head[2]]),
            offset: u16::from_le_bytes([head[3], head[4]]),
            operation: head[5],
            value: value.first_chunk()?,
        })
    }

    fn number(&self) -> u64 {
        u64::from_le_bytes(*self.value)
    }
}

/// The image with the edits, checksums put right, and what they may rightly have changed.
pub fn apply<'a>(image: &'a Sparse, layout: &Layout, edits: &[u8]) -> (Damaged<'a>, Governs) {
    let mut damaged = Damaged::new(image);
    let mut governs = Governs::Nothing;
    let mut to_seal: Vec<&Region> = Vec::new();
    for bytes in edits.chunks_exact(EDIT_BYTES).take(EDITS) {
        let Some(edit) = Edit::decode(bytes) else { break };
        let region = layout.region(edit.group, edit.index);
        change(&mut damaged, layout, region, &edit);
        governs = governs.max(region.governs);
        if edit.operation & UNSEALED == 0 {
            to_seal.push(region);
        }
    }
    if damaged.length != image.length {
        governs = Governs::All;
    }
    // When all are done: one seal may cover what a later edit changes.
    for region in to_seal {
        if let Some(seal) = region.seal {
            seal(&mut damaged, region);
        }
    }
    (damaged, governs)
}

fn change(damaged: &mut Damaged, layout: &Layout, region: &Region, edit: &Edit) {
    let at = region.at + u64::from(edit.offset) % region.length;
    let room = (region.at + region.length - at) as usize;
    let mut put = |bytes: &[u8]| damaged.set(at, &bytes[..bytes.len().min(room)]);
    let (value, number) = (edit.value, edit.number());
    match edit.operation & !UNSEALED {
        0..8 => put(&value[..1]),
        8..16 => put(&value[..2]),
        16..24 => put(&value[..4]),
        24..32 => put(value),
        // One bit; a small sum in either byte order; bytes of one value.
        32..40 => {
            let byte = damaged.get(at, 1)[0];
            damaged.set(at, &[byte ^ 1 << (value[0] % 8)]);
        }
        40..48 => {
            let sum = (damaged.le32(at) as u32).wrapping_add(i32::from(value[0] as i8) as u32);
            damaged.set(at, &sum.to_le_bytes()[..room.min(4)]);
        }
        48..56 => {
            let sum = u32::from_be_bytes(damaged.get(at, 4).try_into().unwrap());
            let sum = sum.wrapping_add(i32::from(value[0] as i8) as u32);
            damaged.set(at, &sum.to_be_bytes()[..room.min(4)]);
        }
        56..60 => put(&vec![value[0]; usize::from(value[1])]),
        // Bytes move on or back within the region, as if some were put in or taken out.
        60..64 => {
            let bytes = damaged.get(at, room);
            let by = usize::from(value[0] % 33).min(room);
            if value[1] & 1 == 0 {
                damaged.set(at, &bytes[by..])
            } else {
                damaged.set(at + by as u64, &bytes[..room - by])
            }
        }
        // Another structure, whole or a piece of it, in this one's place.
        64..72 => {
            let other = layout.region(value[0], u16::from_le_bytes([value[1], value[2]]));
            let bytes = damaged.get(other.at, other.length.min(region.length) as usize);
            damaged.set(region.at, &bytes);
        }
        72..80 => {
            let other = layout.region(value[0], u16::from_le_bytes([value[1], value[2]]));
            let from = u64::from(u16::from_le_bytes([value[3], value[4]])) % other.length;
            let bytes = damaged.get(other.at + from, SPLICE_BYTES.min(usize::from(value[5]) + 1));
            damaged.set(at, &bytes[..bytes.len().min(room)]);
        }
        // The address of another structure, in the units and widths that file systems use: ways become circles.
        80..112 => {
            let other = layout.region(value[0], u16::from_le_bytes([value[1], value[2]]));
            let address = if value[3] & 1 == 0 { other.at / layout.unit } else { other.number };
            match edit.operation & 3 {
                0 => damaged.set(at, &(address as u32).to_le_bytes()[..room.min(4)]),
                1 => damaged.set(at, &address.to_le_bytes()[..room.min(8)]),
                2 => damaged.set(at, &(address as u32).to_be_bytes()[..room.min(4)]),
                _ => damaged.set(at, &address.to_be_bytes()[..room.min(8)]),
            }
        }
        // A power of two, less one, or the like.
        112..120 => {
            let power = 1u64.checked_shl(u32::from(value[0] % 65)).unwrap_or(0);
            let near = power.wrapping_add(i64::from(value[1] as i8 % 3) as u64);
            let width = 1usize << (value[2] % 4);
            let bytes = if value[3] & 1 == 0 { near.to_le_bytes() } else { near.to_be_bytes() };
            let from = if value[3] & 1 == 0 { 0 } else { 8 - width };
            damaged.set(at, &bytes[from..from + width][..width.min(room)]);
        }
        // The end is cut off.
        120..122 => damaged.length = damaged.length.min(number),
        122..124 => damaged.length -= (number % 65537 * 512).min(damaged.length),
        _ => put(value),
    }
}
