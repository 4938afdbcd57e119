//! The attributes of MFT records that a file map needs, decoded one by one.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0x00 | 4 | type | |
//! | 0x04 | 4 | length | of this attribute in its record |
//! | 0x08 | 1 | non_resident | |
//! | 0x09 | 1 | name_length | in UTF-16 units; 0x0A: name_offset, 2 bytes |
//! | 0x0C | 2 | flags | 0x00FF compressed, 0x4000 encrypted, 0x8000 sparse |
//! | 0x0E | 2 | instance | unique in its record |
//! | 0x10 | 4, 2 | value_length, value_offset | resident |
//! | 0x10 | 8, 8 | lowest_vcn, highest_vcn | non-resident: the part of the attribute that this record maps |
//! | 0x20 | 2, 1 | mapping_pairs_offset, compression_unit | |
//! | 0x28 | 8, 8, 8 | allocated_size, data_size, initialized_size | valid where lowest_vcn is 0 |

use super::boot::Boot;
use super::record::Reference;
use super::runs::{self, DataRun};
use crate::base::bytes::{le16, le32, le64};
use crate::base::error::{Error, Result};

pub const STANDARD_INFORMATION: u32 = 0x10;
pub const ATTRIBUTE_LIST: u32 = 0x20;
pub const FILE_NAME: u32 = 0x30;
pub const VOLUME_NAME: u32 = 0x60;
pub const VOLUME_INFORMATION: u32 = 0x70;
pub const DATA: u32 = 0x80;
pub const REPARSE_POINT: u32 = 0xC0;
pub const EA: u32 = 0xE0;

pub const FLAG_COMPRESSED: u16 = 0x00FF;
pub const FLAG_ENCRYPTED: u16 = 0x4000;

const WHAT: &str = "NTFS attribute";
const NAMESPACE_DOS: u8 = 2;
const LIST_ENTRY_BYTES: usize = 26;

#[derive(Clone, Debug)]
pub struct Attribute {
    pub kind: u32,
    pub name: Vec<u16>,
    pub flags: u16,
    pub instance: u16,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub enum Value {
    Resident(Vec<u8>),
    NonResident(Segment),
}

#[derive(Clone, Debug)]
pub struct Segment {
    pub lowest_vcn: u64,
    pub runs: Vec<DataRun>,
    pub compression_unit: u8,
    /// The sizes are those of the whole attribute and stand in its first segment only; `initialized_size <= data_size`.
    pub data_size: u64,
    pub initialized_size: u64,
}

impl Attribute {
    pub fn lowest_vcn(&self) -> u64 {
        match &self.value {
            Value::Resident(_) => 0,
            Value::NonResident(segment) => segment.lowest_vcn,
        }
    }
}

/// Whether files are made of attributes of this type; the others only occupy clusters.
pub fn wanted(kind: u32) -> bool {
    let kinds = [STANDARD_INFORMATION, ATTRIBUTE_LIST, FILE_NAME, VOLUME_NAME, VOLUME_INFORMATION, DATA];
    kinds.contains(&kind) || kind == REPARSE_POINT || kind == EA
}

/// `raw` as the walk over a record gives it: at least 24 bytes. None: resident, and of a type that nobody wants.
pub fn decode(raw: &[u8], boot: &Boot) -> Result<Option<Attribute>> {
    let kind = le32(raw, 0);
    let non_resident = raw[8];
    let name_length = usize::from(raw[9]);
    let name_offset = usize::from(le16(raw, 0x0A));
    let flags = le16(raw, 0x0C);
    let instance = le16(raw, 0x0E);

    if non_resident > 1 {
        return Err(Error::corrupt(WHAT, 8, "neither resident nor not"));
    }
    let header_bytes = if non_resident == 1 { 0x40 } else { 0x18 };
    if raw.len() < header_bytes {
        return Err(Error::corrupt(WHAT, 4, "shorter than its header"));
    }
    let name = match raw.get(name_offset..name_offset + name_length * 2) {
        _ if name_length == 0 => Vec::new(),
        Some(name) if name_offset >= header_bytes => utf16(name),
        _ => return Err(Error::corrupt(WHAT, 0x0A, "the name lies outside the attribute")),
    };
    let value = if non_resident == 1 {
        Value::NonResident(segment(raw, boot)?)
    } else {
        let value = resident(raw)?;
        if !wanted(kind) {
            return Ok(None);
        }
        Value::Resident(value.to_vec())
    };
    Ok(Some(Attribute { kind, name, flags, instance, value }))
}

fn resident(raw: &[u8]) -> Result<&[u8]> {
    let value_length = le32(raw, 0x10) as usize;
    let value_offset = usize::from(le16(raw, 0x14));
    // An empty value may have any offset up to the end.
    match raw.get(value_offset..).and_then(|rest| rest.get(..value_length)) {
        Some(value) if value_offset >= 0x18 || value_length == 0 => Ok(value),
        _ => Err(Error::corrupt(WHAT, 0x10, "the value lies outside the attribute")),
    }
}

fn segment(raw: &[u8], boot: &Boot) -> Result<Segment> {
    let lowest_vcn = le64(raw, 0x10);
    let highest_vcn = le64(raw, 0x18);
    let mapping_pairs_offset = usize::from(le16(raw, 0x20));
    let compression_unit = raw[0x22];
    let data_size = le64(raw, 0x30);
    let initialized_size = le64(raw, 0x38);

    if mapping_pairs_offset < 0x40 || mapping_pairs_offset > raw.len() {
        return Err(Error::corrupt(WHAT, 0x20, "the mapping pairs lie outside the attribute"));
    }
    let runs = runs::decode(&raw[mapping_pairs_offset..], lowest_vcn, boot)?;
    let end = runs.last().map_or(lowest_vcn, DataRun::end);
    // highest_vcn is -1 in an empty attribute; old writers leave it 0 in an attribute of one segment.
    if highest_vcn.wrapping_add(1) != end && !(highest_vcn == 0 && lowest_vcn == 0) {
        return Err(Error::corrupt(WHAT, 0x18, "the mapping pairs do not reach the highest cluster"));
    }
    if lowest_vcn == 0 && (data_size > i64::MAX as u64 || initialized_size > data_size) {
        return Err(Error::corrupt(WHAT, 0x30, "sizes that contradict each other"));
    }
    Ok(Segment { lowest_vcn, runs, compression_unit, data_size, initialized_size })
}

pub fn utf16(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect()
}

/// $STANDARD_INFORMATION: times in 100 ns since 1601, and the DOS attribute bits.
#[derive(Clone, Copy, Debug)]
pub struct StandardInformation {
    pub creation_time: i64,
    pub last_data_change_time: i64,
    pub last_mft_change_time: i64,
    pub file_attributes: u32,
}

impl StandardInformation {
    pub fn decode(value: &[u8]) -> Result<Self> {
        if value.len() < 48 {
            return Err(Error::corrupt("$STANDARD_INFORMATION", 0, "too short"));
        }
        Ok(Self {
            creation_time: le64(value, 0) as i64,
            last_data_change_time: le64(value, 8) as i64,
            last_mft_change_time: le64(value, 16) as i64,
            file_attributes: le32(value, 32),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName {
    pub parent_directory: Reference,
    pub name: Vec<u16>,
    /// The 8.3 alias of a name that another $FILE_NAME gives in full.
    pub dos: bool,
}

impl FileName {
    pub fn decode(value: &[u8]) -> Result<Self> {
        let corrupt = |why: &str| Error::corrupt("$FILE_NAME", 0x40, why);
        if value.len() < 0x42 {
            return Err(corrupt("too short"));
        }
        let file_name_length = usize::from(value[0x40]);
        let name = value.get(0x42..0x42 + file_name_length * 2).ok_or_else(|| corrupt("the name passes the end"))?;
        if name.is_empty() {
            return Err(corrupt("an empty name"));
        }
        let parent_directory = Reference::decode(le64(value, 0));
        Ok(Self { parent_directory, name: utf16(name), dos: value[0x41] == NAMESPACE_DOS })
    }
}

/// One entry of an $ATTRIBUTE_LIST: which record holds which (part of an) attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListEntry {
    pub kind: u32,
    pub lowest_vcn: u64,
    pub mft_reference: Reference,
    pub instance: u16,
}

/// The most bytes that one entry can take: its header and a name of 255 units, rounded up.
pub const MOST_LIST_ENTRY_BYTES: u64 = 544;

pub fn list(value: &[u8]) -> Result<Vec<ListEntry>> {
    let mut entries = Vec::with_capacity(value.len() / 32);
    let mut rest = value;
    while !rest.is_empty() {
        let length = if rest.len() < LIST_ENTRY_BYTES { 0 } else { usize::from(le16(rest, 4)) };
        if length < LIST_ENTRY_BYTES || length > rest.len() {
            return Err(Error::corrupt("$ATTRIBUTE_LIST", (value.len() - rest.len()) as u64, "an impossible entry"));
        }
        entries.push(ListEntry {
            kind: le32(rest, 0),
            lowest_vcn: le64(rest, 8),
            mft_reference: Reference::decode(le64(rest, 0x10)),
            instance: le16(rest, 0x18),
        });
        rest = &rest[length..];
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::ntfs::sample;

    fn boot() -> Boot {
        let (cluster_bytes, clusters, record_bytes) = (1024, 256, 1024);
        Boot { cluster_bytes, clusters, record_bytes, mft_lcn: 4, mftmirr_lcn: 200, volume_serial_number: 0 }
    }

    fn accepts(mut raw: Vec<u8>, edits: &[(usize, u8)]) -> bool {
        edits.iter().for_each(|&(at, value)| raw[at] = value);
        decode(&raw, &boot()).is_ok()
    }

    #[test]
    fn resident_values_stay_inside() {
        let raw = sample::resident(DATA, "näme", b"value");
        let attribute = decode(&raw, &boot()).unwrap().unwrap();
        assert_eq!(String::from_utf16(&attribute.name).unwrap(), "näme");
        assert!(matches!(&attribute.value, Value::Resident(value) if value == b"value"));
        assert!(decode(&sample::resident(0x50, "", b"security"), &boot()).unwrap().is_none());
        for edit in [(0x10, 9), (0x13, 1), (0x14, 0), (0x14, 0xff), (0x15, 1), (9, 0xff), (0x0A, 2), (0x0B, 9), (8, 2)]
        {
            assert!(!accepts(raw.clone(), &[edit]), "{edit:x?}");
        }
    }

    #[test]
    fn non_resident_sizes_agree() {
        let raw = sample::non_resident(DATA, "s", (0, 4), 4000, &[0x11, 4, 120]);
        assert!(accepts(raw.clone(), &[]));
        for edit in [(0x18, 4), (0x10, 1), (0x20, 0x3f), (0x20, 0xff), (0x37, 0x80), (0x39, 0xff), (0x49, 253)] {
            assert!(!accepts(raw.clone(), &[edit]), "{edit:x?}");
        }
        assert!(decode(&raw[..56], &boot()).is_err());
    }

    #[test]
    fn lists_and_names_stay_inside() {
        let value = [sample::list_entry(DATA, 0, 30, 2), sample::list_entry(DATA, 9, 31, 0)].concat();
        assert_eq!(list(&value).unwrap()[1].mft_reference, Reference { number: 31, sequence: 1 });
        for edit in [(4, 0), (4, 25), (4, 65), (5, 1), (36, 33), (36, 31)] {
            let mut value = value.clone();
            value[edit.0] = edit.1;
            assert!(list(&value).is_err(), "{edit:?}");
        }
        assert!(FileName::decode(&[0; 65]).is_err());
        assert!(FileName::decode(&[0; 68]).is_err());
        assert!(FileName::decode(&[1; 68]).is_ok());
        assert!(StandardInformation::decode(&[0; 47]).is_err());
    }
}
