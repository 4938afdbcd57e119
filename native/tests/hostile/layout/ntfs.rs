//! NTFS: the records of the $MFT, with their fixups. What says what is free: the records of $MFT, its mirror and $Bitmap,
//! their extensions, and all that is read besides records.

use super::{Bits, Found, Governs, Reads, Region, Seal};
use crate::hostile::image::{Damaged, Sparse};

const GOVERNING: [u64; 3] = [0, 1, 6];
const BITMAP: u64 = 6;
const DATA: u64 = 0x80;
const STRIDE: u64 = 512;

pub fn find(image: &Sparse, reads: &Reads, found: &mut Found) -> u64 {
    let good = Damaged::new(image);
    let cluster = good.le16(0x0B) * u64::from(good.get(0x0D, 1)[0]);
    let raw = good.get(0x40, 1)[0] as i8;
    let length = if raw < 0 { 1 << -raw } else { raw as u64 * cluster };
    for (page_at, page) in image.stored() {
        for from in (0..page.len()).step_by(length.min(1024) as usize) {
            let at = page_at + from as u64;
            if &page[from..from + 4] != b"FILE" || !reads.meet(at, length) {
                continue;
            }
            let (number, base) = (good.le32(at + 0x2C), good.le64(at + 0x20) << 16 >> 16);
            let extends = good.le64(at + 0x20) != 0;
            let governs = Governs::all(GOVERNING.contains(if extends { &base } else { &number }));
            if number == BITMAP && found.bitmap.is_empty() {
                found.bitmap.extend(bitmap(&good, at, cluster));
            }
            let in_use = good.get(at + 0x16, 1)[0] & 1 != 0;
            let kind = match (in_use, extends, number < 24) {
                (false, ..) => "free record",
                (_, true, _) => "extension",
                (_, _, true) => "record of the file system",
                _ => "record",
            };
            // Those of deleted files are left behind torn.
            let seal = in_use.then_some(seal as Seal);
            found.add(kind, Region { at, length, number, governs, seal });
        }
    }
    cluster
}

/// Where $Bitmap lies by its record, in one run.
fn bitmap(good: &Damaged, record: u64, cluster: u64) -> Option<Bits> {
    let mut at = record + good.le16(record + 0x14);
    while good.le32(at) != DATA {
        at += good.le32(at + 4);
    }
    let runs = good.get(at + good.le16(at + 0x20), 16);
    let (lengths, starts) = (usize::from(runs[0] & 15), usize::from(runs[0] >> 4));
    let start = runs[1 + lengths..][..starts].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    let sectors = good.le64(0x28) * good.le16(0x0B);
    let whole = runs[1 + lengths + starts] == 0;
    whole.then_some(Bits { at: start * cluster, count: sectors / cluster, first: 0, unit: cluster })
}

/// What an edit put where a fixup stands goes to where the fixups keep it.
fn seal(damaged: &mut Damaged, region: &Region) {
    let usa_ofs = damaged.le16(region.at + 4);
    let sectors = region.length / STRIDE;
    if usa_ofs + (sectors + 1) * 2 > STRIDE - 2 {
        return;
    }
    let array = region.at + usa_ofs;
    let number = damaged.get(array, 2);
    for sector in 1..=sectors {
        let tail = region.at + sector * STRIDE - 2;
        let there = damaged.get(tail, 2);
        if there != number {
            damaged.set(array + sector * 2, &there);
            damaged.set(tail, &number);
        }
    }
}
