//! From bytes of the disk back to names: the paths of files by their numbers, and the files whose extents meet given bytes.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::limits::PATH_DEPTH;
use crate::base::ranges::{ByteRange, meets};
use crate::fs::volume_map::{Content, VolumeMap};

/// One path for each of these files that has a name, from the volume's root and beginning with a slash. A pass over the
/// names for each level of folders, so that nothing is kept for files that are not asked for.
pub fn paths_of(map: &VolumeMap, numbers: &BTreeSet<u64>) -> BTreeMap<u64, Vec<u8>> {
    // The first name of each number on a way up, and its folder.
    let mut names: BTreeMap<u64, (u64, &[u8])> = BTreeMap::new();
    let mut wanted = numbers.clone();
    for _ in 0..PATH_DEPTH {
        if wanted.is_empty() {
            break;
        }
        let mut above = BTreeSet::new();
        for entry in map.entries.iter().filter(|entry| wanted.contains(&entry.child)) {
            names.entry(entry.child).or_insert_with(|| {
                above.insert(entry.parent);
                (entry.parent, &entry.name)
            });
        }
        wanted = above.into_iter().filter(|number| *number != map.root && !names.contains_key(number)).collect();
    }
    numbers.iter().filter_map(|&number| Some((number, path(map, &names, number)?))).collect()
}

fn path(map: &VolumeMap, names: &BTreeMap<u64, (u64, &[u8])>, number: u64) -> Option<Vec<u8>> {
    let (mut parts, mut at) = (Vec::new(), number);
    while at != map.root {
        let (parent, name) = names.get(&at)?;
        parts.push(*name);
        at = *parent;
        if parts.len() > PATH_DEPTH {
            return None;
        }
    }
    Some(parts.iter().rev().flat_map(|name| [b"/".as_slice(), name].concat()).collect())
}

/// The paths of at most `most` files of which a byte lies in this set of ranges.
pub fn files_at(map: &VolumeMap, ranges: &[ByteRange], most: usize) -> Vec<Vec<u8>> {
    let there = |content: &Content| match content {
        Content::Resident(_) => false,
        Content::Extents(extents) => {
            extents.iter().any(|extent| meets(ranges, ByteRange { start: extent.disk, length: extent.length }))
        }
    };
    let files = map.files.iter().filter(|file| file.streams.iter().any(|stream| there(&stream.content)));
    let numbers: BTreeSet<u64> = files.take(most).map(|file| file.number).collect();
    let paths = paths_of(map, &numbers);
    let name = |number: &u64| paths.get(number).cloned().unwrap_or_else(|| format!(" file {number}").into_bytes());
    numbers.iter().map(name).collect()
}
