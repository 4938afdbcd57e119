//! What lies where on a disk, in as many cells as a picture has room for: the whole disk, or one volume of it.
//!
//! Invariant: every byte of the disk is of exactly one kind, so the cells of the whole disk add up to its size.

use crate::base::ranges::{ByteRange, coalesce};
use crate::fs::Outcome;
use crate::fs::volume_map::Content;
use crate::map::cut::MappedVolume;
use crate::map::scan::Scan;

/// In this order wherever kinds are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Between and before partitions: tables, boot code, gaps.
    Outside,
    /// In use and no file's: the file system's own tables, folders, the journal.
    Metadata,
    Files,
    /// Not read by a snapshot.
    Free,
    /// Read whole, because no parser understood it.
    Raw,
    /// Free as the tables say, and read all the same: the journal may know better.
    Unsettled,
    /// In use, and left out on purpose.
    LeftOut,
}

pub const KINDS: usize = 7;

/// Bytes of each kind.
pub type Cell = [u64; KINDS];

/// The disk from its first byte to its last.
struct Region {
    end: u64,
    kind: Kind,
}

/// For each volume asked for, by its index in the scan (`None`: the whole disk), a number of cells of the same length. A
/// partition is shown whole, a logical volume in its own order.
pub fn strips(scan: &Scan, asked: &[(Option<usize>, usize)]) -> Vec<Vec<Cell>> {
    let regions = regions(scan);
    let pieces = |volume: Option<usize>| match volume.map(|at| &scan.volumes[at]) {
        Some(volume) if volume.within.is_some() => volume.pieces.clone(),
        Some(MappedVolume { partition, .. }) => vec![ByteRange { start: partition.start, length: partition.length }],
        None => vec![ByteRange { start: 0, length: scan.size }],
    };
    asked.iter().map(|&(volume, cells)| cells_of(&regions, &pieces(volume), cells)).collect()
}

/// Bytes of files that lie in their own records, which are metadata here.
pub fn resident_bytes(scan: &Scan) -> u64 {
    let maps = (0..scan.volumes.len()).filter_map(|volume| scan.map(volume));
    let streams = maps.flat_map(|map| &map.files).flat_map(|file| &file.streams);
    let bytes = streams.map(|stream| match &stream.content {
        Content::Resident(bytes) => bytes.len() as u64,
        Content::Extents(_) => 0,
    });
    bytes.sum()
}

/// Layers, each over what the ones before said. Volumes do not overlap, so one layer does for all of them.
fn regions(scan: &Scan) -> Vec<Region> {
    let size = scan.size;
    let kinds = [Kind::Free, Kind::Raw, Kind::Unsettled, Kind::Metadata, Kind::Files, Kind::LeftOut];
    let mut layers = kinds.map(|kind| (kind, Vec::new()));
    layers[5].1 = scan.exclusions.iter().flat_map(|exclusion| exclusion.ranges.iter().copied()).collect();
    for volume in &scan.volumes {
        if volume.within.is_none() {
            layers[0].1.push(ByteRange { start: volume.partition.start, length: volume.partition.length });
        }
        match &volume.outcome {
            Outcome::Raw { .. } => layers[1].1.extend_from_slice(&volume.pieces),
            Outcome::Mapped(map) => {
                if map.dirty {
                    layers[2].1.extend_from_slice(&volume.pieces);
                }
                layers[3].1.extend_from_slice(&map.allocated);
                layers[4].1.extend(within(coalesce(file_ranges(map)), &map.allocated));
            }
        }
    }
    let disk = vec![Region { end: size, kind: Kind::Outside }];
    layers.into_iter().fold(disk, |regions, (kind, ranges)| over(&regions, &inside(ranges, size), kind))
}

/// A set within the disk, whatever the tables said.
fn inside(mut ranges: Vec<ByteRange>, size: u64) -> Vec<ByteRange> {
    ranges.iter_mut().for_each(|range| range.length = range.length.min(size.saturating_sub(range.start)));
    coalesce(ranges)
}

fn file_ranges(map: &crate::fs::volume_map::VolumeMap) -> Vec<ByteRange> {
    let streams = map.files.iter().flat_map(|file| &file.streams);
    let extents = streams.flat_map(|stream| match &stream.content {
        Content::Extents(extents) => extents.as_slice(),
        Content::Resident(_) => &[],
    });
    extents.map(|extent| ByteRange { start: extent.disk, length: extent.length }).collect()
}

/// What is in both; each sorted and disjoint.
fn within(ranges: Vec<ByteRange>, bounds: &[ByteRange]) -> Vec<ByteRange> {
    let (mut both, mut next) = (Vec::with_capacity(ranges.len()), 0);
    for range in ranges {
        while next < bounds.len() && bounds[next].end() <= range.start {
            next += 1;
        }
        for bound in bounds[next..].iter().take_while(|bound| bound.start < range.end()) {
            let start = range.start.max(bound.start);
            both.push(ByteRange { start, length: range.end().min(bound.end()) - start });
        }
    }
    both
}

/// The regions with `ranges`, sorted and disjoint, of another kind.
fn over(regions: &[Region], ranges: &[ByteRange], kind: Kind) -> Vec<Region> {
    let mut merged: Vec<Region> = Vec::with_capacity(regions.len() + 2 * ranges.len());
    let mut push = |end: u64, kind: Kind| match merged.last_mut() {
        Some(last) if last.end >= end => {}
        Some(last) if last.kind == kind => last.end = end,
        _ if end == 0 => {}
        _ => merged.push(Region { end, kind }),
    };
    let mut ranges = ranges.iter().peekable();
    for region in regions {
        while let Some(range) = ranges.next_if(|range| range.start < region.end) {
            push(range.start, region.kind);
            push(range.end(), kind);
        }
        // A range that passed the end of this region has covered the beginning of the next.
        push(region.end, region.kind);
    }
    merged
}

fn cells_of(regions: &[Region], pieces: &[ByteRange], count: usize) -> Vec<Cell> {
    let total: u64 = pieces.iter().map(|piece| piece.length).sum();
    let edge = |cell: usize| (u128::from(total) * cell as u128 / count as u128) as u64;
    let mut cells = vec![[0; KINDS]; count];
    let (mut number, mut logical) = (0, 0);
    for piece in pieces {
        let mut from = piece.start;
        let mut at = regions.partition_point(|region| region.end <= from);
        while let Some(region) = regions.get(at).filter(|_| from < piece.end()) {
            while edge(number + 1) <= logical {
                number += 1;
            }
            let length = region.end.min(piece.end()).min(from + edge(number + 1) - logical) - from;
            cells[number][region.kind as usize] += length;
            from += length;
            logical += length;
            at += usize::from(from == region.end);
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::xorshift::Random;
    use crate::disk::table::{Partition, Table, TableKind};
    use crate::fs::volume_map::{Extent, ExtentKind, File, Stream, VolumeMap};
    use crate::map::exclude::Exclusion;

    fn range(start: u64, length: u64) -> ByteRange {
        ByteRange { start, length }
    }

    fn file(extents: &[(u64, u64)]) -> File {
        let extent = |&(disk, length)| Extent { kind: ExtentKind::Plain, logical: 0, disk, length };
        let content = Content::Extents(extents.iter().map(extent).collect());
        File::of_streams(12, vec![Stream { name: vec![], size: 1, valid: 1, content }])
    }

    fn scan(volumes: Vec<(u64, u64, Outcome)>) -> Scan {
        let volume = |(index, (start, length, outcome)): (usize, _)| {
            let (kind, name) = (String::new(), String::new());
            MappedVolume::of_partition(Partition { index: index as u32 + 1, start, length, kind, name }, outcome)
        };
        let table =
            Table { kind: TableKind::Mbr, id: String::new(), sector_bytes: 512, partitions: vec![], doubts: vec![] };
        let volumes = volumes.into_iter().enumerate().map(volume).collect();
        Scan { size: 1000, table, volumes, exclusions: vec![] }
    }

    fn mapped(dirty: bool, allocated: &[(u64, u64)], extents: &[(u64, u64)]) -> Outcome {
        let allocated = allocated.iter().map(|&(start, length)| range(start, length)).collect();
        Outcome::Mapped(VolumeMap { dirty, allocated, files: vec![file(extents)], ..VolumeMap::default() })
    }

    fn raw() -> Outcome {
        Outcome::Raw { found: "swap", reason: String::new() }
    }

    #[test]
    fn each_byte_is_counted_once_under_what_it_holds() {
        // Extents overlap each other, pass what is in use, and pass the disk.
        let map = mapped(false, &[(100, 100), (300, 50)], &[(150, 20), (160, 20), (190, 130), (5000, 7)]);
        let mut scan =
            scan(vec![(100, 400, map), (600, 100, raw()), (700, 100, mapped(true, &[(700, 30)], &[(710, 10)]))]);
        let ranges = vec![range(610, 90)];
        scan.exclusions = vec![Exclusion { partition: 2, what: "swap partition", path: vec![], ranges }];
        let found = strips(&scan, &[(None, 10), (None, 1), (Some(0), 1)]);
        assert_eq!(found[1], [[400, 110, 70, 250, 10, 70, 90]]);
        assert_eq!(found[2], [[0, 90, 60, 250, 0, 0, 0]]);
        assert_eq!(found[0][1], [0, 60, 40, 0, 0, 0, 0]);
        assert_eq!(found[0][7], [0, 20, 10, 0, 0, 70, 0]);
        assert_eq!(found[0].iter().flatten().sum::<u64>(), 1000);
    }

    #[test]
    fn cells_that_do_not_divide_the_disk_lose_nothing() {
        let scan = scan(vec![(7, 900, mapped(false, &[(7, 13), (500, 99)], &[(503, 50)]))]);
        for cells in [1, 3, 7, 999, 1000, 1500] {
            let strip = &strips(&scan, &[(None, cells)])[0];
            assert_eq!((strip.len(), strip.iter().flatten().sum::<u64>()), (cells, 1000));
            let files: u64 = strip.iter().map(|cell| cell[Kind::Files as usize]).sum();
            assert_eq!(files, 50);
        }
    }

    #[test]
    fn an_empty_disk_has_empty_cells() {
        let empty = Scan { size: 0, ..scan(vec![]) };
        assert_eq!(strips(&empty, &[(None, 3)]), [vec![[0; KINDS]; 3]]);
    }

    #[test]
    fn regions_agree_with_a_count_byte_by_byte() {
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        let mut next = move |end: u64| random.below(end);
        for _ in 0..500 {
            let mut ranges = |count: u64| (0..count).map(|_| (100 + next(300), next(60))).collect::<Vec<_>>();
            let (used, extents) = (ranges(6), ranges(8));
            let used = inside(used.iter().map(|&(start, length)| range(start, length)).collect(), 450);
            let pairs: Vec<_> = used.iter().map(|range| (range.start, range.length)).collect();
            let scan = scan(vec![(100, 350, mapped(false, &pairs, &extents))]);
            let covers = |all: &[(u64, u64)], byte: u64| all.iter().any(|&(at, many)| byte >= at && byte < at + many);
            let mut expected = [0; KINDS];
            for byte in 0..1000 {
                let kind = match (covers(&pairs, byte), covers(&extents, byte)) {
                    (true, true) => Kind::Files,
                    (true, false) => Kind::Metadata,
                    _ if (100..450).contains(&byte) => Kind::Free,
                    _ => Kind::Outside,
                };
                expected[kind as usize] += 1;
            }
            let strip = &strips(&scan, &[(None, 13)])[0];
            let sum = strip.iter().fold([0; KINDS], |sum, cell| std::array::from_fn(|kind| sum[kind] + cell[kind]));
            assert_eq!(sum, expected);
        }
    }
}
