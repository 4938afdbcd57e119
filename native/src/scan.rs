//! A disk whose tables were read: partitions, and each volume's file map or the reason why it is raw.

use std::collections::{HashMap, HashSet};

use crate::cut::{self, Cut, MappedVolume};
use crate::disk::{self, Table};
use crate::error::Result;
use crate::exclude::{self, Exclusion};
use crate::fs::{ByteRange, File, Outcome, VolumeMap};
use crate::limits::RECORD_BYTES;
use crate::pages;
use crate::volume::ReadAt;

pub struct Scan {
    pub size: u64,
    pub table: Table,
    pub volumes: Vec<MappedVolume>,
    /// In use, but not to be held.
    pub exclusions: Vec<Exclusion>,
}

/// One name of one stream of a file.
pub struct Named {
    pub volume: usize,
    /// Index into the volume's files.
    pub file: usize,
    pub stream: Option<usize>,
    /// From the volume's root, beginning with a slash; a stream's name behind a colon.
    pub path: Vec<u8>,
}

impl Scan {
    /// `everything`: nothing that is in use is left out.
    pub fn new(source: &dyn ReadAt, everything: bool) -> Result<Self> {
        let table = disk::read_table(source)?;
        let mut volumes = cut::map_volumes(source, &table);
        for volume in &mut volumes {
            if let Outcome::Mapped(map) = &mut volume.outcome {
                leave_out_giants(map);
            }
        }
        let exclusions = if everything { vec![] } else { exclude::find(source, &volumes) };
        Ok(Self { size: source.length(), table, volumes, exclusions })
    }

    pub fn map(&self, volume: usize) -> Option<&VolumeMap> {
        match &self.volumes.get(volume)?.outcome {
            Outcome::Mapped(map) => Some(map),
            Outcome::Raw { .. } => None,
        }
    }

    /// What a snapshot reads.
    pub fn allocated(&self) -> Vec<ByteRange> {
        exclude::subtract(cut::allocated(self.size, &self.volumes), &self.exclusions)
    }

    pub fn cut(&self) -> Cut {
        cut::cut(&self.allocated(), &self.volumes)
    }

    /// The maps of all mapped volumes, by partition index; the scan keeps empty ones.
    pub fn take_maps(&mut self) -> Vec<(u32, VolumeMap)> {
        let take = |volume: &mut MappedVolume| match &mut volume.outcome {
            Outcome::Mapped(map) => Some((volume.partition.index, std::mem::take(map))),
            Outcome::Raw { .. } => None,
        };
        self.volumes.iter_mut().filter_map(take).collect()
    }

    /// Bytes of files by the ending of their names and by owner, the largest first, at most `most` of each.
    pub fn census(&self, most: usize) -> [Vec<(String, u64)>; 2] {
        let (mut types, mut owners) = (HashMap::new(), HashMap::new());
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        for map in (0..self.volumes.len()).filter_map(|volume| self.map(volume)) {
            // Sizes are what the disk says, true or not.
            let sizes = |file: &File| file.streams.iter().fold(0u64, |sum, stream| sum.saturating_add(stream.size));
            for file in &map.files {
                add(owners.entry(file.uid.to_string()).or_default(), sizes(file));
            }
            for entry in &map.entries {
                let Ok(file) = map.files.binary_search_by_key(&entry.child, |file| file.number) else { continue };
                if map.files[file].kind == crate::fs::Kind::File {
                    add(types.entry(ending(&entry.name)).or_default(), sizes(&map.files[file]));
                }
            }
        }
        let largest = |counts: HashMap<String, u64>| {
            let mut rows: Vec<(String, u64)> = counts.into_iter().collect();
            rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            rows.truncate(most);
            rows
        };
        [largest(types), largest(owners)]
    }

    /// Every name of every file, folder by folder from the root. Each folder is entered once, whatever the names say.
    pub fn names(&self) -> Vec<Named> {
        let mut names = Vec::new();
        for volume in 0..self.volumes.len() {
            let Some(map) = self.map(volume) else { continue };
            let mut entered = HashSet::from([map.root]);
            let mut folders = vec![(map.root, Vec::new())];
            while let Some((folder, path)) = folders.pop() {
                let from = map.entries.partition_point(|entry| entry.parent < folder);
                for entry in map.entries[from..].iter().take_while(|entry| entry.parent == folder) {
                    let Ok(file) = map.files.binary_search_by_key(&entry.child, |file| file.number) else { continue };
                    let path = [&path, b"/".as_slice(), &entry.name].concat();
                    names.extend(streams(&map.files[file], &path, volume, file));
                    if map.files[file].kind == crate::fs::Kind::Directory && entered.insert(entry.child) {
                        folders.push((entry.child, path));
                    }
                }
            }
        }
        names
    }
}

/// One file must not keep a whole disk from being backed up: what has no room in a page is kept as clusters only.
fn leave_out_giants(map: &mut VolumeMap) {
    let before = map.files.len();
    map.files.retain(|file| pages::record_bound(file) <= RECORD_BYTES);
    let count = before - map.files.len();
    if count > 0 {
        let why = "with too many streams or attributes to be listed are in the image, but not shown";
        map.doubts.push(format!("{count} files {why}"));
    }
}

/// The file itself, and each named stream.
fn streams<'a>(file: &'a File, path: &'a [u8], volume: usize, index: usize) -> impl Iterator<Item = Named> + 'a {
    let unnamed = file.streams.iter().position(|stream| stream.name.is_empty());
    let own = Named { volume, file: index, stream: unnamed, path: path.to_vec() };
    // NTFS: a file without an unnamed stream has no line of its own.
    let shown = unnamed.is_some() || file.streams.is_empty();
    let named = file.streams.iter().enumerate().filter(|(_, stream)| !stream.name.is_empty());
    let named = named.map(move |(stream, content)| Named {
        volume,
        file: index,
        stream: Some(stream),
        path: [path, b":", &content.name].concat(),
    });
    shown.then_some(own).into_iter().chain(named)
}

/// ".so" of "libc.so"; "(none)" for names without a short plain ending.
fn ending(name: &[u8]) -> String {
    let dot = name.iter().rposition(|&byte| byte == b'.').filter(|&dot| dot > 0);
    let ending = dot.map(|dot| &name[dot..]).filter(|ending| (2..=9).contains(&ending.len()));
    match ending.filter(|ending| ending[1..].iter().all(u8::is_ascii_alphanumeric)) {
        Some(ending) => String::from_utf8_lossy(ending).to_lowercase(),
        None => "(none)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Content, Kind, Stream, Timestamp};

    #[test]
    fn a_file_that_fits_no_page_is_left_out_and_said() {
        let stream = |name: usize| {
            let name = format!("{name:0500}").into_bytes();
            Stream { name, size: 700, valid: 700, content: Content::Resident(vec![1; 700]) }
        };
        let time = Timestamp::default();
        let file = |number, streams: usize| File {
            number,
            generation: 0,
            kind: Kind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            links: 1,
            device: 0,
            modified: time,
            changed: time,
            created: time,
            xattrs: vec![],
            streams: (0..streams).map(stream).collect(),
        };
        let mut map = VolumeMap { files: vec![file(7, 1500), file(8, 3000)], ..VolumeMap::default() };
        let (kept, left) = (&map.files[0], &map.files[1]);
        for file in [kept, left] {
            let longest = pages::encode_file(file).iter().map(Vec::len).max().unwrap();
            assert!(longest <= pages::record_bound(file));
        }
        leave_out_giants(&mut map);
        assert_eq!(map.files.iter().map(|file| file.number).collect::<Vec<_>>(), [7]);
        assert_eq!(map.doubts.len(), 1);
    }
}
