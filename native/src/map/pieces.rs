//! A logical volume as one range of bytes, and what its file system says of it brought back to the disk.

use crate::base::error::{Error, Result};
use crate::base::ranges::{ByteRange, coalesce};
use crate::disk::volume::ReadAt;
use crate::fs::volume_map::{Content, Extent, ExtentKind, File, VolumeMap};

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

    /// Where bytes of them lie in the source: as many ranges as pieces are touched.
    pub fn split(&self, start: u64, length: u64) -> impl Iterator<Item = ByteRange> + '_ {
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
    pub fn translate(&self, map: VolumeMap) -> VolumeMap {
        // Field by field, so that none with addresses can be forgotten.
        let VolumeMap { file_system, label, uuid, cluster_bytes, dirty, root, entries, subvolumes, .. } = map;
        let VolumeMap { allocated, mut files, tables, idle_journal, mut doubts, .. } = map;
        let before = files.len();
        files.retain_mut(|file| self.translate_file(file));
        let lost = before - files.len();
        if lost > 0 {
            let why = "whose compressed extents lie on two segments are in the image, but not shown";
            doubts.push(format!("{lost} files {why}"));
        }
        let [allocated, tables, idle_journal] = [allocated, tables, idle_journal].map(|set| self.translate_set(&set));
        VolumeMap {
            file_system,
            label,
            uuid,
            cluster_bytes,
            dirty,
            root,
            allocated,
            files,
            entries,
            subvolumes,
            tables,
            idle_journal,
            doubts,
        }
    }

    fn translate_set(&self, set: &[ByteRange]) -> Vec<ByteRange> {
        coalesce(set.iter().flat_map(|range| self.split(range.start, range.length)).collect())
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

    fn sector_bytes(&self) -> usize {
        self.source.sector_bytes()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::volume_map::{Codec, Stream};

    const PIECES: [ByteRange; 3] = [
        ByteRange { start: 5000, length: 100 },
        ByteRange { start: 900, length: 50 },
        ByteRange { start: 7000, length: 200 },
    ];

    fn file(number: u64, kind: ExtentKind, disk: u64, length: u64) -> File {
        let content = Content::Extents(vec![Extent { kind, logical: 1000, disk, length }]);
        File::of_streams(number, vec![Stream { name: vec![], size: 1, valid: 1, content }])
    }

    #[test]
    fn reads_go_through_the_pieces_and_not_past_them() {
        let disk: Vec<u8> = (0..8000).map(|at| (at / 50) as u8).collect();
        let joined = Pieces::new(&disk, &PIECES);
        let expected = [&disk[5000..5100], &disk[900..950], &disk[7000..7200]].concat();
        for (from, to) in [(0, 350), (90, 160), (100, 150), (149, 151), (350, 350), (7, 8)] {
            let mut bytes = vec![0; to - from];
            joined.read_at(from as u64, &mut bytes).unwrap();
            assert_eq!(bytes, expected[from..to]);
        }
        assert!(joined.read_at(349, &mut [0; 2]).is_err());
        assert!(joined.read_at(u64::MAX, &mut [0; 2]).is_err());
    }

    #[test]
    fn a_map_is_brought_back_to_the_disk() {
        let disk = vec![0; 8000];
        let packed = ExtentKind::Packed { codec: Codec::Zstd, raw_length: 70, raw_offset: 0, used: 70 };
        let files = vec![
            file(1, ExtentKind::Plain, 80, 100),
            file(2, packed, 10, 20),
            file(3, packed, 90, 20),
            file(4, ExtentKind::Compressed { raw_length: 64 }, 140, 20),
        ];
        let allocated = vec![ByteRange { start: 0, length: 10 }, ByteRange { start: 90, length: 200 }];
        let idle_journal = vec![ByteRange { start: 145, length: 10 }];
        let map = VolumeMap { files, allocated, idle_journal, ..VolumeMap::default() };
        let map = Pieces::new(&disk, &PIECES).translate(map);
        let extents: Vec<_> = map
            .files
            .iter()
            .map(|file| match &file.streams[0].content {
                Content::Extents(all) => {
                    (file.number, all.iter().map(|one| (one.logical, one.disk, one.length)).collect::<Vec<_>>())
                }
                Content::Resident(_) => panic!("it has extents"),
            })
            .collect();
        assert_eq!(
            extents,
            [
                (1, vec![(1000, 5080, 20), (1020, 900, 50), (1070, 7000, 30)]),
                (2, vec![(1000, 5010, 20)]),
                (4, vec![(1000, 940, 10), (1010, 7000, 10)]),
            ]
        );
        let range = |start, length| ByteRange { start, length };
        assert_eq!(map.allocated, [range(900, 50), range(5000, 10), range(5090, 10), range(7000, 140)]);
        assert_eq!(map.idle_journal, [range(945, 5), range(7000, 5)]);
        assert_eq!(map.doubts.len(), 1);
    }
}
