//! An empty journal may be left out only where it is certain to be one. Whether the journal's inode or a swap file's leads
//! elsewhere: no byte of the tables is ever left out.

mod skips;

use std::fs;
use std::process::Command;

use imager_native::base::ranges::{holds, meets};
use imager_native::fs::Outcome;
use imager_native::map::cut;
use imager_native::map::scan::Scan;

fn image(options: &[&str], edits: &[&str]) -> Option<Vec<u8>> {
    let name = format!("imager-ext-journal-{}-{}", std::process::id(), options.join("").replace('^', "no-"));
    let path = std::env::temp_dir().join(name);
    fs::File::create(&path).unwrap().set_len(24 << 20).unwrap();
    let made =
        Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-J", "size=4"]).args(options).arg(&path).output();
    if !made.is_ok_and(|output| output.status.success()) {
        skips::skipped("mke2fs makes no image");
        return None;
    }
    for edit in edits {
        assert!(Command::new("debugfs").args(["-w", "-R", edit]).arg(&path).output().unwrap().status.success());
    }
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    Some(bytes)
}

#[test]
fn a_journal_that_leads_elsewhere_is_kept() {
    for options in [["-O", "metadata_csum"], ["-O", "^metadata_csum"], ["-O", "^extents,^64bit"]] {
        let Some(good) = image(&options, &[]) else { return };
        let scan = Scan::new(&good, false).unwrap();
        let left: u64 = scan.exclusions.iter().flat_map(|one| &one.ranges).map(|range| range.length).sum();
        assert!((3 << 20..4 << 20).contains(&left), "{options:?}: {left} bytes are left out");
        // i_block[8] is where the second extent would begin; with a block map, a block of the journal.
        for edit in ["sif <8> block[8] 58", "sif <8> block[5] 58", "sif <8> block[0] 58"] {
            let Some(bad) = image(&options, &[edit]) else { return };
            let scan = Scan::new(&bad, false).unwrap();
            let Outcome::Mapped(map) = &scan.volumes[0].outcome else { continue };
            let held = scan.allocated();
            for table in &map.tables {
                assert!(holds(&held, *table), "{options:?}, {edit}: {table:?} is left out");
            }
            let left = scan.exclusions.iter().flat_map(|one| &one.ranges);
            assert_eq!(left.count(), 0, "{options:?}, {edit}: the journal's two places differ");
            assert!(cut::allocated(scan.size, &scan.volumes).iter().any(|range| meets(&held, *range)));
        }
    }
}
