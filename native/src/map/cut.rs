//! Where blocks begin and end (docs/cutting.md): files are cut along their own logical offsets, so that one file
//! gives one set of blocks wherever it lies on whichever disk; everything else is cut along the disk.
//!
//! Invariant: the stretches of a `Cut` cover every byte that a snapshot must hold exactly once.

use crate::base::limits::{BLOCK_BYTES, LARGE_STREAM_BLOCK_BYTES, LARGE_STREAM_BYTES};
use crate::base::ranges::{ByteRange, coalesce, without};
use crate::disk::table::Partition;
use crate::fs::Outcome;
use crate::fs::volume_map::{Content, Extent, ExtentKind, Stream};

const BLOCK: u32 = BLOCK_BYTES as u32;

/// Bytes that lie together on the disk and in whatever they are cut along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Number of the stream, unique in the cut: stretches of one stream are cut as one.
    pub stream: u32,
    /// Block size in bytes: the stream is cut at multiples of it.
    pub block: u32,
    /// Offset in the stream; for what belongs to no file, the disk offset itself.
    pub logical: u64,
    pub disk: u64,
    pub length: u64,
}

/// A volume and what its tables said.
pub struct MappedVolume {
    /// A logical volume has one of its own making: `start` is where its first piece lies.
    pub partition: Partition,
    /// Where its bytes lie, in its own order. Of a physical volume: what belongs to none of its logical ones and is
    /// not known to be free.
    pub pieces: Vec<ByteRange>,
    /// Of a logical volume, the partition that it lies in.
    pub within: Option<u32>,
    pub outcome: Outcome,
}

impl MappedVolume {
    pub fn of_partition(partition: Partition, outcome: Outcome) -> Self {
        let pieces = vec![ByteRange { start: partition.start, length: partition.length }];
        Self { partition, pieces, within: None, outcome }
    }
}

/// All bytes to be held, in the order in which they are best read: streams by their first disk offset.
#[derive(Debug, Default)]
pub struct Cut {
    pub stretches: Vec<Stretch>,
    pub total_bytes: u64,
}

/// What a snapshot reads: allocated clusters of clean mapped volumes, all of the others, and all outside partitions.
pub fn allocated(size: u64, volumes: &[MappedVolume]) -> Vec<ByteRange> {
    let mut ranges = Vec::new();
    let partitions = volumes.iter().filter(|volume| volume.within.is_none());
    let mut spans: Vec<&Partition> = partitions.map(|volume| &volume.partition).collect();
    spans.sort_by_key(|partition| partition.start);
    let mut outside = 0;
    for partition in spans {
        if partition.start > outside {
            ranges.push(ByteRange { start: outside, length: partition.start - outside });
        }
        outside = outside.max(partition.start.saturating_add(partition.length));
    }
    if size > outside {
        ranges.push(ByteRange { start: outside, length: size - outside });
    }
    for volume in volumes {
        match &volume.outcome {
            // A journal that was not replayed may know of blocks that the tables call free.
            Outcome::Mapped(map) if !map.dirty => ranges.extend_from_slice(&map.allocated),
            Outcome::Mapped(_) | Outcome::Raw { .. } => ranges.extend_from_slice(&volume.pieces),
        }
    }
    // Within the disk, whatever the tables said.
    for range in &mut ranges {
        range.length = range.length.min(size.saturating_sub(range.start));
    }
    coalesce(ranges)
}

/// Cuts what is to be held of a disk, which is `allocated` or a part of it.
pub fn cut(allocated: &[ByteRange], volumes: &[MappedVolume]) -> Cut {
    let mut stretches = claim(file_stretches(volumes), allocated);
    let claimed: Vec<ByteRange> =
        stretches.iter().map(|stretch| ByteRange { start: stretch.disk, length: stretch.length }).collect();
    let rest = without(allocated, &claimed);
    let streams = stretches.iter().map(|stretch| stretch.stream + 1).max().unwrap_or(0);
    stretches.extend((streams..).zip(rest).map(|(stream, range)| Stretch {
        stream,
        block: BLOCK,
        logical: range.start,
        disk: range.start,
        length: range.length,
    }));
    let mut first = vec![u64::MAX; stretches.iter().map(|stretch| stretch.stream as usize + 1).max().unwrap_or(0)];
    for stretch in &stretches {
        let slot = &mut first[stretch.stream as usize];
        *slot = (*slot).min(stretch.disk);
    }
    stretches.sort_unstable_by_key(|stretch| (first[stretch.stream as usize], stretch.stream, stretch.logical));
    Cut { total_bytes: stretches.iter().map(|stretch| stretch.length).sum(), stretches }
}

/// The stretches of all files, as their tables give them. Unwritten extents hold nobody's data and are cut along the disk;
/// each compression unit and each packed extent is a stream of its own, because its bytes have no logical offsets.
fn file_stretches(volumes: &[MappedVolume]) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    let mut stream = 0;
    let maps = volumes.iter().filter_map(|volume| match &volume.outcome {
        Outcome::Mapped(map) => Some(map),
        Outcome::Raw { .. } => None,
    });
    for Stream { content, size, .. } in maps.flat_map(|map| &map.files).flat_map(|file| &file.streams) {
        let Content::Extents(extents) = content else { continue };
        let plain = stream;
        let block = if *size < LARGE_STREAM_BYTES { BLOCK } else { LARGE_STREAM_BLOCK_BYTES as u32 };
        let mut add = |stream, logical, &Extent { disk, length, .. }: &Extent| {
            stretches.push(Stretch { stream, block, logical, disk, length });
        };
        let mut unit = None;
        for extent in extents {
            match extent.kind {
                ExtentKind::Unwritten => continue,
                ExtentKind::Plain | ExtentKind::Encrypted => add(plain, extent.logical, extent),
                ExtentKind::Packed { .. } => {
                    add(stream + 1, 0, extent);
                    stream += 2;
                }
                ExtentKind::Compressed { raw_length } => {
                    let number = extent.logical / u64::from(raw_length.max(1));
                    let (own, filled) = match unit {
                        Some((same, own, filled)) if same == number => (own, filled),
                        _ => {
                            stream += 1;
                            (stream, 0)
                        }
                    };
                    add(own, filled, extent);
                    unit = Some((number, own, filled + extent.length));
                }
            }
        }
        stream += 1;
    }
    stretches
}

/// Keeps of each stretch what is allocated and what no earlier stretch on the disk has taken (shared or damaged extents).
fn claim(mut stretches: Vec<Stretch>, allocated: &[ByteRange]) -> Vec<Stretch> {
    stretches.sort_unstable_by_key(|stretch| (stretch.disk, stretch.stream));
    let mut kept = Vec::with_capacity(stretches.len());
    let (mut taken, mut next) = (0, 0);
    for stretch in stretches {
        let end = stretch.disk.saturating_add(stretch.length);
        let mut at = stretch.disk.max(taken);
        while next < allocated.len() && allocated[next].end() <= at {
            next += 1;
        }
        for range in &allocated[next..] {
            if range.start >= end || at >= end {
                break;
            }
            let (from, to) = (at.max(range.start), end.min(range.end()));
            if from < to {
                kept.push(Stretch {
                    logical: stretch.logical + (from - stretch.disk),
                    disk: from,
                    length: to - from,
                    ..stretch
                });
                at = to;
            }
        }
        taken = taken.max(end);
    }
    kept
}

/// A part of a block on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub disk: u64,
    pub length: u32,
    /// The source refused to give these bytes.
    pub unreadable: bool,
}

/// Goes through a cut block by block.
#[derive(Default)]
pub struct Blocks {
    stretch: usize,
    done: u64,
}

impl Blocks {
    /// The pieces of the next block, appended to `pieces`; false at the end. A block ends at a boundary of its stream, of
    /// 64 KiB or 32 KiB, and where the stream is interrupted.
    pub fn next(&mut self, cut: &Cut, pieces: &mut Vec<Piece>) -> bool {
        let Some(stretch) = cut.stretches.get(self.stretch) else { return false };
        let start = stretch.logical + self.done;
        let block = u64::from(stretch.block);
        let boundary = (start / block + 1) * block;
        let mut at = start;
        while let Some(here) = cut.stretches.get(self.stretch) {
            if here.stream != stretch.stream || here.logical + self.done != at || at == boundary {
                break;
            }
            let length = (boundary - at).min(here.length - self.done);
            pieces.push(Piece { disk: here.disk + self.done, length: length as u32, unreadable: false });
            at += length;
            self.done += length;
            if self.done == here.length {
                self.stretch += 1;
                self.done = 0;
            }
        }
        true
    }
}

/// A piece cut where what was refused (a set) begins and ends.
pub fn split_unreadable(piece: Piece, refused: &[ByteRange]) -> Vec<Piece> {
    let end = piece.disk + u64::from(piece.length);
    let mut parts = Vec::new();
    let mut push = |from: u64, to: u64, unreadable: bool| {
        if from < to {
            parts.push(Piece { disk: from, length: (to - from) as u32, unreadable });
        }
    };
    let mut at = piece.disk;
    for range in refused.iter().skip_while(|range| range.end() <= piece.disk).take_while(|range| range.start < end) {
        let (from, to) = (range.start.max(at), range.end().min(end));
        push(at, from, false);
        push(from, to, true);
        at = to;
    }
    push(at, end, false);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::xorshift::Random;
    use crate::fs::volume_map::{File, VolumeMap};

    const BLOCK: u64 = BLOCK_BYTES as u64;

    fn whole(size: u64, volumes: &[MappedVolume]) -> Cut {
        cut(&allocated(size, volumes), volumes)
    }

    fn file(extents: Vec<Extent>) -> File {
        file_of(LARGE_STREAM_BYTES - 1, extents)
    }

    fn file_of(size: u64, extents: Vec<Extent>) -> File {
        let streams = vec![Stream { name: vec![], size, valid: size, content: Content::Extents(extents) }];
        File::of_streams(12, streams)
    }

    fn extent(kind: ExtentKind, logical: u64, disk: u64, length: u64) -> Extent {
        Extent { kind, logical, disk, length }
    }

    fn disk(files: Vec<File>, allocated: Vec<ByteRange>) -> Vec<MappedVolume> {
        let partition =
            Partition { index: 1, start: BLOCK, length: 100 * BLOCK, kind: String::new(), name: String::new() };
        let map = VolumeMap { allocated, files, ..VolumeMap::default() };
        vec![MappedVolume::of_partition(partition, Outcome::Mapped(map))]
    }

    fn blocks(cut: &Cut) -> Vec<Vec<(u64, u32)>> {
        let (mut walk, mut all) = (Blocks::default(), vec![]);
        loop {
            let mut pieces = vec![];
            if !walk.next(cut, &mut pieces) {
                return all;
            }
            all.push(pieces.iter().map(|piece| (piece.disk, piece.length)).collect());
        }
    }

    #[test]
    fn a_fragmented_file_is_cut_along_its_own_offsets() {
        let half = BLOCK / 2;
        let extents = vec![
            extent(ExtentKind::Plain, 0, 10 * BLOCK, half),
            extent(ExtentKind::Plain, half, 20 * BLOCK, BLOCK),
            extent(ExtentKind::Plain, 4 * BLOCK, 30 * BLOCK, half),
            extent(ExtentKind::Unwritten, 5 * BLOCK, 40 * BLOCK, half),
        ];
        let allocated = vec![ByteRange { start: 10 * BLOCK, length: 40 * BLOCK }];
        let volumes = disk(vec![file(extents)], allocated);
        let cut = whole(101 * BLOCK, &volumes);
        assert_eq!(cut.total_bytes, 41 * BLOCK, "the table's block and what is allocated");
        let blocks = blocks(&cut);
        assert!(blocks.contains(&vec![(10 * BLOCK, half as u32), (20 * BLOCK, half as u32)]));
        assert!(blocks.contains(&vec![(20 * BLOCK + half, half as u32)]), "the hole ends the block");
        assert!(blocks.contains(&vec![(30 * BLOCK, half as u32)]));
        let mut covered: Vec<(u64, u32)> = blocks.concat();
        covered.sort_unstable();
        assert!(covered.windows(2).all(|pair| pair[0].0 + u64::from(pair[0].1) <= pair[1].0), "nothing twice");
    }

    #[test]
    fn a_large_file_is_cut_smaller() {
        let extents = vec![extent(ExtentKind::Plain, BLOCK / 4, 10 * BLOCK, BLOCK)];
        let volumes =
            disk(vec![file_of(LARGE_STREAM_BYTES, extents)], vec![ByteRange { start: 10 * BLOCK, length: BLOCK }]);
        let (cut, quarter) = (whole(101 * BLOCK, &volumes), BLOCK / 4);
        let lengths: Vec<u32> = blocks(&cut).concat().iter().map(|piece| piece.1).collect();
        assert_eq!(lengths[lengths.len() - 3..], [quarter as u32, 2 * quarter as u32, quarter as u32]);
    }

    #[test]
    fn a_packed_extent_is_cut_from_its_own_start_and_held_once() {
        let packed = |raw_offset, used| ExtentKind::Packed {
            codec: crate::fs::volume_map::Codec::Zstd,
            raw_length: 2 * BLOCK as u32,
            raw_offset,
            used,
        };
        let half = BLOCK / 2;
        let files = vec![
            file(vec![
                extent(ExtentKind::Plain, 0, 10 * BLOCK, half),
                extent(packed(0, BLOCK as u32), half, 20 * BLOCK, half + 4096),
                extent(ExtentKind::Plain, BLOCK + half, 30 * BLOCK, half),
            ]),
            file(vec![extent(packed(4096, 4096), 3 * BLOCK, 20 * BLOCK, half + 4096)]),
        ];
        let allocated = vec![ByteRange { start: 10 * BLOCK, length: 30 * BLOCK }];
        let cut = whole(101 * BLOCK, &disk(files, allocated));
        assert_eq!(cut.total_bytes, 31 * BLOCK);
        let blocks = blocks(&cut);
        assert!(blocks.contains(&vec![(20 * BLOCK, half as u32 + 4096)]), "whole, although it is in the file's middle");
        assert_eq!(blocks.concat().iter().map(|piece| u64::from(piece.1)).sum::<u64>(), cut.total_bytes);
    }

    #[test]
    fn shared_extents_are_held_once_and_strangers_are_left_out() {
        let shared = extent(ExtentKind::Plain, 0, 10 * BLOCK, 4 * BLOCK);
        let wild = extent(ExtentKind::Plain, 0, 90 * BLOCK, 4 * BLOCK);
        let files = vec![file(vec![shared]), file(vec![shared]), file(vec![wild])];
        let cut = whole(101 * BLOCK, &disk(files, vec![ByteRange { start: 8 * BLOCK, length: 8 * BLOCK }]));
        assert_eq!(cut.total_bytes, 9 * BLOCK);
        assert_eq!(blocks(&cut).concat().iter().map(|piece| u64::from(piece.1)).sum::<u64>(), cut.total_bytes);
    }

    const CELL: u64 = 512;

    impl Random {
        fn range(&mut self, cells: u64) -> ByteRange {
            let wild = self.below(20) == 0;
            let start = if wild { (1 << 50) + self.below(cells) } else { self.below(cells) };
            ByteRange { start: start * CELL, length: self.below(cells / 3) * CELL }
        }

        fn extent(&mut self, cells: u64) -> Extent {
            let ByteRange { start: disk, length } = self.range(cells);
            let kind = match self.below(6) {
                0 => ExtentKind::Unwritten,
                1 => ExtentKind::Encrypted,
                2 | 3 => ExtentKind::Compressed { raw_length: [0, 4096, 65_536][self.below(3) as usize] },
                _ => ExtentKind::Plain,
            };
            extent(kind, self.below(cells * 2) * CELL, disk, length)
        }

        fn volume(&mut self, cells: u64) -> MappedVolume {
            let ByteRange { start, length } = self.range(cells);
            let partition = Partition { index: 1, start, length, kind: String::new(), name: String::new() };
            if self.below(5) == 0 {
                let raw = Outcome::Raw { found: "unknown", reason: String::new() };
                return MappedVolume::of_partition(partition, raw);
            }
            let allocated = (0..self.below(8)).map(|_| self.range(cells)).collect();
            let files = (0..self.below(6)).map(|_| {
                let size = LARGE_STREAM_BYTES - self.below(2);
                file_of(size, (0..self.below(6)).map(|_| self.extent(cells)).collect())
            });
            let files = files.collect();
            let map = VolumeMap { allocated, files, dirty: self.below(6) == 0, ..VolumeMap::default() };
            MappedVolume::of_partition(partition, Outcome::Mapped(map))
        }
    }

    /// What must be held, cell by cell: what lies in no partition, and what each volume says is in use.
    fn model(cells: u64, volumes: &[MappedVolume]) -> Vec<u32> {
        let within = |range: ByteRange, cell: u64| range.start <= cell * CELL && cell * CELL < range.end();
        let held = |cell: u64| {
            let inside = |volume: &MappedVolume| {
                within(ByteRange { start: volume.partition.start, length: volume.partition.length }, cell)
            };
            let used = |volume: &MappedVolume| match &volume.outcome {
                Outcome::Mapped(map) if !map.dirty => map.allocated.iter().any(|range| within(*range, cell)),
                _ => inside(volume),
            };
            !volumes.iter().any(inside) || volumes.iter().any(used)
        };
        (0..cells).map(|cell| held(cell).into()).collect()
    }

    /// Overlapping partitions, extents that share clusters, lie in free space or beyond the disk: every byte that is in
    /// use is held exactly once, and nothing else is.
    #[test]
    fn every_byte_in_use_is_held_exactly_once_whatever_the_tables_say() {
        for seed in 1..3000u64 {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let cells = 6 + random.below(600);
            let volumes: Vec<MappedVolume> = (0..random.below(4)).map(|_| random.volume(cells)).collect();
            let cut = whole(cells * CELL, &volumes);
            let mut held = vec![0; cells as usize];
            for block in blocks(&cut) {
                assert!(!block.is_empty() && block.iter().map(|piece| u64::from(piece.1)).sum::<u64>() <= BLOCK);
                for (disk, length) in block {
                    assert!(length > 0 && disk % CELL == 0 && u64::from(length) % CELL == 0, "seed {seed}");
                    (disk / CELL..(disk + u64::from(length)) / CELL).for_each(|cell| held[cell as usize] += 1);
                }
            }
            assert_eq!(held, model(cells, &volumes), "seed {seed}");
            assert_eq!(cut.total_bytes, held.iter().map(|&count| u64::from(count) * CELL).sum::<u64>());
        }
    }

    #[test]
    fn a_compressed_unit_shares_no_stream_with_what_follows() {
        let unit = ExtentKind::Compressed { raw_length: BLOCK as u32 };
        let extents =
            vec![extent(unit, 0, 10 * BLOCK, BLOCK / 2), extent(ExtentKind::Plain, BLOCK / 2, 20 * BLOCK, BLOCK / 2)];
        let cut =
            whole(101 * BLOCK, &disk(vec![file(extents)], vec![ByteRange { start: 10 * BLOCK, length: 11 * BLOCK }]));
        assert!(blocks(&cut).contains(&vec![(10 * BLOCK, BLOCK as u32 / 2)]));
    }

    #[test]
    fn a_piece_is_split_where_it_was_refused() {
        let refused = [(0, 10), (20, 30), (38, 90)].map(|(start, end)| ByteRange { start, length: end - start });
        let parts = split_unreadable(Piece { disk: 5, length: 35, unreadable: false }, &refused);
        let parts: Vec<_> = parts.iter().map(|part| (part.disk, part.length, part.unreadable)).collect();
        assert_eq!(parts, [(5, 5, true), (10, 10, false), (20, 10, true), (30, 8, false), (38, 2, true)]);
    }
}
