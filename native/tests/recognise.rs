//! What `blkid` calls a volume that no parser takes, and what we call it.

mod skips;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use imager_native::disk::volume::Volume;
use imager_native::fs::recognise::recognise;

/// Command, MiB, our name and blkid's.
const MAKERS: [(&str, u64, &str, &str); 8] = [
    ("mkswap", 4, "swap", "swap"),
    ("mkswap -p 8192", 4, "swap", "swap"),
    ("mkswap -p 65536", 4, "swap", "swap"),
    ("mkfs.btrfs -q", 128, "btrfs", "btrfs"),
    ("mkfs.xfs -q", 320, "xfs", "xfs"),
    (
        "cryptsetup luksFormat --type luks1 -q --pbkdf-force-iterations 1000 --key-file /proc/version",
        32,
        "luks",
        "crypto_LUKS",
    ),
    ("mkfs.f2fs -q", 64, "f2fs", "f2fs"),
    ("mkfs.jfs -q", 32, "jfs", "jfs"),
];

#[test]
fn names_agree_with_blkid() {
    let folder = std::env::temp_dir().join(format!("imager-recognise-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for (maker, mib, ours, theirs) in MAKERS {
        let image = folder.join("image");
        fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        if let Err(why) = make(maker, &image) {
            skips::skipped(&format!("{maker}: {why}"));
            continue;
        }
        let output = Command::new("blkid").args(["-p", "-o", "export"]).arg(&image).output();
        let Ok(output) = output else {
            skips::skipped("blkid is not installed");
            break;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text.lines().find_map(|line| line.strip_prefix("TYPE=")), Some(theirs), "{maker}: {text}");
        let bytes = fs::read(&image).unwrap();
        assert_eq!(recognise(Volume::whole(&bytes)).map(|found| found.name), Some(ours), "{maker}");
    }
    let _ = fs::remove_dir_all(&folder);
}

fn make(maker: &str, image: &Path) -> Result<(), String> {
    let mut words = maker.split(' ');
    let tool = words.next().unwrap();
    let sbin = PathBuf::from("/usr/sbin").join(tool);
    let mut command = if sbin.exists() { Command::new(sbin) } else { Command::new(tool) };
    let output = command.args(words).arg(image).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_string()) }
}
