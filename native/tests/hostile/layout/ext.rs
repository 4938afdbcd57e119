//! ext: superblock, descriptors, bitmaps, inodes, and what inodes in use lead to through extents. The checksums are those
//! of `metadata_csum`; where that is off, nothing is sealed, and older volumes' CRC-16 of descriptors is left alone.

use super::{Bits, Found, Governs, Reads, Region, Seal};
use crate::hostile::image::Damaged;

const SUPERBLOCK: u64 = 1024;
const INCOMPAT_META_BG: u64 = 0x10;
const INCOMPAT_64BIT: u64 = 0x80;
const INCOMPAT_CSUM_SEED: u64 = 0x2000;
const RO_COMPAT_METADATA_CSUM: u64 = 0x400;
const EXTENTS_FLAG: u64 = 0x8_0000;
const DIRECTORY: u64 = 0x4000;
const TAIL_BYTES: usize = 12;

/// Where things are, read again from an image whenever it is asked.
struct Geometry {
    block: u64,
    per_group: u64,
    inodes_per_group: u64,
    inode_bytes: u64,
    descriptors_at: u64,
    descriptor_bytes: u64,
    groups: u64,
    sealed: bool,
    seed: u32,
}

impl Geometry {
    /// None where a division would be by zero, or the descriptors are spread.
    fn read(image: &Damaged) -> Option<Self> {
        let field = |at: u64| image.le32(SUPERBLOCK + at);
        let block = 1024u64.checked_shl(field(0x18) as u32).filter(|block| (1024..=65536).contains(block))?;
        let (first, per_group, inodes_per_group) = (field(0x14), field(0x20), field(0x28));
        if per_group == 0 || inodes_per_group == 0 || field(0x60) & INCOMPAT_META_BG != 0 {
            return None;
        }
        let wide = field(0x60) & INCOMPAT_64BIT != 0;
        let seeded = field(0x60) & INCOMPAT_CSUM_SEED != 0;
        Some(Self {
            block,
            per_group,
            inodes_per_group,
            inode_bytes: image.le16(SUPERBLOCK + 0x58).clamp(128, 4096),
            descriptors_at: (first + 1) * block,
            descriptor_bytes: if wide { image.le16(SUPERBLOCK + 0xFE).clamp(32, 1024) } else { 32 },
            groups: field(4).saturating_sub(first).div_ceil(per_group),
            sealed: field(0x64) & RO_COMPAT_METADATA_CSUM != 0,
            seed: if seeded { field(0x270) as u32 } else { sum(!0, &image.get(SUPERBLOCK + 0x68, 16)) },
        })
    }

    fn descriptor(&self, group: u64) -> u64 {
        self.descriptors_at + group * self.descriptor_bytes
    }
}

/// Descriptors are not found here, nor what they lead to.
pub fn is_spread(image: &Damaged) -> bool {
    Geometry::read(image).is_none()
}

/// CRC-32C without its inversions.
fn sum(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

pub fn find(image: &Damaged, reads: &Reads, found: &mut Found) -> u64 {
    let governs = Governs::All;
    let superblock = Region { at: SUPERBLOCK, length: 1024, number: 0, governs, seal: Some(seal_superblock) };
    found.add("superblock", superblock);
    let Some(geometry) = Geometry::read(image) else { return 1024 << image.le32(SUPERBLOCK + 0x18) };
    for group in 0..geometry.groups {
        let (at, length) = (geometry.descriptor(group), geometry.descriptor_bytes);
        found.add("descriptor", Region { at, length, number: group, governs, seal: Some(seal_descriptor) });
        let bitmap = image.le32(at) * geometry.block;
        if reads.meet(bitmap, geometry.block) {
            let (length, governs) = (geometry.block, Governs::Bits);
            found.add("bitmap", Region { at: bitmap, length, number: group, governs, seal: Some(seal_bitmap) });
            let first = (image.le32(SUPERBLOCK + 0x14) + group * geometry.per_group) * geometry.block;
            let unit = 1024 << image.le32(SUPERBLOCK + 0x1C);
            let count = geometry.per_group * geometry.block / unit;
            found.bitmap.push(Bits { at: bitmap, count, first, unit });
        }
        for index in 0..geometry.inodes_per_group {
            find_inode(image, &geometry, group, index, found);
        }
    }
    geometry.block
}

fn find_inode(image: &Damaged, geometry: &Geometry, group: u64, index: u64, found: &mut Found) {
    let table = image.le32(geometry.descriptor(group) + 8) * geometry.block;
    let (at, length) = (table + index * geometry.inode_bytes, geometry.inode_bytes);
    let number = group * geometry.inodes_per_group + index + 1;
    let (mode, links) = (image.le16(at) & 0xf000, image.le16(at + 0x1A));
    if links == 0 || number > 1 << 16 {
        return;
    }
    let kind = if mode == DIRECTORY { "inode of a directory" } else { "inode" };
    let whose = |at, length, seal: Seal| Region { at, length, number, governs: Governs::Nothing, seal: Some(seal) };
    found.add(kind, whose(at, length, seal_inode));
    let attributes = image.le32(at + 0x68) * geometry.block;
    if attributes != 0 {
        found.add("attributes", whose(attributes, geometry.block, seal_attributes));
    }
    if image.le32(at + 0x20) & EXTENTS_FLAG != 0 {
        find_extents(image, geometry, at + 0x28, 5, mode == DIRECTORY, &whose, found);
    }
}

fn find_extents(
    image: &Damaged,
    geometry: &Geometry,
    node: u64,
    depth_most: u64,
    directory: bool,
    whose: &impl Fn(u64, u64, Seal) -> Region,
    found: &mut Found,
) {
    let (magic, entries, depth) = (image.le16(node), image.le16(node + 2), image.le16(node + 6));
    if magic != 0xf30a || depth > depth_most {
        return;
    }
    for entry in (1..=entries).map(|entry| node + entry * 12) {
        if depth > 0 {
            let below = image.le32(entry + 4) * geometry.block;
            found.add("node", whose(below, geometry.block, seal_node));
            find_extents(image, geometry, below, depth - 1, directory, whose, found);
        } else if directory {
            let first = image.le32(entry + 8);
            for block in first..first + image.le16(entry + 4) {
                found.add("directory", whose(block * geometry.block, geometry.block, seal_directory));
            }
        }
    }
}

fn seal_superblock(damaged: &mut Damaged, region: &Region) {
    let sum = sum(!0, &damaged.get(region.at, 0x3FC));
    if Geometry::read(damaged).is_some_and(|geometry| geometry.sealed) {
        damaged.set(region.at + 0x3FC, &sum.to_le_bytes());
    }
}

fn seal_descriptor(damaged: &mut Damaged, region: &Region) {
    let Some(geometry) = Geometry::read(damaged).filter(|geometry| geometry.sealed) else { return };
    let at = geometry.descriptor(region.number);
    let mut raw = damaged.get(at, geometry.descriptor_bytes as usize);
    raw[0x1E..0x20].fill(0);
    let sum = sum(sum(geometry.seed, &(region.number as u32).to_le_bytes()), &raw);
    damaged.set(at + 0x1E, &(sum as u16).to_le_bytes());
}

/// Its sum is in the descriptor, which has one of its own.
fn seal_bitmap(damaged: &mut Damaged, region: &Region) {
    let Some(geometry) = Geometry::read(damaged).filter(|geometry| geometry.sealed) else { return };
    let bits = damaged.get(region.at, (geometry.per_group / 8).min(65536) as usize);
    let sum = sum(geometry.seed, &bits);
    let at = geometry.descriptor(region.number);
    damaged.set(at + 0x18, &(sum as u16).to_le_bytes());
    if geometry.descriptor_bytes >= 0x3A {
        damaged.set(at + 0x38, &((sum >> 16) as u16).to_le_bytes());
    }
    seal_descriptor(damaged, region);
}

/// With which the sums of an inode and of its blocks begin.
fn inode_seed(damaged: &Damaged, geometry: &Geometry, number: u64) -> (u32, u64) {
    let (group, index) = ((number - 1) / geometry.inodes_per_group, (number - 1) % geometry.inodes_per_group);
    let at = damaged.le32(geometry.descriptor(group) + 8) * geometry.block + index * geometry.inode_bytes;
    let seed = sum(geometry.seed, &(number as u32).to_le_bytes());
    (sum(seed, &damaged.get(at + 0x64, 4)), at)
}

fn seal_inode(damaged: &mut Damaged, region: &Region) {
    let Some(geometry) = Geometry::read(damaged).filter(|geometry| geometry.sealed) else { return };
    let (seed, at) = inode_seed(damaged, &geometry, region.number);
    let mut raw = damaged.get(at, geometry.inode_bytes as usize);
    let wide = raw.len() > 128 && damaged.le16(at + 0x80) >= 4;
    raw[0x7C..0x7E].fill(0);
    if wide {
        raw[0x82..0x84].fill(0);
    }
    let sum = sum(seed, &raw);
    damaged.set(at + 0x7C, &(sum as u16).to_le_bytes());
    if wide {
        damaged.set(at + 0x82, &((sum >> 16) as u16).to_le_bytes());
    }
}

fn seal_node(damaged: &mut Damaged, region: &Region) {
    let Some(geometry) = Geometry::read(damaged).filter(|geometry| geometry.sealed) else { return };
    let room = 12 + damaged.le16(region.at + 4) * 12;
    if room + 4 <= region.length {
        let sum = sum(inode_seed(damaged, &geometry, region.number).0, &damaged.get(region.at, room as usize));
        damaged.set(region.at + room, &sum.to_le_bytes());
    }
}

fn seal_directory(damaged: &mut Damaged, region: &Region) {
    let Some(geometry) = Geometry::read(damaged).filter(|geometry| geometry.sealed) else { return };
    let block = damaged.get(region.at, region.length as usize);
    let (content, tail) = block.split_at(block.len() - TAIL_BYTES);
    if tail[..8] == [0, 0, 0, 0, 12, 0, 0, 0xde] {
        let sum = sum(inode_seed(damaged, &geometry, region.number).0, content);
        damaged.set(region.at + region.length - 4, &sum.to_le_bytes());
    }
}

fn seal_attributes(damaged: &mut Damaged, region: &Region) {
    let Some(geometry) = Geometry::read(damaged).filter(|geometry| geometry.sealed) else { return };
    let mut block = damaged.get(region.at, region.length as usize);
    block[0x10..0x14].fill(0);
    let sum = sum(sum(geometry.seed, &(region.at / geometry.block).to_le_bytes()), &block);
    damaged.set(region.at + 0x10, &sum.to_le_bytes());
}
