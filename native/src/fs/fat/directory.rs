//! Directory entries of FAT: short names, and the long names that VFAT puts before them.
//!
//! ```text
//! short  0 name (8 + 3)   11 attributes   12 lower case (8: name, 16: extension)   13 created, 10 ms
//!        14 created time, date   18 accessed   20 cluster, high   22 written time, date   26 cluster, low   28 size
//! long   0 number (0x40: the last, which comes first)   1, 14, 28 units of UTF-16 (5, 6, 2)   11 0x0F   12 0
//!        13 checksum of the short name
//! ```

use super::heap::ENTRY_BYTES;
use super::text;
use crate::base::bytes::{le16, le32};
use crate::fs::volume_map::Timestamp;
use crate::fs::wtf8::wtf8;

pub const READ_ONLY: u8 = 0x01;
const VOLUME_LABEL: u8 = 0x08;
pub const DIRECTORY: u8 = 0x10;
const LONG_NAME: u8 = 0x0F;
const LAST: u8 = 0x40;
/// 20 entries of 13 units hold the longest name, of 255.
const MOST_PARTS: u8 = 20;
const PART_UNITS: usize = 13;

pub enum Item {
    /// The directory ends here.
    End,
    Nothing,
    Label([u8; 11]),
    Entry(Entry),
    /// A name that no path can have.
    Unnameable,
}

pub struct Entry {
    pub name: Vec<u8>,
    pub attributes: u8,
    pub first_cluster: u32,
    pub size: u32,
    pub modified: Timestamp,
    pub created: Timestamp,
}

/// Reads one directory's entries, one after the other.
#[derive(Default)]
pub struct Reader {
    /// Number of the part that came last, 0 where there is none.
    part: u8,
    parts: u8,
    checksum: u8,
    units: Vec<u16>,
}

impl Reader {
    pub fn next(&mut self, raw: &[u8; ENTRY_BYTES]) -> Item {
        let attributes = raw[11] & 0x3F;
        if raw[0] == 0 {
            return Item::End;
        }
        if raw[0] == 0xE5 {
            self.part = 0;
            return Item::Nothing;
        }
        if attributes == LONG_NAME {
            self.long(raw);
            return Item::Nothing;
        }
        let long = self.take(raw);
        let short: [u8; 11] = raw[..11].try_into().expect("eleven bytes");
        if attributes & VOLUME_LABEL != 0 {
            let is_label = attributes & DIRECTORY == 0;
            return if is_label { Item::Label(short) } else { Item::Nothing };
        }
        if &short == b".          " || &short == b"..         " {
            return Item::Nothing;
        }
        let Some(name) = long.or_else(|| Some(short_name(&short, raw[12])).filter(|name| text::is_name(name))) else {
            return Item::Unnameable;
        };
        Item::Entry(Entry {
            name,
            attributes,
            first_cluster: u32::from(le16(raw, 20)) << 16 | u32::from(le16(raw, 26)),
            size: le32(raw, 28),
            modified: text::timestamp(le16(raw, 24), le16(raw, 22), 0, 0),
            created: text::timestamp(le16(raw, 16), le16(raw, 14), raw[13], 0),
        })
    }

    fn long(&mut self, raw: &[u8; ENTRY_BYTES]) {
        let number = raw[0] & !LAST;
        if raw[0] & LAST != 0 && (1..=MOST_PARTS).contains(&number) {
            self.parts = number;
            self.checksum = raw[13];
            self.units.clear();
            self.units.resize(usize::from(number) * PART_UNITS, 0);
        } else if self.part == 0 || number + 1 != self.part || raw[13] != self.checksum {
            // A part without those before it: the short name counts.
            self.part = 0;
            return;
        }
        self.part = number;
        if number == 0 {
            return;
        }
        let offsets = (1..11).chain(14..26).chain(28..32).step_by(2);
        let units = &mut self.units[(usize::from(number) - 1) * PART_UNITS..];
        for (unit, at) in units.iter_mut().zip(offsets) {
            *unit = le16(raw, at);
        }
    }

    /// The long name that belongs to this short one.
    fn take(&mut self, raw: &[u8; ENTRY_BYTES]) -> Option<Vec<u8>> {
        let whole = self.part == 1 && self.checksum == checksum(&raw[..11]);
        self.part = 0;
        if !whole {
            return None;
        }
        let length = self.units.iter().position(|&unit| unit == 0).unwrap_or(self.units.len());
        Some(wtf8(&self.units[..length])).filter(|name| length <= 255 && text::is_name(name))
    }
}

fn checksum(short: &[u8]) -> u8 {
    short.iter().fold(0u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte))
}

fn short_name(short: &[u8; 11], case: u8) -> Vec<u8> {
    let mut short = *short;
    if short[0] == 0x05 {
        short[0] = 0xE5;
    }
    let part = |bytes: &[u8], lower: bool| {
        let text = text::oem(bytes.trim_ascii_end());
        if lower { text.to_ascii_lowercase() } else { text }
    };
    let mut name = part(&short[..8], case & 0x08 != 0);
    let extension = part(&short[8..], case & 0x10 != 0);
    if !extension.is_empty() {
        name = name + "." + &extension;
    }
    name.into_bytes()
}

/// A label as people wrote it; empty where there is none.
pub fn label(raw: &[u8; 11]) -> String {
    let text = text::oem(raw.trim_ascii_end());
    if text == "NO NAME" || text.starts_with('\0') { String::new() } else { text }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn short(name: &[u8; 11], attributes: u8, cluster: u16, size: u32) -> [u8; ENTRY_BYTES] {
        let mut raw = [0; ENTRY_BYTES];
        raw[..11].copy_from_slice(name);
        raw[11] = attributes;
        raw[26..28].copy_from_slice(&cluster.to_le_bytes());
        raw[28..].copy_from_slice(&size.to_le_bytes());
        raw
    }

    fn long(name: &str, short: &[u8; 11]) -> Vec<[u8; ENTRY_BYTES]> {
        let mut units: Vec<u16> = name.encode_utf16().collect();
        if !units.len().is_multiple_of(PART_UNITS) {
            units.push(0);
            units.resize(units.len().next_multiple_of(PART_UNITS), 0xFFFF);
        }
        let parts = units.len() / PART_UNITS;
        let part = |number: usize| {
            let mut raw = [0; ENTRY_BYTES];
            raw[0] = number as u8 | if number == parts { LAST } else { 0 };
            raw[11] = LONG_NAME;
            raw[13] = checksum(short);
            let offsets = (1..11).chain(14..26).chain(28..32).step_by(2);
            for (at, unit) in offsets.zip(&units[(number - 1) * PART_UNITS..]) {
                raw[at..at + 2].copy_from_slice(&unit.to_le_bytes());
            }
            raw
        };
        (1..=parts).rev().map(part).collect()
    }

    fn names(entries: &[[u8; ENTRY_BYTES]]) -> Vec<String> {
        let mut reader = Reader::default();
        let mut names = Vec::new();
        for raw in entries {
            match reader.next(raw) {
                Item::Entry(entry) => names.push(String::from_utf8(entry.name).unwrap()),
                Item::End => break,
                Item::Unnameable => names.push("?".into()),
                _ => {}
            }
        }
        names
    }

    #[test]
    fn long_names_of_any_length() {
        let short_one = b"LONGNA~1TXT";
        for name in ["a", "exactly 13 ..", "größer als 13 😀", &"n".repeat(255), &"n".repeat(260)] {
            let mut entries = long(name, short_one);
            entries.push(short(short_one, 0x20, 2, 1));
            let expected = if name.len() == 260 { "LONGNA~1.TXT" } else { name };
            assert_eq!(names(&entries), [expected]);
        }
    }

    #[test]
    fn parts_that_do_not_fit_leave_the_short_name() {
        let short_one = b"LONGNA~1TXT";
        let good = || [long("a name of more than 26 letters", short_one), vec![short(short_one, 0x20, 2, 1)]].concat();
        assert_eq!(names(&good())[0].len(), 30);
        type Edit = fn(&mut Vec<[u8; ENTRY_BYTES]>);
        let edits: [Edit; 6] = [
            |entries| entries[0][13] ^= 1,
            |entries| entries[1][0] = 1,
            |entries| entries[0][0] = 0x7F,
            |entries| {
                entries.remove(2);
            },
            |entries| entries[1][0] = 0xE5,
            |entries| entries.iter_mut().take(3).for_each(|raw| raw[13] ^= 1),
        ];
        for (number, edit) in edits.into_iter().enumerate() {
            let mut entries = good();
            edit(&mut entries);
            assert_eq!(names(&entries), ["LONGNA~1.TXT"], "edit {number}");
        }
        let slash = [long("a/b", short_one), vec![short(b"A/B        ", 0, 2, 1), short(b"C          ", 0, 2, 1)]];
        assert_eq!(names(&slash.concat()), ["?", "C"]);
    }

    #[test]
    fn short_names_have_their_case_and_letters() {
        let mut lower = short(b"README  TXT", 0x20, 2, 1);
        lower[12] = 0x08;
        let mut both = short(b"README  TXT", 0x20, 2, 1);
        both[12] = 0x18;
        let entries = [
            short(b".          ", DIRECTORY, 0, 0),
            lower,
            both,
            short(b"\x05\x9A      \xE1  ", 0, 0, 0),
            short(b"LABEL      ", VOLUME_LABEL, 0, 0),
            short(b"\xE5ONE       ", 0, 0, 0),
            short(b"NOTHING    ", 0, 0, 0),
            [0; ENTRY_BYTES],
            short(b"AFTER      ", 0, 0, 0),
        ];
        assert_eq!(names(&entries), ["readme.TXT", "readme.txt", "σÜ.ß", "NOTHING"]);
    }
}
