//! A disk whose tables were read: partitions, and each volume's file map or the reason why it is raw.

use std::collections::{HashMap, HashSet};

use crate::base::error::{Error, Result};
use crate::base::limits::RECORD_BYTES;
use crate::base::ranges::ByteRange;
use crate::disk;
use crate::disk::sandbox::caught;
use crate::disk::table::{Table, without_table};
use crate::disk::volume::ReadAt;
use crate::formats::file_record;
use crate::fs::volume_map::{File, Kind, Stream, VolumeMap};
use crate::fs::{self, Outcome};
use crate::map::cut::{self, Cut, MappedVolume};
use crate::map::exclude::{self, Exclusion};
use crate::map::volumes;

pub struct Scan {
    pub size: u64,
    pub table: Table,
    pub volumes: Vec<MappedVolume>,
    /// What is in use, and left out of a snapshot on purpose.
    pub exclusions: Vec<Exclusion>,
}

/// One name of one stream of a file.
pub struct Named<'a> {
    pub volume: &'a MappedVolume,
    pub map: &'a VolumeMap,
    pub file: &'a File,
    pub stream: Option<&'a Stream>,
    /// From the volume's root, beginning with a slash; a stream's name behind a colon.
    pub path: &'a [u8],
}

/// Where a listing is: volume by volume, folder by folder from the root. It holds the paths of folders that are still to
/// be entered, not those of all files. Each folder is entered once, whatever the names say.
#[derive(Default)]
pub struct Listing {
    volume: usize,
    /// Numbers and paths.
    folders: Vec<(u64, Vec<u8>)>,
    entered: HashSet<u64>,
    /// The one that is being listed, and the next of the volume's entries.
    folder: Option<(u64, Vec<u8>)>,
    next: usize,
}

impl Scan {
    /// `everything`: nothing that is in use is left out.
    pub fn new(source: &dyn ReadAt, everything: bool) -> Result<Self> {
        Self::of_flushed(source, everything, &[])
    }

    /// `flushed`: where volumes begin whose tables are whole now, whatever their journals say.
    pub fn of_flushed(source: &dyn ReadAt, everything: bool, flushed: &[u64]) -> Result<Self> {
        let table = match caught(|| disk::read_table(source, &fs::known)) {
            Err(Error::Unsupported { feature }) => without_table(source, vec![format!("a table with {feature}")]),
            table => table?,
        };
        let mut volumes = volumes::map_volumes(source, &table);
        for volume in &mut volumes {
            if let Outcome::Mapped(map) = &mut volume.outcome {
                leave_out_giants(map);
                map.dirty &= !flushed.contains(&volume.partition.start);
            }
        }
        let exclusions = match everything {
            true => vec![],
            // What is not found is stored.
            false => caught(|| Ok(exclude::find(source, &volumes))).unwrap_or_default(),
        };
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

    /// Bytes of files by the ending of their names and by owner, the largest first, at most `most` of each. A file counts once,
    /// under the first of its names.
    pub fn census(&self, most: usize) -> [Vec<(String, u64)>; 2] {
        let (mut types, mut owners) = (HashMap::new(), HashMap::new());
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        for map in (0..self.volumes.len()).filter_map(|volume| self.map(volume)) {
            // Sizes are what the disk says, true or not.
            let sizes = |file: &File| file.streams.iter().fold(0u64, |sum, stream| sum.saturating_add(stream.size));
            for file in &map.files {
                add(owners.entry(file.uid.to_string()).or_default(), sizes(file));
            }
            let mut counted = vec![false; map.files.len()];
            for entry in &map.entries {
                let Ok(file) = map.files.binary_search_by_key(&entry.child, |file| file.number) else { continue };
                if map.files[file].kind == Kind::File && !std::mem::replace(&mut counted[file], true) {
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
}

impl Listing {
    pub fn new(scan: &Scan) -> Self {
        let mut listing = Self::default();
        listing.begin(scan, 0);
        listing
    }

    /// The next names, at least `most` of them unless the listing ends: those of one file stay together.
    pub fn next(&mut self, scan: &Scan, most: usize, mut found: impl FnMut(Named)) {
        let mut count = 0;
        while count < most {
            let Some((volume, map)) = scan.volumes.get(self.volume).zip(scan.map(self.volume)) else { return };
            let Some((folder, path)) = &self.folder else {
                self.enter(scan, map);
                continue;
            };
            let Some(entry) = map.entries.get(self.next).filter(|entry| entry.parent == *folder) else {
                self.folder = None;
                continue;
            };
            self.next += 1;
            let Ok(file) = map.files.binary_search_by_key(&entry.child, |file| file.number) else { continue };
            let file = &map.files[file];
            let path = [path, b"/".as_slice(), &entry.name].concat();
            each_stream(file, &path, |stream, path| {
                found(Named { volume, map, file, stream, path });
                count += 1;
            });
            if file.kind == Kind::Directory && self.entered.insert(entry.child) {
                self.folders.push((entry.child, path));
            }
        }
    }

    /// The next folder, or the next volume.
    fn enter(&mut self, scan: &Scan, map: &VolumeMap) {
        match self.folders.pop() {
            Some(folder) => {
                self.next = map.entries.partition_point(|entry| entry.parent < folder.0);
                self.folder = Some(folder);
            }
            None => self.begin(scan, self.volume + 1),
        }
    }

    /// The first mapped volume from `volume` on.
    fn begin(&mut self, scan: &Scan, volume: usize) {
        self.volume = volume;
        while let Some(volume) = scan.volumes.get(self.volume) {
            if let Outcome::Mapped(map) = &volume.outcome {
                self.entered = HashSet::from([map.root]);
                self.folders.push((map.root, Vec::new()));
                return;
            }
            self.volume += 1;
        }
    }
}

/// One file must not keep a whole disk from being backed up: what has no room in a page is kept as clusters only.
fn leave_out_giants(map: &mut VolumeMap) {
    let before = map.files.len();
    map.files.retain(|file| file_record::record_bound(file) <= RECORD_BYTES);
    let count = before - map.files.len();
    if count > 0 {
        let why = "with too many streams or attributes to be listed are in the image, but not shown";
        map.doubts.push(format!("{count} files {why}"));
    }
}

/// The file itself, and each named stream, with their paths.
fn each_stream<'a>(file: &'a File, path: &[u8], mut found: impl FnMut(Option<&'a Stream>, &[u8])) {
    let unnamed = file.streams.iter().find(|stream| stream.name.is_empty());
    // NTFS: a file without an unnamed stream has no line of its own.
    if unnamed.is_some() || file.streams.is_empty() {
        found(unnamed, path);
    }
    for stream in file.streams.iter().filter(|stream| !stream.name.is_empty()) {
        found(Some(stream), &[path, b":", &stream.name].concat());
    }
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
    use crate::fs::ntfs::sample;
    use crate::fs::volume_map::{Content, DirectoryEntry};

    /// Bytes on some of which every parser panics.
    struct Trap {
        bytes: Vec<u8>,
        sprung: std::ops::Range<u64>,
    }

    impl ReadAt for Trap {
        fn length(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
            assert!(!self.sprung.contains(&offset), "a parser's bug");
            self.bytes.read_at(offset, buffer)
        }
    }

    const SECOND_AT: usize = 2 << 20;

    /// An MBR with the same NTFS volume at 1 MiB and at 2 MiB.
    fn two_volumes(sprung: std::ops::Range<u64>) -> Trap {
        let (volume, mut bytes) = (sample::volume(), vec![0; 3 << 20]);
        for (entry, at) in [1 << 20, SECOND_AT].into_iter().enumerate() {
            bytes[at..at + volume.len()].copy_from_slice(&volume);
            let slot = &mut bytes[446 + 16 * entry..462 + 16 * entry];
            slot[4] = 7;
            slot[8..12].copy_from_slice(&(at as u32 / 512).to_le_bytes());
            slot[12..16].copy_from_slice(&(volume.len() as u32 / 512).to_le_bytes());
        }
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        Trap { bytes, sprung }
    }

    fn paths(scan: &Scan, most: usize) -> Vec<String> {
        let (mut listing, mut paths) = (Listing::new(scan), Vec::new());
        loop {
            let before = paths.len();
            listing.next(scan, most, |named| {
                paths.push(format!("/{}{}", named.volume.partition.index, String::from_utf8_lossy(named.path)));
            });
            if paths.len() == before {
                return paths;
            }
        }
    }

    #[test]
    fn a_panic_in_one_volume_costs_that_volume() {
        let whole = Scan::new(&two_volumes(0..0), false).unwrap();
        assert!(whole.map(0).is_some() && whole.map(1).is_some());
        // From the second volume's MFT on.
        let scan = Scan::new(&two_volumes(SECOND_AT as u64 + 4096..3 << 20), false).unwrap();
        assert!(scan.map(0).is_some_and(|map| map.files.len() == whole.map(0).unwrap().files.len()));
        match &scan.volumes[1].outcome {
            Outcome::Raw { found: "ntfs", reason } => assert!(reason.contains("a parser's bug"), "{reason}"),
            other => panic!("{other:?}"),
        }
        assert!(scan.allocated().iter().any(|range| range.end() == 3 << 20), "it is in the image, whole");
    }

    #[test]
    fn a_panic_at_the_table_leaves_one_raw_volume() {
        let scan = Scan::new(&two_volumes(0..512), false).unwrap();
        assert_eq!((scan.volumes.len(), scan.table.doubts.len()), (1, 1));
        assert!(scan.map(0).is_none());
        assert_eq!(scan.allocated(), [ByteRange { start: 0, length: 3 << 20 }]);
    }

    #[test]
    fn a_listing_is_the_same_in_pieces_of_any_size() {
        let scan = Scan::new(&two_volumes(0..0), false).unwrap();
        let whole = paths(&scan, usize::MAX);
        assert_eq!(whole, ["/1/d", "/1/data", "/1/hello", "/1/d/inner", "/2/d", "/2/data", "/2/hello", "/2/d/inner"]);
        assert_eq!(paths(&scan, 1), whole);
        assert_eq!(paths(&scan, 3), whole);
    }

    #[test]
    fn a_file_of_many_names_counts_once() {
        let mut scan = Scan::new(&two_volumes(0..0), false).unwrap();
        let before = scan.census(10);
        for volume in &mut scan.volumes {
            let Outcome::Mapped(map) = &mut volume.outcome else { panic!("both are mapped") };
            let again: Vec<_> =
                map.entries.iter().map(|entry| DirectoryEntry { name: b"z.twin".into(), ..entry.clone() }).collect();
            map.entries.extend(again);
        }
        assert!(before[0].iter().any(|(_, bytes)| *bytes > 0));
        assert_eq!(scan.census(10), before);
    }

    #[test]
    fn a_file_that_fits_no_page_is_left_out_and_said() {
        let stream = |name: usize| {
            let name = format!("{name:0500}").into_bytes();
            Stream { name, size: 700, valid: 700, content: Content::Resident(vec![1; 700]) }
        };
        let file = |number, streams: usize| File::of_streams(number, (0..streams).map(stream).collect());
        let mut map = VolumeMap { files: vec![file(7, 1500), file(8, 3000)], ..VolumeMap::default() };
        let (kept, left) = (&map.files[0], &map.files[1]);
        for file in [kept, left] {
            let longest = file_record::encode_file(file).iter().map(Vec::len).max().unwrap();
            assert!(longest <= file_record::record_bound(file));
        }
        leave_out_giants(&mut map);
        assert_eq!(map.files.iter().map(|file| file.number).collect::<Vec<_>>(), [7]);
        assert_eq!(map.doubts.len(), 1);
    }
}
