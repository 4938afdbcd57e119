//! Bounded little-endian (and big-endian) reading of foreign bytes, and the matching writer for our own formats.
//! Every read names what it reads, so that an error says which field of which structure is short.

use crate::base::error::{Error, Result};

/// A cursor over bytes that are not to be believed.
pub struct Cursor<'a> {
    what: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, bytes, at: 0 }
    }

    pub fn position(&self) -> usize {
        self.at
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8]> {
        if length > self.remaining() {
            return Err(self.corrupt(format!("{length} bytes wanted, {} left", self.remaining())));
        }
        let slice = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(slice)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.bytes(N)?.try_into().expect("the length was just asked for"))
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// LEB128, at most ten bytes, no value over `u64`.
    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && low > 1 {
                break;
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.corrupt("a number of more than 64 bits"))
    }

    /// A length-prefixed byte string of at most `cap` bytes.
    pub fn string(&mut self, cap: usize) -> Result<&'a [u8]> {
        let length = self.varint()?;
        if length > cap as u64 {
            return Err(self.corrupt(format!("a string of {length} bytes, at most {cap} allowed")));
        }
        self.bytes(length as usize)
    }

    /// A count of items of at least `least` bytes each, checked against what remains.
    pub fn count(&mut self, least: usize) -> Result<usize> {
        let count = self.varint()?;
        if count > (self.remaining() / least.max(1)) as u64 {
            return Err(self.corrupt(format!("{count} items cannot fit in {} bytes", self.remaining())));
        }
        Ok(count as usize)
    }

    pub fn end(&self) -> Result<()> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.corrupt(format!("{} bytes too many", self.remaining()))) }
    }

    pub fn corrupt(&self, why: impl Into<String>) -> Error {
        Error::corrupt(self.what, self.at as u64, why)
    }
}

/// The writer of what `Cursor` reads.
#[derive(Default)]
pub struct Writer {
    pub bytes: Vec<u8>,
}

impl Writer {
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub fn varint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8)
    }

    pub fn string(&mut self, value: &[u8]) -> &mut Self {
        self.varint(value.len() as u64).raw(value)
    }

    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        self
    }
}

// Fixed-offset reads for on-disk structures, where the specification gives offsets. The caller has checked the
// slice's length once; a wrong offset is our bug and panics in tests.
pub fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

pub fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_return_and_long_ones_are_refused() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut writer = Writer::default();
            writer.varint(value);
            let mut cursor = Cursor::new("test", &writer.bytes);
            assert_eq!(cursor.varint().unwrap(), value);
            cursor.end().unwrap();
        }
        assert!(Cursor::new("test", &[0xff; 10]).varint().is_err());
        assert!(Cursor::new("test", &[0xff; 3]).varint().is_err());
    }

    #[test]
    fn a_count_is_compared_with_what_remains() {
        assert!(Cursor::new("test", &[200, 1, 0, 0]).count(4).is_err());
        assert!(Cursor::new("test", &[5, 1, 2]).string(10).is_err());
    }
}
