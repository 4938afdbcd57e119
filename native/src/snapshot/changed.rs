//! What must be read of a disk whose files were read before: a file whose record is unchanged keeps its blocks without
//! being read. That holds for what was read since the earlier records were made, if the tables then and now were whole.

#![forbid(unsafe_code)]

use crate::base::ranges::{ByteRange, coalesce, without};
use crate::formats::file_record;
use crate::fs::file_system::FileSystem;
use crate::fs::volume_map::{Content, File};
use crate::fs::{self, Outcome};
use crate::map::scan::Scan;
use crate::snapshot::parent::Digests;

/// A file that was changed this shortly before could change again without a later time: FAT counts in 2 s, old ext4
/// inodes in 1 s, the kernel's clock in some ms.
const TOO_FRESH_SECONDS: i64 = 2;

/// What the record of each file said, as a digest of the record in a manifest (docs/formats/page.md).
pub struct Records(pub Digests);

impl Records {
    /// `taken`: when the tables were read, in seconds since 1970 by the clock of whoever writes to the disk. Files of
    /// dirty volumes are left out, because a journal may know better.
    pub fn of(scan: &Scan, taken: i64) -> Self {
        let settled = |file: &&File| file.changed.seconds < taken - TOO_FRESH_SECONDS;
        let files = clean_files(scan).filter(|(_, file)| settled(file));
        Self(files.map(|(start, file)| ((start, file.number), digest(file))).collect())
    }

    fn know(&self, start: u64, file: &File) -> bool {
        self.0.get(&(start, file.number)).is_some_and(|known| *known == digest(file))
    }
}

/// What must be read again: two disjoint sets.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reread {
    /// What belongs to no file that could be compared: tables, directories, journals, raw and dirty volumes.
    pub tables: Vec<ByteRange>,
    /// Of files that are new or changed.
    pub files: Vec<ByteRange>,
}

/// What of `scan` may differ from what was read after `before`.
pub fn reread(before: &Records, scan: &Scan) -> Reread {
    let (mut kept, mut changed) = (Vec::new(), Vec::new());
    for (start, file) in clean_files(scan) {
        let into = if before.know(start, file) { &mut kept } else { &mut changed };
        into.extend(extents(file));
    }
    let allocated = scan.allocated();
    let (kept, changed) = (coalesce(kept), coalesce(changed));
    let tables = without(&without(&allocated, &kept), &changed);
    let files = without(&allocated, &without(&allocated, &changed));
    Reread { tables, files }
}

/// The files of clean volumes whose times of change can be trusted, each with where its volume begins.
fn clean_files(scan: &Scan) -> impl Iterator<Item = (u64, &File)> {
    let clean = scan.volumes.iter().filter_map(|volume| match &volume.outcome {
        Outcome::Mapped(map) if !map.dirty && fs::of(map).is_some_and(FileSystem::has_trustworthy_times) => {
            Some((volume.partition.start, map))
        }
        Outcome::Mapped(_) | Outcome::Raw { .. } => None,
    });
    clean.flat_map(|(start, map)| map.files.iter().map(move |file| (start, file)))
}

fn digest(file: &File) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for record in file_record::encode_file(file) {
        hasher.update(&record);
    }
    let mut digest = [0; 16];
    hasher.finalize_xof().fill(&mut digest);
    digest
}

fn extents(file: &File) -> impl Iterator<Item = ByteRange> + '_ {
    let extents = file.streams.iter().filter_map(|stream| match &stream.content {
        Content::Extents(extents) => Some(extents),
        Content::Resident(_) => None,
    });
    extents.flatten().map(|extent| ByteRange { start: extent.disk, length: extent.length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::table::{Partition, Table, TableKind};
    use crate::fs::volume_map::{Extent, ExtentKind, Stream, Timestamp, VolumeMap};
    use crate::map::cut::MappedVolume;

    const CLUSTER: u64 = 4096;

    fn range(from: u64, to: u64) -> ByteRange {
        ByteRange { start: from * CLUSTER, length: (to - from) * CLUSTER }
    }

    fn file(number: u64, changed: i64, clusters: &[(u64, u64)]) -> File {
        let mut logical = 0;
        let extent = |&(from, to): &(u64, u64)| {
            let length = (to - from) * CLUSTER;
            logical += length;
            Extent { kind: ExtentKind::Plain, logical: logical - length, disk: from * CLUSTER, length }
        };
        let extents: Vec<Extent> = clusters.iter().map(extent).collect();
        File {
            changed: Timestamp { seconds: changed, nanoseconds: 7 },
            ..File::of_streams(
                number,
                vec![Stream { name: vec![], size: logical, valid: logical, content: Content::Extents(extents) }],
            )
        }
    }

    fn scan(files: Vec<File>, allocated: &[(u64, u64)], dirty: bool) -> Scan {
        let partition =
            Partition { index: 1, start: 0, length: 100 * CLUSTER, kind: String::new(), name: String::new() };
        let allocated = allocated.iter().map(|&(from, to)| range(from, to)).collect();
        let map = VolumeMap { file_system: "ext4", allocated, files, dirty, ..VolumeMap::default() };
        let volumes = vec![MappedVolume::of_partition(partition, Outcome::Mapped(map))];
        let table =
            Table { kind: TableKind::None, id: String::new(), sector_bytes: 512, partitions: vec![], doubts: vec![] };
        Scan { size: 100 * CLUSTER, table, volumes, exclusions: vec![] }
    }

    #[test]
    fn unchanged_files_keep_their_blocks_and_all_else_is_read_again() {
        let before = scan(
            vec![
                file(11, 50, &[(10, 20)]),
                file(12, 50, &[(20, 30)]),
                file(13, 50, &[(30, 35)]),
                file(14, 50, &[(36, 38)]),
            ],
            &[(0, 40)],
            false,
        );
        // 12 was written in place, 13 is gone and 15 took its place, 14 grew; 16 is new.
        let now = scan(
            vec![
                file(11, 50, &[(10, 20)]),
                file(12, 70, &[(20, 30)]),
                file(14, 71, &[(36, 38), (50, 51)]),
                file(15, 72, &[(30, 33)]),
                file(16, 72, &[(60, 62)]),
            ],
            &[(0, 35), (36, 38), (50, 51), (60, 63)],
            false,
        );
        let again = reread(&Records::of(&before, 60), &now);
        assert_eq!(again.tables, [range(0, 10), range(33, 35), range(62, 63)]);
        assert_eq!(again.files, [range(20, 33), range(36, 38), range(50, 51), range(60, 62)]);
    }

    #[test]
    fn what_was_changed_just_before_is_read_again() {
        let same = || scan(vec![file(11, 50, &[(10, 20)])], &[(0, 20)], false);
        for (taken, again) in [(52, vec![range(10, 20)]), (53, vec![])] {
            let reread = reread(&Records::of(&same(), taken), &same());
            assert_eq!((reread.tables, reread.files), (vec![range(0, 10)], again), "taken at {taken}");
        }
    }

    #[test]
    fn of_a_dirty_volume_everything_is_read_again() {
        let same = |dirty| scan(vec![file(11, 50, &[(10, 20)])], &[(0, 20)], dirty);
        for (before, now) in [(true, true), (false, true)] {
            let again = reread(&Records::of(&same(before), 60), &same(now));
            assert_eq!((again.tables, again.files), (vec![range(0, 100)], vec![]));
        }
        let again = reread(&Records::of(&same(true), 60), &same(false));
        assert_eq!((again.tables, again.files), (vec![range(0, 10)], vec![range(10, 20)]));
    }

    /// A cluster that an unchanged file shares with a changed one.
    #[test]
    fn what_a_changed_file_shares_is_read_again() {
        let before = scan(vec![file(11, 50, &[(10, 20)]), file(12, 50, &[(15, 25)])], &[(0, 25)], false);
        let now = scan(vec![file(11, 50, &[(10, 20)]), file(12, 80, &[(15, 25)])], &[(0, 25)], false);
        assert_eq!(reread(&Records::of(&before, 60), &now).files, [range(15, 25)]);
    }
}
