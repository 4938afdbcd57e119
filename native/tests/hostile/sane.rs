//! What must hold of every outcome, whatever the bytes say.

use imager_native::base::limits::{BLOCK_BYTES, DOUBTS};
use imager_native::base::ranges::ByteRange;
use imager_native::disk::table::{Table, TableKind};
use imager_native::disk::volume::ReadAt;
use imager_native::fs::volume_map::{Content, ExtentKind, Kind, Stream, VolumeMap};
use imager_native::fs::{Outcome, btrfs, ntfs};
use imager_native::map::cut::{self, Blocks, MappedVolume};
use imager_native::map::exclude;

use super::image::Damaged;
use super::layout::Bits;

/// Compressed extents of one outcome that are unpacked.
const UNPACKED: usize = 8;
const UNPACKED_BYTES: u64 = 1 << 20;

/// What may be free after an edit.
pub enum Freed<'a> {
    /// The edit reached what says so.
    Unknown,
    /// Whatever the bitmap, as it is now, has no bit for; and what was free before.
    ByBits(&'a [Bits], &'a [ByteRange]),
}

pub fn assert_sane(image: &Damaged, volumes: &[MappedVolume], freed: &Freed) {
    for volume in volumes {
        let (start, end) = (volume.partition.start, volume.partition.start + volume.partition.length);
        if let Outcome::Mapped(map) = &volume.outcome {
            assert_map(map, start, end);
            unpack(image, map);
        }
    }
    let exclusions = exclude::find(image, volumes);
    assert_cut(&exclude::subtract(cut::allocated(image.length, volumes), &exclusions), volumes);
    for range in free(volumes, image.length) {
        let kept = match freed {
            Freed::Unknown => break,
            Freed::ByBits(bitmap, before) => is_free(image, bitmap, before, range),
        };
        assert!(kept, "{range:?} is in use and is left out");
    }
}

/// Partitions lie inside the disk, apart, and in order.
pub fn assert_table(table: &Table, length: u64) {
    let mut spans: Vec<_> = table.partitions.iter().map(|p| (p.start, p.start + p.length)).collect();
    spans.sort_unstable();
    assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "partitions overlap: {table:?}");
    let filled = |start, end| start < end || table.kind == TableKind::None;
    assert!(spans.iter().all(|&(start, end)| filled(start, end) && end <= length), "{table:?}");
    assert!(table.partitions.windows(2).all(|pair| pair[0].index < pair[1].index), "{table:?}");
}

fn assert_map(map: &VolumeMap, start: u64, end: u64) {
    assert!(map.allocated.iter().all(|range| range.length > 0 && range.start >= start && range.end() <= end));
    assert!(map.allocated.windows(2).all(|pair| pair[0].end() < pair[1].start), "allocated is not coalesced");
    assert!(map.files.windows(2).all(|pair| pair[0].number < pair[1].number), "files are not in order");
    let order = |index: usize| (map.entries[index].parent, &map.entries[index].name);
    assert!((1..map.entries.len()).all(|index| order(index - 1) < order(index)), "entries are not in order");
    assert!(map.doubts.len() <= DOUBTS + 1);
    let kind = |number: u64| {
        let at = map.files.binary_search_by_key(&number, |file| file.number);
        at.ok().map(|at| map.files[at].kind)
    };
    assert_eq!(kind(map.root), Some(Kind::Directory), "the root");
    for entry in &map.entries {
        assert_eq!(kind(entry.parent), Some(Kind::Directory), "the parent of {entry:?}");
        assert!(kind(entry.child).is_some() && entry.child != map.root, "{entry:?}");
        assert!(!entry.name.is_empty() && entry.name != b"." && entry.name != b"..", "{entry:?}");
        // ext keeps the ciphertext of encrypted names, which may hold any byte; the mount shows what can be shown.
        let plain = !entry.name.contains(&b'/') && !entry.name.contains(&0);
        assert!(plain || map.file_system.starts_with("ext"), "{entry:?}");
    }
    for file in &map.files {
        assert!(file.mode <= 0o7777);
        assert!([file.modified, file.changed, file.created].iter().all(|time| time.nanoseconds < 1_000_000_000));
        assert!(map.subvolumes.is_empty() || btrfs::subvolume_index(file.number) < map.subvolumes.len());
        file.streams.iter().for_each(|stream| assert_stream(map, stream, start, end));
    }
}

fn assert_stream(map: &VolumeMap, stream: &Stream, start: u64, end: u64) {
    assert!(stream.valid <= stream.size, "{stream:?}");
    let extents = match &stream.content {
        Content::Resident(bytes) => return assert_eq!(bytes.len() as u64, stream.size),
        Content::Extents(extents) => extents,
    };
    let mut next = 0;
    for extent in extents {
        assert!(extent.length > 0 && extent.logical >= next, "{extent:?}");
        let stop = extent.disk.checked_add(extent.length).expect("an end below 2^64");
        assert!(extent.disk >= start && stop <= end, "{extent:?} leaves the volume");
        assert!(within(&map.allocated, extent.disk, stop), "{extent:?} is not kept");
        let logical_bytes = match extent.kind {
            ExtentKind::Packed { raw_length, raw_offset, used, .. } => {
                assert!(raw_offset.checked_add(used).is_some_and(|end| end <= raw_length), "{extent:?}");
                u64::from(used)
            }
            _ => extent.length,
        };
        next = extent.logical.checked_add(logical_bytes).expect("an end below 2^64");
    }
}

/// Compressed extents that were changed unpack or are refused.
fn unpack(image: &Damaged, map: &VolumeMap) {
    let streams = map.files.iter().flat_map(|file| &file.streams);
    let extents = streams.filter_map(|stream| match &stream.content {
        Content::Extents(extents) => Some(extents),
        Content::Resident(_) => None,
    });
    let packed = extents.flatten().filter(|extent| !matches!(extent.kind, ExtentKind::Plain | ExtentKind::Unwritten));
    let packed =
        packed.filter(|extent| extent.length <= UNPACKED_BYTES && image.is_changed(extent.disk, extent.length));
    for extent in packed.take(UNPACKED) {
        let mut bytes = vec![0; extent.length as usize];
        image.read_at(extent.disk, &mut bytes).unwrap();
        let (raw, length) = match extent.kind {
            ExtentKind::Compressed { raw_length } => (ntfs::decompress::unit(&bytes, raw_length as usize), raw_length),
            ExtentKind::Packed { codec, raw_length, .. } => {
                (btrfs::packed::unpack(codec, &bytes, raw_length as usize), raw_length)
            }
            _ => continue,
        };
        assert!(raw.is_err() || raw.is_ok_and(|raw| raw.len() == length as usize));
    }
}

/// The blocks of the cut cover each byte that is to be held once, and no other.
fn assert_cut(held: &[ByteRange], volumes: &[MappedVolume]) {
    let cut = cut::cut(held, volumes);
    let (mut walk, mut pieces, mut block) = (Blocks::default(), Vec::new(), Vec::new());
    while walk.next(&cut, &mut block) {
        let bytes: u64 = block.iter().map(|piece| u64::from(piece.length)).sum();
        assert!((1..=BLOCK_BYTES as u64).contains(&bytes), "a block of {bytes} bytes");
        pieces.extend(block.drain(..).map(|piece| (piece.disk, piece.disk + u64::from(piece.length))));
    }
    pieces.sort_unstable();
    let total: u64 = pieces.iter().map(|(start, end)| end - start).sum();
    assert_eq!(total, cut.total_bytes);
    let mut covered: Vec<ByteRange> = Vec::new();
    for (start, end) in pieces {
        match covered.last_mut() {
            Some(last) if last.end() > start => panic!("byte {start} is held twice"),
            Some(last) if last.end() == start => last.length += end - start,
            _ => covered.push(ByteRange { start, length: end - start }),
        }
    }
    assert_eq!(covered, held);
}

/// What a snapshot does not read.
pub fn free(volumes: &[MappedVolume], size: u64) -> Vec<ByteRange> {
    let mut free = Vec::new();
    let mut at = 0;
    for range in cut::allocated(size, volumes).into_iter().chain([ByteRange { start: size, length: 0 }]) {
        if range.start > at {
            free.push(ByteRange { start: at, length: range.start - at });
        }
        at = range.end();
    }
    free
}

/// Whether the bitmap calls all of the range free; of what it does not cover, whether it was free before.
fn is_free(image: &Damaged, bitmap: &[Bits], before: &[ByteRange], range: ByteRange) -> bool {
    let mut at = range.start;
    for bits in bitmap {
        let (from, to) = (at.max(bits.first), range.end().min(bits.first + bits.count * bits.unit));
        if from >= to {
            continue;
        }
        let (first, last) = ((from - bits.first) / bits.unit, (to - 1 - bits.first) / bits.unit);
        let bytes = image.get(bits.at + first / 8, (last / 8 - first / 8 + 1) as usize);
        let in_use = (first..=last).any(|bit| bytes[(bit / 8 - first / 8) as usize] >> (bit % 8) & 1 != 0);
        if in_use || (at < from && !within(before, at, from)) {
            return false;
        }
        at = to;
    }
    at == range.end() || within(before, at, range.end())
}

/// `ranges` are sorted and none touches the next.
fn within(ranges: &[ByteRange], start: u64, end: u64) -> bool {
    let after = ranges.partition_point(|range| range.start <= start);
    after > 0 && ranges[after - 1].end() >= end
}
