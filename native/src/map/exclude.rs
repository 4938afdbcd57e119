//! What a snapshot leaves out on purpose (docs/cutting.md, "Left out"): bytes that are in use but that nobody will ever
//! read again. They restore as zeros. Only on volumes that are clean and whose tables leave no doubt, and never a byte
//! that another file claims too.

use std::collections::BTreeSet;

use crate::base::ranges::{ByteRange, coalesce, meets, without};
use crate::disk::volume::{ReadAt, Volume};
use crate::fs::recognise::{SWAP_SPACE, swap_page};
use crate::fs::volume_map::{Content, ExtentKind, File, Kind, VolumeMap};
use crate::fs::{self, Outcome};
use crate::map::cut::MappedVolume;
use crate::map::owners::paths_of;
use crate::map::pieces::Pieces;

/// A file, partition or journal whose content is left out.
#[derive(Debug, PartialEq, Eq)]
pub struct Exclusion {
    /// Index of its partition.
    pub partition: u32,
    pub what: &'static str,
    /// From the volume's root; empty where it is no file.
    pub path: Vec<u8>,
    pub ranges: Vec<ByteRange>,
}

/// More of one volume are kept like any other file.
const SWAP_FILES: usize = 100;
/// mkswap refuses less than ten pages.
const SWAP_LEAST_BYTES: u64 = 10 * 4096;
const WINDOWS_FILES: [(&[u8], &str); 3] =
    [(b"pagefile.sys", "page file"), (b"swapfile.sys", "page file"), (b"hiberfil.sys", "hibernation file")];

/// Everything that may be left out of a disk of these volumes.
pub fn find(source: &dyn ReadAt, volumes: &[MappedVolume]) -> Vec<Exclusion> {
    volumes.iter().flat_map(|volume| of_volume(source, volume)).filter(|found| !found.ranges.is_empty()).collect()
}

/// `allocated` without what is left out.
pub fn subtract(allocated: Vec<ByteRange>, exclusions: &[Exclusion]) -> Vec<ByteRange> {
    let ranges = exclusions.iter().flat_map(|exclusion| exclusion.ranges.iter().copied());
    without(&allocated, &coalesce(ranges.collect()))
}

fn of_volume(source: &dyn ReadAt, volume: &MappedVolume) -> Vec<Exclusion> {
    let partition = &volume.partition;
    match &volume.outcome {
        Outcome::Raw { found: SWAP_SPACE, .. } => {
            let whole = Pieces::new(source, &volume.pieces);
            // Its header stays.
            let behind = |page| whole.split(page, whole.length()).collect();
            let ranges = swap_page(Volume::whole(&whole)).map_or(vec![], behind);
            vec![Exclusion { partition: partition.index, what: "swap partition", path: vec![], ranges }]
        }
        Outcome::Mapped(map) if !map.dirty && map.doubts.is_empty() => of_map(source, partition.index, map),
        Outcome::Raw { .. } | Outcome::Mapped(_) => vec![],
    }
}

fn of_map(source: &dyn ReadAt, partition: u32, map: &VolumeMap) -> Vec<Exclusion> {
    let mut found: Vec<(u64, &'static str, Vec<ByteRange>)> = windows_files(map);
    let swap = map.files.iter().filter_map(|file| Some((file.number, "swap file", swap_file(source, file)?)));
    found.extend(swap.take(SWAP_FILES));
    let numbers: BTreeSet<u64> = found.iter().map(|(number, ..)| *number).collect();
    let others = claimed_by_others(map, &numbers, &found);
    let paths = paths_of(map, &numbers);
    let file = |(number, what, ranges): (u64, &'static str, Vec<ByteRange>)| Exclusion {
        partition,
        what,
        path: paths.get(&number).cloned().unwrap_or_default(),
        ranges: without(&coalesce(ranges), &others),
    };
    let mut exclusions: Vec<Exclusion> = found.into_iter().map(file).collect();
    // In the order of the disk: its extents come in that of the journal.
    let journal = coalesce(map.idle_journal.clone());
    let journal = without(&journal, &claimed_by_others(map, &BTreeSet::new(), &[(0, "", journal.clone())]));
    exclusions.push(Exclusion { partition, what: "journal", path: vec![], ranges: journal });
    exclusions
}

/// What other files' extents and the tables cover of what was found.
fn claimed_by_others(map: &VolumeMap, own: &BTreeSet<u64>, found: &[(u64, &str, Vec<ByteRange>)]) -> Vec<ByteRange> {
    let wanted = coalesce(found.iter().flat_map(|(_, _, ranges)| ranges.iter().copied()).collect());
    let others = map.files.iter().filter(|file| !own.contains(&file.number));
    let others = others.flat_map(disk_ranges).chain(map.tables.iter().copied());
    coalesce(others.filter(|range| meets(&wanted, *range)).collect())
}

fn disk_ranges(file: &File) -> impl Iterator<Item = ByteRange> + '_ {
    let extents = file.streams.iter().filter_map(|stream| match &stream.content {
        Content::Extents(extents) => Some(extents),
        Content::Resident(_) => None,
    });
    extents.flatten().map(|extent| ByteRange { start: extent.disk, length: extent.length })
}

/// Windows makes them anew when it starts. They lie in the root folder.
fn windows_files(map: &VolumeMap) -> Vec<(u64, &'static str, Vec<ByteRange>)> {
    if !fs::of(map).is_some_and(|system| system.has_windows_files(map)) {
        return vec![];
    }
    let from = map.entries.partition_point(|entry| entry.parent < map.root);
    let root = map.entries[from..].iter().take_while(|entry| entry.parent == map.root);
    let known = root.filter_map(|entry| {
        let (_, what) = WINDOWS_FILES.iter().find(|(name, _)| entry.name.eq_ignore_ascii_case(name))?;
        let file = &map.files[map.files.binary_search_by_key(&entry.child, |file| file.number).ok()?];
        let content = file.streams.iter().find(|stream| stream.name.is_empty())?;
        (file.kind == Kind::File).then_some(())?;
        match &content.content {
            Content::Extents(extents) => {
                let ranges = extents.iter().map(|extent| ByteRange { start: extent.disk, length: extent.length });
                Some((file.number, *what, ranges.collect()))
            }
            Content::Resident(_) => None,
        }
    });
    known.collect()
}

/// What lies behind the header of a swap file: root's alone, without holes, and with the header that `mkswap` writes.
fn swap_file(source: &dyn ReadAt, file: &File) -> Option<Vec<ByteRange>> {
    let private = file.kind == Kind::File && file.uid == 0 && file.mode & 0o077 == 0 && file.links == 1;
    let [stream] = file.streams.as_slice() else { return None };
    let Content::Extents(extents) = &stream.content else { return None };
    if !private || stream.size < SWAP_LEAST_BYTES || stream.size % 4096 != 0 {
        return None;
    }
    let mut end = 0;
    for extent in extents {
        let written = matches!(extent.kind, ExtentKind::Plain | ExtentKind::Unwritten);
        if !written || extent.logical != end {
            return None;
        }
        end += extent.length;
    }
    let first = extents.first().filter(|first| first.kind == ExtentKind::Plain && end >= stream.size)?;
    let page = swap_page(Volume { source, start: first.disk, length: first.length })?;
    let ranges = extents.iter().filter_map(|extent| {
        let skip = page.saturating_sub(extent.logical).min(extent.length);
        let rest = ByteRange { start: extent.disk + skip, length: extent.length - skip };
        (rest.length > 0).then_some(rest)
    });
    Some(ranges.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::table::Partition;
    use crate::fs::volume_map::{DirectoryEntry, Extent, Stream};

    const PAGE: u64 = 4096;
    const SIZE: u64 = 32 * PAGE;

    fn file(number: u64, mode: u16, from: u64, pages: u64) -> File {
        let extent = Extent { kind: ExtentKind::Plain, logical: 0, disk: from * PAGE, length: pages * PAGE };
        let content = Content::Extents(vec![extent]);
        File {
            mode,
            ..File::of_streams(number, vec![Stream { name: vec![], size: pages * PAGE, valid: pages * PAGE, content }])
        }
    }

    fn name(name: &[u8], child: u64) -> DirectoryEntry {
        DirectoryEntry { parent: 2, name: name.to_vec(), child }
    }

    fn found(file_system: &'static str, files: Vec<File>, entries: Vec<DirectoryEntry>, dirty: bool) -> Vec<Exclusion> {
        let partition = Partition { index: 1, start: 0, length: SIZE, kind: String::new(), name: String::new() };
        let journal = ByteRange { start: 30 * PAGE, length: 2 * PAGE };
        let idle_journal = if file_system == "ext4" { vec![journal] } else { vec![] };
        let map = VolumeMap { file_system, root: 2, files, entries, dirty, idle_journal, ..VolumeMap::default() };
        let mut disk = vec![0; SIZE as usize];
        let magic = 2 * PAGE as usize - 10;
        disk[magic..magic + 10].copy_from_slice(b"SWAPSPACE2");
        find(&disk, &[MappedVolume::of_partition(partition, Outcome::Mapped(map))])
    }

    /// What, path, first page and pages.
    type Shown<'a> = (&'a str, &'a [u8], Vec<(u64, u64)>);

    fn pages(exclusions: &[Exclusion]) -> Vec<Shown<'_>> {
        let ranges = |one: &Exclusion| one.ranges.iter().map(|r| (r.start / PAGE, r.length / PAGE)).collect();
        exclusions.iter().map(|one| (one.what, one.path.as_slice(), ranges(one))).collect()
    }

    #[test]
    fn a_swap_file_keeps_its_header_and_what_another_file_claims() {
        let swap = || file(12, 0o600, 1, 20);
        let entries = || vec![name(b"other", 13), name(b"swap", 12)];
        let journal = ("journal", b"".as_slice(), vec![(30, 2)]);
        let alone = found("ext4", vec![swap()], entries(), false);
        assert_eq!(pages(&alone), [("swap file", b"/swap".as_slice(), vec![(2, 19)]), journal.clone()]);
        let shared = found("ext4", vec![swap(), file(13, 0o644, 8, 2), file(14, 0, 31, 1)], entries(), false);
        let (rest, journal_rest) = (vec![(2, 6), (10, 11)], vec![(30, 1)]);
        assert_eq!(pages(&shared), [("swap file", b"/swap".as_slice(), rest), ("journal", b"", journal_rest)]);
        for other in [file(12, 0o644, 1, 20), file(12, 0o600, 2, 20), file(12, 0o600, 1, 9)] {
            assert_eq!(pages(&found("ext4", vec![other], entries(), false)), std::slice::from_ref(&journal));
        }
        assert_eq!(found("ext4", vec![swap()], entries(), true), []);
    }

    /// Pieces that follow each other in the journal need not do so on the disk.
    #[test]
    fn a_journal_out_of_order_keeps_what_a_file_claims() {
        let idle_journal = [31, 30].map(|page| ByteRange { start: page * PAGE, length: PAGE }).to_vec();
        let map = VolumeMap { idle_journal, files: vec![file(14, 0, 30, 1)], ..VolumeMap::default() };
        let found = of_map(&vec![0; SIZE as usize], 1, &map);
        assert_eq!(pages(&found), [("journal", b"".as_slice(), vec![(31, 1)])]);
    }

    #[test]
    fn windows_files_are_those_of_the_root_folder() {
        let files = || vec![file(40, 0o777, 4, 4), file(41, 0o777, 10, 2), file(42, 0o777, 20, 2)];
        let mut entries = vec![name(b"PageFile.sys", 40), name(b"hiberfil.sys", 41)];
        entries.push(DirectoryEntry { parent: 41, name: b"pagefile.sys".to_vec(), child: 42 });
        let expected = [
            ("page file", b"/PageFile.sys".as_slice(), vec![(4, 4)]),
            ("hibernation file", b"/hiberfil.sys", vec![(10, 2)]),
        ];
        assert_eq!(pages(&found("ntfs", files(), entries.clone(), false)), expected);
        assert_eq!(found("xfs", files(), entries, false), []);
    }
}
