//! One good exFAT volume built by hand, and one named edit a test.

use super::exfat::{detect, map};
use super::exfat_boot;
use super::exfat_directory::checksum;
use crate::base::error::Result;
use crate::disk::volume::Volume;
use crate::fs::volume_map::{Content, VolumeMap};

const SECTOR: usize = 512;
const FAT: usize = 24 * SECTOR;
const HEAP: usize = 32 * SECTOR;
const CLUSTERS: u32 = 100;
const END: u32 = u32::MAX;
/// Bitmap, upcase table and root lie in clusters 2, 3 and 4.
const ROOT: usize = HEAP + 2 * SECTOR;
const FILES: usize = ROOT + 3 * 32;

struct Card(Vec<u8>);

impl Card {
    /// "whole" without a chain in clusters 10 to 12, "parts" in 20 and 22.
    fn new() -> Self {
        let mut card = Self(vec![0; HEAP + CLUSTERS as usize * SECTOR]);
        card.0[..11].copy_from_slice(b"\xEB\x76\x90EXFAT   ");
        let sectors = (card.0.len() / SECTOR) as u32;
        for (at, value) in [(72, sectors), (80, 24), (84, 1), (88, 32), (92, CLUSTERS), (96, 4), (100, 0xABCD_1234)] {
            card.put32(at, value);
        }
        card.0[105] = 1;
        card.0[108] = 9;
        card.0[110] = 1;
        card.0[510..512].copy_from_slice(&[0x55, 0xAA]);
        card.seal_boot();
        card.0.copy_within(0..12 * SECTOR, 12 * SECTOR);
        for (cluster, next) in [(2, END), (3, END), (4, END), (20, 22), (22, END)] {
            card.put32(FAT + cluster * 4, next);
        }
        for cluster in [2, 3, 4, 10, 11, 12, 20, 22] {
            card.0[HEAP + (cluster - 2) / 8] |= 1 << ((cluster - 2) % 8);
        }
        card.0[ROOT] = 0x81;
        card.put32(ROOT + 20, 2);
        card.put32(ROOT + 24, 13);
        card.0[ROOT + 32] = 0x82;
        card.put32(ROOT + 32 + 20, 3);
        card.put32(ROOT + 32 + 24, 100);
        card.0[ROOT + 64..ROOT + 68].copy_from_slice(&[0x83, 1, b'L', 0]);
        card.file(0, "whole", 3, 10, 1500, 700);
        card.file(1, "parts", 1, 20, 1024, 1024);
        card
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn seal_boot(&mut self) {
        let sum = exfat_boot::checksum(&self.0[..11 * SECTOR]);
        self.0[11 * SECTOR..12 * SECTOR].chunks_mut(4).for_each(|word| word.copy_from_slice(&sum.to_le_bytes()));
    }

    fn file(&mut self, slot: usize, name: &str, flags: u8, first: u32, size: u32, valid: u32) {
        let at = FILES + slot * 96;
        self.0[at..at + 2].copy_from_slice(&[0x85, 2]);
        self.0[at + 32..at + 36].copy_from_slice(&[0xC0, flags, 0, name.len() as u8]);
        self.put32(at + 40, valid);
        self.put32(at + 52, first);
        self.put32(at + 56, size);
        self.0[at + 64] = 0xC1;
        for (index, unit) in name.encode_utf16().enumerate() {
            self.0[at + 66 + index * 2..][..2].copy_from_slice(&unit.to_le_bytes());
        }
        self.seal(slot);
    }

    fn seal(&mut self, slot: usize) {
        let at = FILES + slot * 96;
        let sum = checksum(self.0[at..at + 96].as_chunks::<32>().0);
        self.0[at + 2..at + 4].copy_from_slice(&sum.to_le_bytes());
    }

    fn try_map(&self) -> Result<VolumeMap> {
        assert!(detect(Volume::whole(&self.0)).unwrap());
        map(Volume::whole(&self.0))
    }

    fn map(&self) -> VolumeMap {
        self.try_map().unwrap()
    }

    /// The edit costs "whole" and nothing else.
    fn assert_left_out(&self, why: &str) {
        let map = self.map();
        assert_eq!(names(&map), ["parts"], "{why}");
        assert!(map.doubts.len() == 1 && map.doubts[0].contains(why), "{why}: {:?}", map.doubts);
    }
}

fn names(map: &VolumeMap) -> Vec<String> {
    map.entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect()
}

fn clusters(map: &VolumeMap, name: &str) -> Vec<(u64, u64)> {
    let child = map.entries.iter().find(|entry| entry.name == name.as_bytes()).unwrap().child;
    let file = map.files.iter().find(|file| file.number == child).unwrap();
    let Content::Extents(extents) = &file.streams[0].content else { panic!("{name} is resident") };
    extents.iter().map(|extent| ((extent.disk - HEAP as u64) / 512 + 2, extent.length / 512)).collect()
}

#[test]
fn a_good_volume_is_read() {
    let map = Card::new().map();
    assert_eq!((map.file_system, map.label.as_str(), map.uuid.as_str()), ("exfat", "L", "ABCD-1234"));
    assert_eq!((names(&map), map.doubts.len(), map.dirty), (vec!["parts".into(), "whole".into()], 0, false));
    assert_eq!((clusters(&map, "whole"), clusters(&map, "parts")), (vec![(10, 3)], vec![(20, 1), (22, 1)]));
    let whole = &map.files.iter().find(|file| file.number == FILES as u64 / 32).unwrap().streams[0];
    assert_eq!((whole.size, whole.valid), (1500, 700));
    let used: Vec<_> = map.allocated.iter().map(|range| (range.start, range.length)).collect();
    let at = |cluster: u64| HEAP as u64 + (cluster - 2) * 512;
    assert_eq!(used, [(0, at(5)), (at(10), 3 * 512), (at(20), 512), (at(22), 512)]);
}

#[test]
fn a_damaged_boot_region_has_a_backup() {
    for at in [72, 92, 108, 110, 400, 11 * SECTOR] {
        let mut card = Card::new();
        card.0[at] ^= 0x40;
        let map = card.map();
        assert!(names(&map).len() == 2 && map.doubts[0].contains("backup"), "byte {at}: {:?}", map.doubts);
        card.0[12 * SECTOR + 200] ^= 1;
        assert!(card.try_map().is_err(), "both are damaged");
    }
}

#[test]
fn a_broken_set_costs_its_file() {
    type Edit = fn(&mut Card);
    let sealed: [(&str, Edit); 6] = [
        ("stream", |card| card.0[FILES + 32] = 0xC1),
        ("name is not whole", |card| card.0[FILES + 35] = 16),
        ("name is not whole", |card| card.0[FILES + 35] = 0),
        ("no usable name", |card| card.0[FILES + 66] = b'/'),
        ("valid", |card| card.put32(FILES + 40, 1501)),
        ("do not exist", |card| card.put32(FILES + 52, 100)),
    ];
    for (why, edit) in sealed {
        let mut card = Card::new();
        edit(&mut card);
        card.seal(0);
        card.assert_left_out(why);
    }
    let mut card = Card::new();
    card.0[FILES + 70] ^= 1;
    card.assert_left_out("checksum");
    let mut card = Card::new();
    card.0[FILES + 1] = 7;
    card.assert_left_out("end too early");
    let mut card = Card::new();
    card.put32(FILES + 60, 1 << 30);
    card.seal(0);
    card.assert_left_out("do not exist");
}

#[test]
fn the_first_owner_keeps() {
    let mut card = Card::new();
    card.file(1, "parts", 3, 12, 1024, 1024);
    let map = card.map();
    assert_eq!((names(&map), clusters(&map, "whole")), (vec!["whole".into()], vec![(10, 3)]));
    // The volume's own clusters belong to nobody else.
    let mut card = Card::new();
    card.put32(FILES + 52, 3);
    card.seal(0);
    card.assert_left_out("another's");
}

#[test]
fn what_a_file_has_is_kept_whatever_the_bitmap_says() {
    let mut card = Card::new();
    card.0[HEAP + 1] = 0;
    let map = card.map();
    assert_eq!((map.allocated.len(), map.doubts.len()), (4, 1));
    assert!(map.doubts[0].contains("3 clusters"), "{:?}", map.doubts);
}

#[test]
fn no_bitmap_or_root_is_no_map() {
    let mut card = Card::new();
    card.0[ROOT] = 0x01;
    assert!(card.try_map().is_err());
    let mut card = Card::new();
    card.put32(ROOT + 24, 12);
    assert!(card.try_map().is_err());
    let mut card = Card::new();
    card.put32(FAT + 4 * 4, 0);
    assert!(card.try_map().is_err());
}
