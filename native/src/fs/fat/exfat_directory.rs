//! Directory entries of exFAT. A file is a set: one file entry, one of its stream, one or more of its name.
//!
//! ```text
//! 81 bitmap   1 flags (1: of the second FAT)   20 first cluster   24 length
//! 82 upcase   20 first cluster   24 length              83 label   1 units   2 eleven units of UTF-16
//! 85 file     1 secondary entries   2 checksum of the set   4 attributes   8 created   12 modified   (time, date)
//!             20 created, 10 ms   21 modified, 10 ms   22 created, 23 modified: from UTC, 15 min (0x80: known)
//! C0 stream   1 flags (2: no FAT chain)   3 units of the name   8 valid length   20 first cluster   24 length
//! C1 name     2 fifteen units
//! ```
//! Types below 0x80 are not in use; 0 is the end. Unknown secondary entries are passed over, they count in the sum.

use super::heap::ENTRY_BYTES;
use super::text;
use crate::base::bytes::{le16, le32, le64};
use crate::fs::volume_map::Timestamp;
use crate::fs::wtf8::wtf8;

const BITMAP: u8 = 0x81;
const UPCASE: u8 = 0x82;
const LABEL: u8 = 0x83;
const FILE: u8 = 0x85;
const STREAM: u8 = 0xC0;
const NAME: u8 = 0xC1;
const IN_USE: u8 = 0x80;
const SECONDARY: u8 = 0x40;
const NAME_UNITS: usize = 15;

pub enum Item {
    End,
    Nothing,
    /// Flags, first cluster, length.
    Bitmap(u8, u32, u64),
    Upcase(u32),
    Label(Vec<u8>),
    Entry(Entry),
    /// A set that is left out: where it began, and why.
    Broken(u64, &'static str),
}

pub struct Entry {
    /// Byte offset in the volume of the file entry.
    pub at: u64,
    pub name: Vec<u8>,
    pub attributes: u16,
    pub no_fat_chain: bool,
    pub first_cluster: u32,
    pub size: u64,
    pub valid: u64,
    pub modified: Timestamp,
    pub created: Timestamp,
}

/// Reads one directory's entries, one after the other.
#[derive(Default)]
pub struct Reader {
    at: u64,
    /// Entries that the set still lacks.
    missing: usize,
    set: Vec<[u8; ENTRY_BYTES]>,
}

impl Reader {
    /// A set that has begun and is not whole. To be asked at the end of the directory.
    pub fn rest(&mut self) -> Item {
        let open = std::mem::take(&mut self.missing) > 0;
        if open { Item::Broken(self.at, "its entries end too early") } else { Item::Nothing }
    }

    /// An entry can end a broken set and begin another.
    pub fn next(&mut self, at: u64, raw: &[u8; ENTRY_BYTES]) -> [Item; 2] {
        let kind = raw[0];
        if self.missing > 0 && kind & (IN_USE | SECONDARY) == IN_USE | SECONDARY {
            self.set.push(*raw);
            self.missing -= 1;
            return [if self.missing == 0 { self.whole() } else { Item::Nothing }, Item::Nothing];
        }
        [self.rest(), self.primary(at, raw)]
    }

    fn primary(&mut self, at: u64, raw: &[u8; ENTRY_BYTES]) -> Item {
        match raw[0] {
            0 => Item::End,
            BITMAP => Item::Bitmap(raw[1], le32(raw, 20), le64(raw, 24)),
            UPCASE => Item::Upcase(le32(raw, 20)),
            LABEL => Item::Label(wtf8(&units(raw)[..usize::from(raw[1].min(11))])),
            FILE => {
                self.set.clear();
                self.set.push(*raw);
                (self.at, self.missing) = (at, usize::from(raw[1]));
                if raw[1] < 2 { self.rest_of_nothing() } else { Item::Nothing }
            }
            _ => Item::Nothing,
        }
    }

    fn rest_of_nothing(&mut self) -> Item {
        self.missing = 0;
        Item::Broken(self.at, "it has no stream or no name")
    }

    fn whole(&self) -> Item {
        match self.decode() {
            Ok(entry) => Item::Entry(entry),
            Err(why) => Item::Broken(self.at, why),
        }
    }

    fn decode(&self) -> Result<Entry, &'static str> {
        let (file, stream) = (&self.set[0], &self.set[1]);
        if checksum(&self.set) != le16(file, 2) {
            return Err("the checksum of its entries is wrong");
        }
        if stream[0] != STREAM {
            return Err("its second entry is not that of a stream");
        }
        let length = usize::from(stream[3]);
        let names = length.div_ceil(NAME_UNITS);
        let parts = self.set[2..].iter().take(names);
        if length == 0 || parts.len() < names || parts.clone().any(|part| part[0] != NAME) {
            return Err("its name is not whole");
        }
        let mut name: Vec<u16> = parts.flat_map(units).collect();
        name.truncate(length);
        let name = wtf8(&name);
        if !text::is_name(&name) {
            return Err("it has no usable name");
        }
        let (valid, size) = (le64(stream, 8), le64(stream, 24));
        if valid > size {
            return Err("more of it is valid than it has");
        }
        Ok(Entry {
            at: self.at,
            name,
            attributes: le16(file, 4),
            no_fat_chain: stream[1] & 2 != 0,
            first_cluster: le32(stream, 20),
            size,
            valid,
            modified: timestamp(le32(file, 12), file[21], file[23]),
            created: timestamp(le32(file, 8), file[20], file[22]),
        })
    }
}

fn units(raw: &[u8; ENTRY_BYTES]) -> [u16; NAME_UNITS] {
    std::array::from_fn(|index| le16(raw, 2 + index * 2))
}

/// Of the whole set, without the checksum itself.
pub fn checksum(set: &[[u8; ENTRY_BYTES]]) -> u16 {
    let counted = set.iter().flatten().enumerate().filter(|(at, _)| !matches!(at, 2 | 3));
    counted.fold(0u16, |sum, (_, &byte)| sum.rotate_right(1).wrapping_add(u16::from(byte)))
}

/// `offset` is a signed number of seven bits; where it is not known the time is taken as UTC.
fn timestamp(time: u32, hundredths: u8, offset: u8) -> Timestamp {
    let quarters = if offset & 0x80 != 0 { i64::from((offset << 1) as i8 >> 1) } else { 0 };
    text::timestamp((time >> 16) as u16, time as u16, hundredths, quarters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_signed() {
        let noon = (1 << 5 | 1) << 16 | 12 << 11;
        let at = |offset| timestamp(noon, 0, offset).seconds - timestamp(noon, 0, 0).seconds;
        assert_eq!((at(0x84), at(0xFC), at(0x04)), (-3600, 3600, 0));
    }
}
