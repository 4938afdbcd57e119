//! The label, the physical volume's header behind it, and the metadata areas.
//!
//! ```text
//! label    in one of the first four sectors of 512 bytes
//!          0 id "LABELONE"   8 sector_xl   16 crc_xl (over 20 to 512)   20 offset_xl   24 type "LVM2 001"
//! header   at offset_xl: 0 pv_uuid (32)   32 device_size_xl   40 data areas, then metadata areas: pairs of offset
//!          and size (u64 each), each list ended by a pair of zeros
//! area     0 checksum_xl (over 4 to 512)   4 magic (16)   20 version   24 start   32 size   40 raw_locns:
//!          offset, size (u64), checksum, flags (u32); the first is the text that counts, the second one being written
//! text     a ring from byte 512 of the area to its end
//! ```

use crate::base::bytes::{le32, le64};
use crate::base::error::{Error, Result};
use crate::base::limits::{LVM_AREAS, LVM_METADATA_BYTES};
use crate::base::ranges::ByteRange;
use crate::disk::volume::Volume;

const SECTOR: usize = 512;
const LABEL_SECTORS: u64 = 4;
const AREA_MAGIC: &[u8; 16] = b"\x20\x4c\x56\x4d\x32\x20\x78\x5b\x35\x41\x25\x72\x30\x4e\x2a\x3e";
const IGNORED: u32 = 1;

pub struct Label {
    /// 32 letters and digits.
    pub uuid: Vec<u8>,
    /// Relative to the volume: the label's own sectors, and the metadata areas.
    pub tables: Vec<ByteRange>,
    areas: Vec<ByteRange>,
}

/// lvm2's `calc_crc`: CRC-32 without the final inversion, begun with a number of its own.
pub fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(!0xf597_a6cf);
    hasher.update(bytes);
    !hasher.finalize()
}

/// `None` without one whose checksum holds.
pub fn read(volume: Volume) -> Result<Option<Label>> {
    for number in 0..LABEL_SECTORS.min(volume.length / SECTOR as u64) {
        let sector = volume.read_vec(number * SECTOR as u64, SECTOR)?;
        let ours = sector[..8] == *b"LABELONE" && sector[24..32] == *b"LVM2 001";
        if ours && le64(&sector, 8) == number && le32(&sector, 16) == checksum(&sector[20..]) {
            return header(volume, &sector).map(Some);
        }
    }
    Ok(None)
}

fn header(volume: Volume, sector: &[u8]) -> Result<Label> {
    let corrupt = |why: &str| Err(Error::corrupt("LVM label", 0, why));
    let offset = le32(sector, 20) as usize;
    if !(32..=SECTOR - 40).contains(&offset) {
        return corrupt("its header lies outside of its sector");
    }
    let uuid = sector[offset..offset + 32].to_vec();
    let mut pairs = sector[offset + 40..].chunks_exact(16).map(|pair| (le64(pair, 0), le64(pair, 8)));
    // The data areas say where extents begin, and so does the metadata.
    if !pairs.by_ref().any(|(start, _)| start == 0) {
        return corrupt("its list of data areas does not end");
    }
    let mut areas = Vec::new();
    loop {
        match pairs.next() {
            None => return corrupt("its list of metadata areas does not end"),
            Some((0, _)) => break,
            Some((start, length)) => areas.push(ByteRange { start, length }),
        }
    }
    let inside = |area: &ByteRange| {
        area.length > SECTOR as u64 && area.start.checked_add(area.length).is_some_and(|end| end <= volume.length)
    };
    if areas.len() > LVM_AREAS || !areas.iter().all(inside) {
        return corrupt("its metadata areas lie outside of the volume");
    }
    let mut tables = vec![ByteRange { start: 0, length: LABEL_SECTORS * SECTOR as u64 }];
    tables.extend_from_slice(&areas);
    Ok(Label { uuid, tables, areas })
}

/// The text of each area that is in use.
pub fn metadata(volume: Volume, label: &Label) -> Result<Vec<Vec<u8>>> {
    let mut texts = Vec::new();
    for area in &label.areas {
        texts.extend(text_of(volume, *area)?);
    }
    Ok(texts)
}

/// `None` for an area that is set to be ignored, or was never written.
fn text_of(volume: Volume, area: ByteRange) -> Result<Option<Vec<u8>>> {
    let corrupt = |why: String| Err(Error::corrupt("LVM metadata area", area.start, why));
    let head = volume.read_vec(area.start, SECTOR)?;
    if le32(&head, 0) != checksum(&head[4..]) || head[4..20] != *AREA_MAGIC {
        return corrupt("its checksum does not match".into());
    }
    if (le32(&head, 20), le64(&head, 24), le64(&head, 32)) != (1, area.start, area.length) {
        return corrupt("it is of another version, or describes another place".into());
    }
    let location = |at: usize| (le64(&head, at), le64(&head, at + 8), le32(&head, at + 16), le32(&head, at + 20));
    let (offset, size, crc, flags) = location(40);
    if flags & IGNORED != 0 || offset == 0 {
        return Ok(None);
    }
    if location(64).0 != 0 && location(64) != location(40) {
        return Err(Error::unsupported("LVM metadata that is about to change"));
    }
    let ring = area.length - SECTOR as u64;
    if size > ring.min(LVM_METADATA_BYTES) || !(SECTOR as u64..area.length).contains(&offset) {
        return corrupt(format!("{size} bytes of text at {offset}, which cannot be"));
    }
    let before_wrap = size.min(area.length - offset);
    let mut text = volume.read_vec(area.start + offset, before_wrap as usize)?;
    text.extend(volume.read_vec(area.start + SECTOR as u64, (size - before_wrap) as usize)?);
    if checksum(&text) != crc {
        return corrupt("the checksum of its text does not match".into());
    }
    Ok(Some(text))
}
