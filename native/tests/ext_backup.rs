//! Ext volumes whose superblock or group descriptors are damaged: their backups stand in, and nothing counts as free then.

mod skips;

use std::fs;
use std::path::Path;
use std::process::Command;

use imager_native::base::ranges::ByteRange;
use imager_native::disk::volume::Volume;
use imager_native::fs::volume_map::VolumeMap;
use imager_native::fs::{Outcome, map_volume};
use imager_native::map::scan::Scan;

const KIB: usize = 1024;
/// Features, block size and MiB: more than three groups of each.
const IMAGES: [(&str, usize, u64); 3] =
    [("metadata_csum", 1024, 40), ("^metadata_csum,uninit_bg", 1024, 40), ("metadata_csum,64bit", 2048, 80)];

/// A good image with files in several groups, as `mkfs.ext4 -d` fills it.
fn image(name: &str, features: &str, block: usize, mib: u64) -> Option<Vec<u8>> {
    let folder = std::env::temp_dir().join(format!("imager-ext-backup-{name}-{}", std::process::id()));
    let files = folder.join("files");
    for number in 0..40 {
        fs::create_dir_all(files.join(format!("folder-{number}"))).unwrap();
        fs::write(files.join(format!("folder-{number}/file")), vec![number as u8 + 1; 70_000 + number]).unwrap();
    }
    let path = folder.join("image");
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-O", features, "-b", &block.to_string(), "-d"])
        .args([&files, &path])
        .arg(format!("{mib}M"))
        .status();
    let bytes = made.is_ok_and(|status| status.success()).then(|| fs::read(Path::new(&path)).unwrap());
    let _ = fs::remove_dir_all(&folder);
    bytes
}

fn mapped(bytes: &Vec<u8>) -> VolumeMap {
    match map_volume(Volume::whole(bytes)) {
        Outcome::Mapped(map) => map,
        Outcome::Raw { reason, .. } => panic!("raw: {reason}"),
    }
}

#[test]
fn backups_stand_in_for_what_is_damaged() {
    for (features, block, mib) in IMAGES {
        let Some(good) = image("damaged", features, block, mib) else {
            skips::skipped(&format!("mkfs.ext4 -d makes no image with {features}"));
            continue;
        };
        let truth = mapped(&good);
        assert!(!truth.dirty && truth.doubts.is_empty() && truth.files.len() > 80);
        let superblock = |range: std::ops::Range<usize>| {
            let mut bytes = good.clone();
            bytes[1024 + range.start..1024 + range.end].fill(0xee);
            bytes
        };
        let descriptors = (KIB / block + 1) * block;
        let mut table = good.clone();
        table[descriptors..descriptors + 200].fill(0xee);
        let mut start = good.clone();
        start[..descriptors + block].fill(0);
        let cases = [
            ("blocks count", superblock(4..8)),
            ("all of it", superblock(0..1024)),
            ("table", table),
            ("start", start),
        ];
        for (what, bytes) in cases {
            let map = mapped(&bytes);
            assert!(map.dirty && !map.doubts.is_empty(), "{features}: {what}");
            assert_eq!((&map.files, &map.entries), (&truth.files, &truth.entries), "{features}: {what}");
            let scan = Scan::new(&bytes, false).unwrap();
            assert_eq!(scan.allocated(), [ByteRange { start: 0, length: bytes.len() as u64 }], "{features}: {what}");
        }
    }
}

#[test]
fn a_backup_that_is_left_over_gives_way_to_what_has_a_name() {
    let Some(mut bytes) = image("left", "metadata_csum", 1024, 40) else {
        return skips::skipped("mkfs.ext4 -d makes no image");
    };
    bytes[..64 * KIB].fill(0);
    bytes[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
    assert!(matches!(map_volume(Volume::whole(&bytes)), Outcome::Raw { found: "luks", .. }));
}
