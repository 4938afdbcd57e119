//! Reads streams through a map's extents, as a mount will, and checks what every map must hold.

use imager_native::disk::volume::ReadAt;
use imager_native::fs::btrfs::packed;
use imager_native::fs::ntfs::decompress;
use imager_native::fs::volume_map::{Content, ExtentKind, Kind, Stream, VolumeMap};

/// The logical bytes of a stream, at most `most`.
pub fn read(source: &dyn ReadAt, stream: &Stream, most: u64) -> Vec<u8> {
    assert!(stream.size <= most, "a stream of {} bytes", stream.size);
    if let Content::Resident(bytes) = &stream.content {
        return bytes.clone();
    }
    let mut bytes = vec![0u8; stream.size as usize];
    pieces(source, stream, |at, piece| bytes[at as usize..][..piece.len()].copy_from_slice(piece));
    bytes
}

/// What the extents hold, piece by piece; no holes, nothing that is not written, nothing past the end.
pub fn pieces(source: &dyn ReadAt, stream: &Stream, mut put: impl FnMut(u64, &[u8])) {
    let Content::Extents(extents) = &stream.content else { return };
    let mut put = |logical: u64, part: &[u8]| {
        let end = (logical + part.len() as u64).min(stream.valid);
        if logical < end {
            put(logical, &part[..(end - logical) as usize]);
        }
    };
    let mut index = 0;
    while index < extents.len() {
        let first = extents[index];
        index += 1;
        if first.kind == ExtentKind::Unwritten {
            continue;
        }
        let mut part = vec![0; first.length as usize];
        source.read_at(first.disk, &mut part).unwrap();
        if let ExtentKind::Packed { codec, raw_length, raw_offset, used } = first.kind {
            let raw = packed::unpack(codec, &part, raw_length as usize).unwrap();
            part = raw[raw_offset as usize..][..used as usize].to_vec();
        }
        if let ExtentKind::Compressed { raw_length } = first.kind {
            // The further pieces of the same unit.
            let end = first.logical + u64::from(raw_length);
            while let Some(next) = extents.get(index).filter(|next| next.logical < end) {
                let from = part.len();
                part.resize(from + next.length as usize, 0);
                source.read_at(next.disk, &mut part[from..]).unwrap();
                index += 1;
            }
            part = decompress::unit(&part, raw_length as usize).unwrap();
        }
        put(first.logical, &part);
    }
}

/// What holds for the map of any volume, however damaged.
pub fn check(map: &VolumeMap, start: u64, length: u64) {
    let end = start + length;
    assert!(map.allocated.iter().all(|range| range.length > 0 && range.start >= start && range.end() <= end));
    assert!(map.allocated.windows(2).all(|pair| pair[0].end() < pair[1].start), "allocated is not coalesced");
    assert!(map.files.windows(2).all(|pair| pair[0].number < pair[1].number));
    let order = |index: usize| (map.entries[index].parent, &map.entries[index].name);
    assert!((1..map.entries.len()).all(|index| order(index - 1) < order(index)));
    assert!(map.doubts.len() <= imager_native::base::limits::DOUBTS + 1);
    let find = |number: u64| map.files.binary_search_by_key(&number, |file| file.number).map(|at| &map.files[at]);
    assert_eq!(find(map.root).unwrap().kind, Kind::Directory);
    for entry in &map.entries {
        assert_eq!(find(entry.parent).unwrap().kind, Kind::Directory);
        assert!(find(entry.child).is_ok() && entry.child != map.root);
        assert!(!entry.name.is_empty() && entry.name != b"." && entry.name != b"..");
        // Ciphertext may hold any byte.
        assert!(!entry.name.contains(&b'/') || map.doubts.iter().any(|doubt| doubt.contains("ciphertext")));
    }
    for stream in map.files.iter().flat_map(|file| &file.streams) {
        check_stream(map, stream, start, end);
    }
}

fn check_stream(map: &VolumeMap, stream: &Stream, start: u64, end: u64) {
    assert!(stream.valid <= stream.size);
    match &stream.content {
        Content::Resident(bytes) => assert_eq!(bytes.len() as u64, stream.size),
        Content::Extents(extents) => {
            let logical_length = |extent: &imager_native::fs::volume_map::Extent| match extent.kind {
                ExtentKind::Packed { used, .. } => u64::from(used),
                _ => extent.length,
            };
            assert!(extents.windows(2).all(|pair| pair[0].logical + logical_length(&pair[0]) <= pair[1].logical));
            for extent in extents {
                assert!(extent.length > 0 && extent.disk >= start && extent.disk + extent.length <= end);
                assert_eq!(extent.logical % u64::from(map.cluster_bytes), 0);
                let after = map.allocated.partition_point(|range| range.start <= extent.disk);
                assert!(after > 0 && map.allocated[after - 1].end() >= extent.disk + extent.length, "a run left out");
            }
        }
    }
}
