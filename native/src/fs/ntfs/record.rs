//! One record of the $MFT: its header, the fixups of its sectors, and the walk over its attributes.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0x00 | 4 | magic | "FILE"; "BAAD" where Windows found it torn |
//! | 0x04 | 2 | usa_ofs | update sequence array: a number, then one word for each 512 bytes |
//! | 0x06 | 2 | usa_count | its words |
//! | 0x10 | 2 | sequence_number | grows when the record is used again |
//! | 0x14 | 2 | attrs_offset | the first attribute |
//! | 0x16 | 2 | flags | 1 in use, 2 directory |
//! | 0x18 | 4 | bytes_in_use | end of the attributes |
//! | 0x20 | 8 | base_mft_record | zero in a base record, else the record that this one extends |

use crate::base::bytes::{le16, le32, le64};
use crate::base::error::{Error, Result};

/// Fixups guard 512 bytes each, whatever the disk's sector.
const STRIDE: usize = 512;
const HEADER_BYTES: usize = 0x2A;
const ATTRIBUTE_END: u32 = 0xFFFF_FFFF;
const WHAT: &str = "MFT record";

/// A file reference: 48 bits of record number, 16 of sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Reference {
    pub number: u64,
    pub sequence: u16,
}

impl Reference {
    pub fn decode(raw: u64) -> Self {
        Self { number: raw & 0xFFFF_FFFF_FFFF, sequence: (raw >> 48) as u16 }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub sequence_number: u16,
    pub directory: bool,
    pub base_mft_record: Option<Reference>,
    attrs_offset: usize,
    bytes_in_use: usize,
}

/// What a record claims to be, read before its fixups: neither field is under one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    Free,
    InUse,
    /// Not a record: neither zeros (never used) nor "FILE".
    Foreign,
}

pub fn claim(record: &[u8]) -> Claim {
    match &record[..4] {
        b"FILE" if record[0x16] & 1 != 0 => Claim::InUse,
        b"FILE" | [0, 0, 0, 0] => Claim::Free,
        _ => Claim::Foreign,
    }
}

/// Windows marks so a record whose fixups it found wrong.
pub fn torn(record: &[u8]) -> bool {
    &record[..4] == b"BAAD"
}

/// Puts the fixups right in place, then reads the header. `record` is 1 to 4 KiB, a power of two.
pub fn open(record: &mut [u8]) -> Result<Header> {
    let corrupt = |at: u64, why: &str| Err(Error::corrupt(WHAT, at, why));
    if &record[..4] != b"FILE" {
        return corrupt(0, "no FILE signature");
    }
    undo_fixups(record)?;

    let sequence_number = le16(record, 0x10);
    let attrs_offset = usize::from(le16(record, 0x14));
    let flags = le16(record, 0x16);
    let bytes_in_use = le32(record, 0x18) as usize;
    let base = Reference::decode(le64(record, 0x20));

    if bytes_in_use > record.len() {
        return corrupt(0x18, "more bytes in use than the record has");
    }
    if attrs_offset < HEADER_BYTES || attrs_offset % 8 != 0 || attrs_offset > bytes_in_use {
        return corrupt(0x14, "the attributes start outside the record");
    }
    Ok(Header {
        sequence_number,
        directory: flags & 2 != 0,
        base_mft_record: (base != Reference::default()).then_some(base),
        attrs_offset,
        bytes_in_use,
    })
}

fn undo_fixups(record: &mut [u8]) -> Result<()> {
    let usa_ofs = usize::from(le16(record, 4));
    let usa_count = usize::from(le16(record, 6));
    let sectors = record.len() / STRIDE;
    // The array lies in the first sector, before the word that it replaces there.
    if usa_count != sectors + 1
        || usa_ofs < HEADER_BYTES - 2
        || usa_ofs % 2 != 0
        || usa_ofs + usa_count * 2 > STRIDE - 2
    {
        return Err(Error::corrupt(WHAT, 4, "an impossible update sequence array"));
    }
    let number = [record[usa_ofs], record[usa_ofs + 1]];
    for sector in 1..=sectors {
        let (tail, kept) = (sector * STRIDE - 2, usa_ofs + sector * 2);
        if record[tail..tail + 2] != number {
            return Err(Error::corrupt(WHAT, tail as u64, "torn: the update sequence does not match"));
        }
        record.copy_within(kept..kept + 2, tail);
    }
    Ok(())
}

/// The raw attributes of an opened record, each with its header, at least 24 bytes, wholly inside the record. After an
/// error nothing more comes.
pub struct Attributes<'a> {
    /// What is left; None when the end was seen.
    rest: Option<&'a [u8]>,
}

pub fn attributes<'a>(record: &'a [u8], header: &Header) -> Attributes<'a> {
    Attributes { rest: Some(&record[header.attrs_offset..header.bytes_in_use]) }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        if rest.len() >= 4 && le32(rest, 0) == ATTRIBUTE_END {
            return None;
        }
        let length = if rest.len() >= 8 { le32(rest, 4) as usize } else { 0 };
        if length < 24 || length % 8 != 0 || length > rest.len() {
            return Some(Err(Error::corrupt(WHAT, 0, "an attribute passes the end of its record")));
        }
        let (attribute, rest) = rest.split_at(length);
        self.rest = Some(rest);
        Some(Ok(attribute))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::ntfs::sample;

    fn walk(mut record: Vec<u8>) -> Result<usize> {
        let header = open(&mut record)?;
        attributes(&record, &header).try_fold(0, |count, attribute| attribute.map(|_| count + 1))
    }

    fn good() -> Vec<u8> {
        sample::record(1, 7, 1, &[sample::resident(0x10, "", &[0; 48]), sample::resident(0x80, "", &[5; 700])])
    }

    #[test]
    fn fixups_are_undone() {
        let mut record = good();
        assert_eq!(claim(&record), Claim::InUse);
        assert_ne!(record[510], 5);
        let header = open(&mut record).unwrap();
        assert_eq!((header.sequence_number, header.directory, header.base_mft_record), (7, false, None));
        assert_eq!(record[510..512], [5, 5]);
        assert_eq!(walk(good()).unwrap(), 2);
    }

    #[test]
    fn torn_and_impossible_records_are_refused() {
        // (offset, value): usa_ofs, usa_count, tails, attrs_offset, bytes_in_use, the first attribute's length.
        let edits = [(4, 0xfe), (4, 0x31), (4, 0), (5, 9), (6, 2), (510, 0xaa), (1023, 0xaa), (0x14, 0x39), (0x14, 8)];
        let more = [(0x15, 0x40), (0x19, 0x60), (0x18, 0), (0x3C, 0), (0x3C, 7), (0x3C, 16), (0x3F, 0xff), (0, b'B')];
        for (at, value) in edits.into_iter().chain(more) {
            let mut record = good();
            record[at] = value;
            assert!(walk(record).is_err(), "byte {at:#x} = {value:#x}");
        }
    }

    #[test]
    fn a_record_without_an_end_marker_is_refused() {
        let mut record = good();
        let in_use = le32(&record, 0x18);
        record[0x18..0x1C].copy_from_slice(&(in_use - 8).to_le_bytes());
        assert!(walk(record).is_err());
    }
}
