//! FAT has no checksums. exFAT: the boot region has one, and each set of directory entries.

use super::{Bits, Found, Governs, Reads, Region};
use crate::hostile::image::{Damaged, PAGE, Sparse};

const ENTRY: usize = 32;
const REGION_SECTORS: u64 = 12;

/// Where the tables of a FAT volume end: its directories do not say what is free.
pub fn tables_end(image: &Damaged) -> u64 {
    let sectors = match image.le16(22) {
        0 => image.le32(36),
        short => short,
    };
    (image.le16(14) + u64::from(image.get(16, 1)[0]) * sectors) * image.le16(11)
}

pub fn find_exfat(image: &Sparse, reads: &Reads, found: &mut Found) -> u64 {
    let good = Damaged::new(image);
    let sector = 1 << good.get(108, 1)[0];
    let cluster = sector << good.get(109, 1)[0];
    for at in [0, REGION_SECTORS * sector] {
        found.add("boot", Region { at, length: 128, number: 0, governs: Governs::All, seal: Some(seal_boot) });
    }
    let heap = good.le32(88) * sector;
    // The bitmap is the first thing in the heap; its entry comes first in the root directory, or behind the label.
    let root = heap + (good.le32(96) - 2) * cluster;
    let entry = (root..root + 96).step_by(ENTRY).find(|at| good.get(*at, 1) == [0x81]).expect("the bitmap's entry");
    let at = heap + (good.le32(entry + 20) - 2) * cluster;
    found.bitmap.push(Bits { at, count: good.le32(92), first: heap, unit: cluster });
    for (at, page) in image.stored().filter(|(at, _)| *at >= heap && reads.meet(*at, PAGE as u64)) {
        for from in (0..page.len()).step_by(ENTRY) {
            let length = (usize::from(page[from + 1]) + 1) * ENTRY;
            let place = at + from as u64;
            if page[from] != 0x85 || length > 20 * ENTRY || !reads.meet(place, length as u64) {
                continue;
            }
            let set = good.get(place, length);
            if set_sum(&set).to_le_bytes() == set[2..4] {
                let number = u64::from(u32::from_le_bytes(set[52..56].try_into().unwrap()));
                let length = length as u64;
                found
                    .add("file", Region { at: place, length, number, governs: Governs::Nothing, seal: Some(seal_set) });
            }
        }
    }
    cluster
}

fn set_sum(set: &[u8]) -> u16 {
    let counted = set.iter().enumerate().filter(|(at, _)| !matches!(at, 2 | 3));
    counted.fold(0u16, |sum, (_, &byte)| sum.rotate_right(1).wrapping_add(u16::from(byte)))
}

fn seal_set(damaged: &mut Damaged, region: &Region) {
    let length = (usize::from(damaged.get(region.at + 1, 1)[0]) + 1) * ENTRY;
    let sum = set_sum(&damaged.get(region.at, length));
    damaged.set(region.at + 2, &sum.to_le_bytes());
}

fn seal_boot(damaged: &mut Damaged, region: &Region) {
    let shift = damaged.get(region.at + 108, 1)[0];
    if !(9..=12).contains(&shift) {
        return;
    }
    let sector = 1usize << shift;
    let covered = damaged.get(region.at, (REGION_SECTORS as usize - 1) * sector);
    let counted = covered.iter().enumerate().filter(|(at, _)| !matches!(at, 106 | 107 | 112));
    let sum = counted.fold(0u32, |sum, (_, &byte)| sum.rotate_right(1).wrapping_add(u32::from(byte)));
    damaged.set(region.at + covered.len() as u64, &sum.to_le_bytes().repeat(sector / 4));
}
