//! Where bytes of a disk come from: anything readable at an offset, and a part of it.

use crate::base::error::{Error, Result};

/// A disk, an image file, or bytes in memory. Reads are exact: short is an error.
pub trait ReadAt: Send + Sync {
    fn length(&self) -> u64;
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// The least that fails by itself: a physical sector, a page of a file.
    fn sector_bytes(&self) -> usize {
        4096
    }
}

impl ReadAt for Vec<u8> {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).ok().filter(|&start| start <= self.len());
        match start.and_then(|start| self.get(start..start.checked_add(buffer.len())?)) {
            Some(bytes) => {
                buffer.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(Error::corrupt("disk", offset, format!("{} bytes lie past the end", buffer.len()))),
        }
    }
}

/// A partition, or a whole disk without a table: `start` is absolute in the source, offsets given to `read` are
/// relative to it, and `absolute` turns one into the other.
#[derive(Clone, Copy)]
pub struct Volume<'a> {
    pub source: &'a dyn ReadAt,
    pub start: u64,
    pub length: u64,
}

impl<'a> Volume<'a> {
    pub fn whole(source: &'a dyn ReadAt) -> Self {
        Self { source, start: 0, length: source.length() }
    }

    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(Error::corrupt("volume", offset, format!("{} bytes lie past the end", buffer.len())));
        }
        self.source.read_at(self.start + offset, buffer)
    }

    /// `length` is the caller's to bound (see `limits`).
    pub fn read_vec(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; length];
        self.read(offset, &mut buffer)?;
        Ok(buffer)
    }

    pub fn absolute(&self, offset: u64) -> u64 {
        self.start + offset
    }
}
