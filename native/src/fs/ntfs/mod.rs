//! NTFS into a file map. The walk goes over the records of the $MFT and not over the folders: each record says itself
//! what it is called and where it hangs, and an index that is torn or spread over several records loses nothing.
//!
//! The way of the data: `boot` -> `mft` (`record`, `attributes`, `runs`) -> `survey` (joins extension records, builds
//! `files` with `streams` and `special`) -> `tree` and `bitmap`. A bad boot sector or $MFT fails the map. A bad record
//! is a doubt and no file; its clusters are kept, as is everything that `$Bitmap` or any run calls used.

mod attributes;
mod bitmap;
mod boot;
pub mod decompress;
mod doubts;
mod files;
mod mft;
mod record;
mod runs;
#[cfg(test)]
pub(crate) mod sample;
mod special;
mod streams;
mod survey;
mod time;
mod tree;

use boot::{BOOT_BYTES, Boot};
use doubts::RecordDoubts;
use survey::{ROOT_RECORD, Survey};

use crate::base::error::{Error, Result};
use crate::base::ranges::ByteRange;
use crate::disk::volume::Volume;
use crate::fs::file_system::FileSystem;
use crate::fs::volume_map::{File, Kind, Timestamp, VolumeMap};

const VOLUME_IS_DIRTY: u16 = 1;

/// NTFS.
pub struct NtfsFileSystem;

impl FileSystem for NtfsFileSystem {
    fn name(&self) -> &'static str {
        "ntfs"
    }

    fn names(&self) -> &'static [&'static str] {
        &["ntfs"]
    }

    fn detect(&self, volume: Volume) -> Result<bool> {
        detect(volume)
    }

    fn map(&self, volume: Volume) -> Result<VolumeMap> {
        map(volume)
    }

    fn has_windows_files(&self, _map: &VolumeMap) -> bool {
        true
    }

    fn has_trustworthy_times(&self) -> bool {
        true
    }

    fn frozen_as(&self) -> &'static [&'static str] {
        &[]
    }
}

pub fn detect(volume: Volume) -> Result<bool> {
    if volume.length < BOOT_BYTES as u64 {
        return Ok(false);
    }
    let mut sector = [0; BOOT_BYTES];
    volume.read(0, &mut sector)?;
    Ok(boot::looks_like(&sector))
}

pub fn map(volume: Volume) -> Result<VolumeMap> {
    let mut sector = [0; BOOT_BYTES];
    volume.read(0, &mut sector)?;
    let boot = boot::decode(&sector, volume.length)?;
    let mut doubts = RecordDoubts::default();
    let mft = mft::Mft::open(volume, &boot, &mut doubts)?;
    let Survey { mut files, names, about, bitmap, occupied, .. } = Survey::run(volume, &boot, &mft, &mut doubts)?;

    let allocated = allocated(volume, &boot, bitmap, occupied, &mut doubts);
    let found = files.binary_search_by_key(&ROOT_RECORD, |file| file.number);
    if found.is_err() || found.is_ok_and(|at| files[at].kind != Kind::Directory) {
        doubts.volume("The root folder's record is bad; a bare one stands for it");
        files.retain(|file| file.number != ROOT_RECORD);
        let index = files.partition_point(|file| file.number < ROOT_RECORD);
        files.insert(index, bare_root());
    }
    if about.flags.is_none() {
        doubts.volume("$Volume could not be read; the volume is taken as dirty");
    }
    let tree = tree::build(files, names, &mut doubts);
    Ok(VolumeMap {
        file_system: "ntfs",
        label: String::from_utf16_lossy(&about.label),
        // As blkid prints it.
        uuid: format!("{:016X}", boot.volume_serial_number),
        cluster_bytes: boot.cluster_bytes as u32,
        dirty: about.flags.is_none_or(|flags| flags & VOLUME_IS_DIRTY != 0),
        root: ROOT_RECORD,
        allocated,
        files: tree.files,
        entries: tree.entries,
        subvolumes: Vec::new(),
        tables: Vec::new(),
        idle_journal: Vec::new(),
        doubts: doubts.into_sentences(),
    })
}

fn allocated(
    volume: Volume,
    boot: &Boot,
    bitmap: Option<streams::Whole>,
    occupied: Vec<(u64, u64)>,
    doubts: &mut RecordDoubts,
) -> Vec<ByteRange> {
    let bitmap = bitmap.ok_or_else(|| Error::corrupt("$Bitmap", 0, "its record is bad"));
    match bitmap.and_then(|bitmap| bitmap::read(volume, boot, &bitmap)) {
        Ok(marked) => {
            let (ranges, unmarked) = bitmap::allocated(volume, boot, marked, occupied);
            if unmarked > 0 {
                doubts.volume(format!("{unmarked} bytes belong to files but are free in $Bitmap; they are kept"));
            }
            ranges
        }
        Err(error) => {
            doubts.volume(format!("The whole volume is taken as allocated: {error}"));
            vec![ByteRange { start: volume.absolute(0), length: volume.length }]
        }
    }
}

/// Generation 0: its children's references fit it whatever they are.
fn bare_root() -> File {
    File {
        number: ROOT_RECORD,
        generation: 0,
        kind: Kind::Directory,
        mode: 0o777,
        uid: 0,
        gid: 0,
        links: 1,
        device: 0,
        modified: Timestamp::default(),
        changed: Timestamp::default(),
        created: Timestamp::default(),
        xattrs: Vec::new(),
        streams: Vec::new(),
        opaque: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::sample::{self, CLUSTER, MFT_LCN, RECORD};
    use super::*;
    use crate::fs::volume_map::Content;

    fn mapped(disk: &Vec<u8>) -> VolumeMap {
        map(Volume::whole(disk)).unwrap()
    }

    fn numbers(map: &VolumeMap) -> Vec<u64> {
        map.files.iter().map(|file| file.number).collect()
    }

    fn names(map: &VolumeMap) -> Vec<(u64, String)> {
        map.entries.iter().map(|entry| (entry.child, String::from_utf8_lossy(&entry.name).into_owned())).collect()
    }

    /// Edits an opened record and seals it again.
    fn edit(disk: &mut [u8], number: usize, at: usize, bytes: &[u8]) {
        let start = MFT_LCN * CLUSTER + number * RECORD + at;
        disk[start..start + bytes.len()].copy_from_slice(bytes);
    }

    #[test]
    fn a_good_volume_is_mapped_whole() {
        let disk = sample::volume();
        let map = mapped(&disk);
        assert_eq!((map.label.as_str(), map.uuid.as_str(), map.dirty), ("Sample", "0123456789ABCDEF", true));
        assert_eq!(numbers(&map), [5, 30, 31, 32, 33]);
        let expected = [(31, "data"), (32, "d"), (30, "hello"), (33, "inner")].map(|(n, name)| (n, name.to_string()));
        let mut found = names(&map);
        found.sort_by_key(|(number, _)| expected.iter().position(|(n, _)| n == number));
        assert_eq!(found, expected);
        assert_eq!(map.doubts, Vec::<String>::new());
        let Content::Extents(extents) = &map.files[2].streams[0].content else { panic!("resident") };
        assert_eq!((extents[0].logical, extents[0].disk, extents[0].length), (0, 120 * 1024, 4096));
        let at = |start: u64, clusters: u64| ByteRange { start: start * 1024, length: clusters * 1024 };
        let tail = ByteRange { start: 256 * 1024, length: 512 };
        assert_eq!(map.allocated, [at(0, 52), at(100, 1), at(120, 4), at(200, 1), tail]);
    }

    #[test]
    fn addresses_are_absolute() {
        let disk = [vec![0xEE; 3 * 512], sample::volume(), vec![0xEE; 100]].concat();
        let length = sample::volume().len() as u64;
        let map = map(Volume { source: &disk, start: 3 * 512, length }).unwrap();
        let Content::Extents(extents) = &map.files[2].streams[0].content else { panic!("resident") };
        assert_eq!(extents[0].disk, 3 * 512 + 120 * 1024);
        assert_eq!(map.allocated[0].start, 3 * 512);
        assert_eq!(map.allocated.last().unwrap().end(), 3 * 512 + length);
    }

    #[test]
    fn bad_records_are_left_out_alone() {
        let cases: [(usize, usize, &[u8], &str); 4] = [
            (31, 510, &[9, 9], "torn"),
            (31, 0, b"BAAD", "marked as torn"),
            (31, 0, b"\xde\xad\xbe\xef", "no FILE signature"),
            (31, 0x18, &[0xff, 0xff], "more bytes in use"),
        ];
        for (number, at, bytes, reason) in cases {
            let mut disk = sample::volume();
            edit(&mut disk, number, at, bytes);
            let map = mapped(&disk);
            assert_eq!(numbers(&map), [5, 30, 32, 33], "{reason}");
            assert!(map.doubts[0].starts_with("MFT record 31: ") && map.doubts[0].contains(reason), "{:?}", map.doubts);
            assert_eq!(map.allocated[2].start, 120 * 1024, "its clusters are kept");
        }
    }

    #[test]
    fn runs_outside_the_volume_leave_the_file_out() {
        let mut disk = sample::volume();
        let runs = sample::non_resident(0x80, "", (0, 4), 4000, &[0x21, 4, 0xFD, 0]);
        sample::put(&mut disk, 31, &[sample::standard_information(32), sample::file_name(5, 1, 3, "data"), runs]);
        let map = mapped(&disk);
        assert_eq!(numbers(&map), [5, 30, 32, 33]);
        assert!(map.doubts[0].contains("outside the volume"), "{:?}", map.doubts);
    }

    #[test]
    fn missing_folders_leave_their_files() {
        let mut disk = sample::volume();
        edit(&mut disk, 32, 510, &[9, 9]);
        let map = mapped(&disk);
        assert_eq!(numbers(&map), [5, 30, 31, 33]);
        assert!(map.doubts.iter().any(|doubt| doubt == "MFT record 33: its folder is missing"), "{:?}", map.doubts);
        let mut disk = sample::volume();
        edit(&mut disk, 5, 510, &[9, 9]);
        let map = mapped(&disk);
        assert_eq!(numbers(&map), [5, 30, 31, 32, 33]);
        assert_eq!(map.entries.len(), 4);
    }

    #[test]
    fn a_root_that_is_no_folder_is_replaced() {
        let mut disk = sample::volume();
        edit(&mut disk, 5, 0x16, &[1, 0]);
        let map = mapped(&disk);
        assert_eq!((numbers(&map), map.entries.len()), (vec![5, 30, 31, 32, 33], 4));
        assert_eq!(map.files[0].kind, Kind::Directory);
        assert!(map.doubts[0].contains("a bare one stands for it"), "{:?}", map.doubts);
    }

    #[test]
    fn the_bitmap_is_never_trusted_to_be_complete() {
        let mut disk = sample::volume();
        disk[100 * CLUSTER..100 * CLUSTER + 32].fill(0);
        let map = mapped(&disk);
        assert!(map.allocated.iter().any(|range| range.start <= 120 * 1024 && range.end() >= 124 * 1024));
        assert!(map.allocated.iter().any(|range| range.start == 0 && range.end() == 52 * 1024));
        assert!(map.doubts[0].contains("free in $Bitmap"));
        let mut disk = sample::volume();
        edit(&mut disk, 6, 510, &[9, 9]);
        let map = mapped(&disk);
        assert_eq!(map.allocated, [ByteRange { start: 0, length: disk.len() as u64 }]);
        assert!(map.doubts[0].starts_with("The whole volume is taken as allocated"), "{:?}", map.doubts);
    }

    #[test]
    fn the_mirror_stands_for_the_first_record() {
        let mut disk = sample::volume();
        disk.copy_within(MFT_LCN * CLUSTER..MFT_LCN * CLUSTER + RECORD, 200 * CLUSTER);
        edit(&mut disk, 0, 510, &[9, 9]);
        let map = mapped(&disk);
        assert_eq!(numbers(&map), [5, 30, 31, 32, 33]);
        assert!(map.doubts[0].contains("mirror"));
        disk[200 * CLUSTER] = 0;
        let error = super::map(Volume::whole(&disk)).unwrap_err();
        assert_eq!(error.code(), "CORRUPT");
    }

    /// Record 31 with its $DATA in two segments, the second in record 40; `list` is its attribute list.
    fn listed(list: &[Vec<u8>]) -> Vec<u8> {
        let mut disk = sample::volume();
        let first = sample::non_resident(0x80, "", (0, 2), 4000, &[0x11, 2, 120]);
        let second = sample::non_resident(0x80, "", (2, 2), 0, &[0x11, 2, 122]);
        let list = sample::resident(0x20, "", &list.concat());
        let own = [sample::standard_information(32), list, sample::file_name(5, 1, 3, "data"), first];
        sample::put(&mut disk, 31, &own);
        sample::put(&mut disk, 40, &[second]);
        sample::extend(&mut disk, 40, 31);
        disk
    }

    fn good_list() -> Vec<Vec<u8>> {
        let parts = [(0x10, 0, 31, 0), (0x30, 0, 31, 2), (0x80, 0, 31, 3), (0x80, 2, 40, 0)];
        parts.map(|(kind, vcn, record, instance)| sample::list_entry(kind, vcn, record, instance)).to_vec()
    }

    #[test]
    fn segments_are_joined_as_the_list_says() {
        let map = mapped(&listed(&good_list()));
        assert_eq!(map.doubts, Vec::<String>::new());
        let Content::Extents(extents) = &map.files[2].streams[0].content else { panic!("resident") };
        assert_eq!((extents.len(), extents[0].length), (1, 4096));
    }

    #[test]
    fn hostile_lists_leave_the_file_out() {
        let good = good_list();
        let without_second = good[..3].to_vec();
        let twice = [&good[..], &good[3..]].concat();
        let itself = [&good[..3], &[sample::list_entry(0x80, 2, 31, 3)]].concat();
        let foreign = [&good[..3], &[sample::list_entry(0x80, 2, 30, 2)]].concat();
        let absent = [&good[..3], &[sample::list_entry(0x80, 2, 1 << 40, 0)]].concat();
        let empty = Vec::new();
        let long = vec![good[0].clone(); 20];
        for list in [without_second, twice, itself, foreign, absent, empty, long] {
            let map = mapped(&listed(&list));
            assert_eq!(numbers(&map), [5, 30, 32, 33]);
            assert_eq!(map.doubts.len(), 1, "{:?}", map.doubts);
        }
        // The extension belongs to another file by now.
        let mut disk = listed(&good);
        edit(&mut disk, 40, 0x26, &[2]);
        assert_eq!(numbers(&mapped(&disk)), [5, 30, 32, 33]);
    }

    #[test]
    fn the_mft_follows_its_own_list() {
        // Records 0 to 31 by the first segment, 32 to 47 by the second, whose record is 20.
        let fragmented = |holder: u64| {
            let mut disk = sample::volume();
            let first = sample::non_resident(0x80, "", (0, 32), 48 * 1024, &[0x11, 32, 4]);
            let list = [sample::list_entry(0x80, 0, 0, 2), sample::list_entry(0x80, 32, holder, 0)].concat();
            sample::put(&mut disk, 0, &[sample::standard_information(6), sample::resident(0x20, "", &list), first]);
            let second = sample::non_resident(0x80, "", (32, 16), 0, &[0x11, 16, 60]);
            sample::put(&mut disk, holder as usize, &[second]);
            sample::extend(&mut disk, holder as usize, 0);
            disk.copy_within(36 * CLUSTER..52 * CLUSTER, 60 * CLUSTER);
            disk[36 * CLUSTER..52 * CLUSTER].fill(0);
            disk
        };
        assert_eq!(numbers(&mapped(&fragmented(20))), [5, 30, 31, 32, 33]);
        // A holder that only its own segment could find.
        assert!(super::map(Volume::whole(&fragmented(40))).is_err());
    }

    #[test]
    fn short_and_foreign_volumes_are_not_detected() {
        assert!(!detect(Volume::whole(&vec![0u8; 511])).unwrap());
        assert!(!detect(Volume::whole(&vec![0u8; 4096])).unwrap());
        assert!(detect(Volume::whole(&sample::volume())).unwrap());
        let mut disk = sample::volume();
        disk.truncate(CLUSTER * 255);
        assert!(super::map(Volume::whole(&disk)).is_err());
    }
}
