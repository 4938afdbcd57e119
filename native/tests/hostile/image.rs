//! Images that take as much memory as they have bytes that are not zero, and edits laid over them: an execution copies
//! only the pages that it changes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use imager_native::base::error::{Error, Result};
use imager_native::disk::volume::ReadAt;

pub const PAGE: usize = 4096;
const ZEROS: [u8; PAGE] = [0; PAGE];

pub struct Sparse {
    pub length: u64,
    pages: Vec<Option<Box<[u8; PAGE]>>>,
}

impl Sparse {
    pub fn load(path: &Path) -> Self {
        let mut file = File::open(path).unwrap();
        let length = file.metadata().unwrap().len();
        let mut pages = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        let mut left = length;
        while left > 0 {
            let count = left.min(buffer.len() as u64) as usize;
            file.read_exact(&mut buffer[..count]).unwrap();
            pages.extend(buffer[..count].chunks(PAGE).map(|bytes| {
                let mut page = Box::new(ZEROS);
                page[..bytes.len()].copy_from_slice(bytes);
                (*page != ZEROS).then_some(page)
            }));
            left -= count as u64;
        }
        Self { length, pages }
    }

    fn page(&self, number: u64) -> &[u8; PAGE] {
        self.pages.get(number as usize).and_then(Option::as_deref).unwrap_or(&ZEROS)
    }

    /// Offsets and bytes of the pages that are not zero.
    pub fn stored(&self) -> impl Iterator<Item = (u64, &[u8; PAGE])> {
        (0..).step_by(PAGE).zip(&self.pages).filter_map(|(at, page)| Some((at, page.as_deref()?)))
    }

    pub fn is_zero(&self, at: u64, length: usize) -> bool {
        Damaged::new(self).get(at, length).iter().all(|&byte| byte == 0)
    }
}

/// An image with some bytes changed.
pub struct Damaged<'a> {
    base: &'a Sparse,
    changed: BTreeMap<u64, Box<[u8; PAGE]>>,
    /// No more than the image's own.
    pub length: u64,
}

impl<'a> Damaged<'a> {
    pub fn new(base: &'a Sparse) -> Self {
        Self { base, changed: BTreeMap::new(), length: base.length }
    }

    /// `count` bytes; zeros past the end.
    pub fn get(&self, at: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.copy(at, &mut bytes);
        bytes
    }

    fn copy(&self, mut at: u64, mut buffer: &mut [u8]) {
        while !buffer.is_empty() {
            let within = (at % PAGE as u64) as usize;
            let count = buffer.len().min(PAGE - within);
            let number = at / PAGE as u64;
            let page = self.changed.get(&number).map_or(self.base.page(number), |page| page);
            buffer[..count].copy_from_slice(&page[within..within + count]);
            buffer = &mut buffer[count..];
            at += count as u64;
        }
    }

    pub fn save(&self, path: &Path) {
        let file = File::create(path).unwrap();
        file.set_len(self.length).unwrap();
        let stored = self.base.stored().map(|(at, _)| at);
        for at in stored.chain(self.changed.keys().map(|page| page * PAGE as u64)).filter(|&at| at < self.length) {
            let count = (self.length - at).min(PAGE as u64) as usize;
            file.write_all_at(&self.get(at, count), at).unwrap();
        }
    }

    pub fn is_changed(&self, at: u64, length: u64) -> bool {
        let end = (at + length).div_ceil(PAGE as u64);
        self.changed.range(at / PAGE as u64..end).next().is_some()
    }

    /// What lies past the end is dropped.
    pub fn set(&mut self, at: u64, bytes: &[u8]) {
        let room = self.base.length.saturating_sub(at);
        for (place, &byte) in (at..).zip(&bytes[..bytes.len().min(room as usize)]) {
            let number = place / PAGE as u64;
            let page = self.changed.entry(number).or_insert_with(|| Box::new(*self.base.page(number)));
            page[(place % PAGE as u64) as usize] = byte;
        }
    }

    pub fn le16(&self, at: u64) -> u64 {
        u64::from(u16::from_le_bytes(self.get(at, 2).try_into().unwrap()))
    }

    pub fn le32(&self, at: u64) -> u64 {
        u64::from(u32::from_le_bytes(self.get(at, 4).try_into().unwrap()))
    }

    pub fn le64(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.get(at, 8).try_into().unwrap())
    }
}

impl ReadAt for Damaged<'_> {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.length) {
            return Err(Error::corrupt("disk", offset, format!("{} bytes lie past the end", buffer.len())));
        }
        self.copy(offset, buffer);
        Ok(())
    }
}
