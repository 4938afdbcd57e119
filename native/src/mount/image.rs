//! Files that are pieces of the snapshot's disk. Their reads need nobody's decision while all goes well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::inbox::{Inbox, locked};
use super::request::{Question, Request};
use crate::retrieve::disk_reader::Reader;

pub struct Image {
    pub reader: Arc<Reader>,
    /// Start and length on the disk of each piece, one behind the other.
    pub pieces: Vec<(u64, u64)>,
}

#[derive(Default)]
pub(super) struct Images(Mutex<HashMap<u64, Image>>);

/// A read that lies together on the disk.
pub(super) struct Found {
    reader: Arc<Reader>,
    start: u64,
    end: u64,
}

impl Images {
    pub fn add(&self, inode: u64, image: Image) {
        locked(&self.0).insert(inode, image);
    }

    /// Nothing where the file is no image, and where the read does not lie together on the disk.
    pub fn find(&self, inode: u64, offset: u64, size: u32) -> Option<Found> {
        let images = locked(&self.0);
        let image = images.get(&inode)?;
        let (start, end) = on_disk(&image.pieces, offset, size.into())?;
        Some(Found { reader: image.reader.clone(), start, end })
    }
}

/// From where to where a part of the file lies on the disk, cut at the end of the last piece; nothing where it is of two.
fn on_disk(pieces: &[(u64, u64)], offset: u64, length: u64) -> Option<(u64, u64)> {
    let mut skip = offset;
    for (index, &(start, bytes)) in pieces.iter().enumerate() {
        if skip >= bytes {
            skip -= bytes;
            continue;
        }
        let whole = skip + length <= bytes || index + 1 == pieces.len();
        return whole.then_some((start + skip, start + bytes.min(skip + length)));
    }
    None
}

impl Found {
    /// Answers now or later; or puts the request into the inbox.
    pub fn answer(self, mut request: Request, may_wait: bool, inbox: Arc<Inbox>) {
        let Self { reader, start, end } = self;
        reader.read(start, end, may_wait, move |bytes| {
            let Some(bytes) = bytes else { return inbox.put(request) };
            // It is the answer to what was asked, so it cannot be refused.
            let _ = request.data(&bytes);
            if let Question::Read { offset, .. } = request.question {
                inbox.hear(request.inode, offset, offset + bytes.len() as u64);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_lies_in_one_stretch_and_ends_with_the_last() {
        let pieces = [(1000, 10), (500, 20)];
        assert_eq!(on_disk(&pieces, 0, 10), Some((1000, 1010)));
        assert_eq!(on_disk(&pieces, 4, 10), None);
        assert_eq!(on_disk(&pieces, 10, 5), Some((500, 505)));
        assert_eq!(on_disk(&pieces, 25, 10), Some((515, 520)));
        assert_eq!(on_disk(&pieces, 30, 1), None);
        assert_eq!(on_disk(&[], 0, 1), None);
    }
}
