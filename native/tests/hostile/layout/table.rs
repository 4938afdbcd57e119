//! GPT: two headers and two arrays, under each other's checksums. MBR: its sector, and those of its chain.

use super::{Found, Governs, Region};
use crate::hostile::image::Damaged;

const SECTOR: u64 = 512;
const ARRAY_BYTES_MOST: u64 = 1 << 22;

/// The chain of an MBR is found by what is read.
pub fn find(image: &Damaged, found: &mut Found) -> u64 {
    let sizes = [512, 4096].into_iter().find(|&sector| image.get(sector, 8) == b"EFI PART");
    let Some(sector) = sizes else { return SECTOR };
    let seal = if sector == 512 { seal::<512> } else { seal::<4096> };
    let region = |at, length| Region { at, length, number: at / sector, governs: Governs::All, seal: Some(seal) };
    for header in headers(image, sector) {
        found.add("header", region(header, 92));
        let array = image.le64(header + 72) * sector;
        for entry in 0..image.le32(header + 80) {
            let (at, length) = (array + entry * image.le32(header + 84), image.le32(header + 84));
            let kind = if image.get(at, 16) == [0; 16] { "unused entry" } else { "entry" };
            found.add(kind, region(at, length));
        }
    }
    found.add("protective", Region { at: 446, length: 66, number: 0, governs: Governs::All, seal: None });
    sector
}

fn headers(image: &Damaged, sector: u64) -> [u64; 2] {
    [sector, (image.length / sector).saturating_sub(1) * sector]
}

/// Both headers, whatever was edited: their arrays' checksum first, then their own.
fn seal<const SECTOR_BYTES: u64>(damaged: &mut Damaged, _: &Region) {
    for at in headers(damaged, SECTOR_BYTES) {
        if damaged.get(at, 8) != b"EFI PART" {
            continue;
        }
        let array = damaged.le64(at + 72).checked_mul(SECTOR_BYTES);
        let length = damaged.le32(at + 80) * damaged.le32(at + 84);
        let inside = array.and_then(|array| array.checked_add(length)).is_some_and(|end| end <= damaged.length);
        if inside && length <= ARRAY_BYTES_MOST {
            let sum = crc32fast::hash(&damaged.get(array.unwrap(), length as usize));
            damaged.set(at + 88, &sum.to_le_bytes());
        }
        let size = damaged.le32(at + 12).min(SECTOR_BYTES) as usize;
        let mut header = damaged.get(at, size.max(20));
        header[16..20].fill(0);
        damaged.set(at + 16, &crc32fast::hash(&header[..size]).to_le_bytes());
    }
}
