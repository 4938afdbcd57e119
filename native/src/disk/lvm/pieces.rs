//! A logical volume as one stretch of bytes, and what its file system says of it brought back to the disk.

use crate::error::{Error, Result};
use crate::fs::{ByteRange, Content, Extent, ExtentKind, File, VolumeMap};
use crate::volume::ReadAt;

/// Ranges of a source, one behind the other.
pub struct Pieces<'a> {
    source: &'a dyn ReadAt,
    pieces: &'a [ByteRange],
    /// Where each begins, and where the last one ends.
    starts: Vec<u64>,
}

impl<'a> Pieces<'a> {
    pub fn new(source: &'a dyn ReadAt, pieces: &'a [ByteRange]) -> Self {
        let mut starts = vec![0];
        for piece in pieces {
            starts.push(starts[starts.len() - 1] + piece.length);
        }
        Self { source, pieces, starts }
    }

    /// Where bytes of the stretch lie in the source: as many ranges as pieces are touched.
    fn split(&self, start: u64, length: u64) -> impl Iterator<Item = ByteRange> + '_ {
        let end = start.saturating_add(length).min(self.length());
        let mut at = start;
        std::iter::from_fn(move || {
            (at < end).then(|| {
                let piece = self.starts.partition_point(|&begin| begin <= at) - 1;
                let to = end.min(self.starts[piece + 1]);
                let found = ByteRange { start: self.pieces[piece].start + (at - self.starts[piece]), length: to - at };
                at = to;
                found
            })
        })
    }

    /// The same map with the addresses of the source. Packed extents cannot be split: files with one across a border
    /// are kept as clusters only.
    pub fn translate(&self, mut map: VolumeMap) -> VolumeMap {
        let allocated = map.allocated.iter().flat_map(|range| self.split(range.start, range.length)).collect();
        map.allocated = crate::cut::coalesce(allocated, u64::MAX);
        let before = map.files.len();
        map.files.retain_mut(|file| self.translate_file(file));
        let lost = before - map.files.len();
        if lost > 0 {
            let why = "whose compressed extents lie on two segments are in the image, but not shown";
            map.doubts.push(format!("{lost} files {why}"));
        }
        map
    }

    fn translate_file(&self, file: &mut File) -> bool {
        for stream in &mut file.streams {
            let Content::Extents(extents) = &mut stream.content else { continue };
            let mut translated = Vec::with_capacity(extents.len());
            for extent in extents.iter() {
                let mut logical = extent.logical;
                for range in self.split(extent.disk, extent.length) {
                    if matches!(extent.kind, ExtentKind::Packed { .. }) && range.length != extent.length {
                        return false;
                    }
                    translated.push(Extent { logical, disk: range.start, length: range.length, kind: extent.kind });
                    logical += range.length;
                }
            }
            *extents = translated;
        }
        true
    }
}

impl ReadAt for Pieces<'_> {
    fn length(&self) -> u64 {
        self.starts[self.pieces.len()]
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.length()) {
            return Err(Error::corrupt("logical volume", offset, format!("{} bytes lie past the end", buffer.len())));
        }
        let mut done = 0;
        for range in self.split(offset, buffer.len() as u64) {
            let next = done + range.length as usize;
            self.source.read_at(range.start, &mut buffer[done..next])?;
            done = next;
        }
        Ok(())
    }
}
