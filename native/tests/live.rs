//! Images of file systems in use: a journal or a log that still holds changes, files without a name. Skipped
//! without root and loop devices.

mod lab;

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Command;

use imager_native::fs::volume_map::Kind;
use lab::{Image, Mount, Scratch, mapped};

fn sync(mount: &Mount) {
    lab::output(Command::new("sync").arg("-f").arg(&mount.0));
}

#[test]
fn a_frozen_ext4_is_clean_and_files_without_names_are_left_out() {
    let scratch = Scratch::new("ext-live");
    let Some(path) = scratch.image("ext-4k", 1) else { return };
    let image = Image::open(&path);
    let before = mapped(&image).files.iter().filter(|file| file.kind == Kind::File).count();
    let mount = Mount::new(&path, "loop");
    fs::write(mount.0.join("kept"), b"kept").unwrap();
    let open = fs::File::create(mount.0.join("gone")).unwrap();
    open.set_len(100).unwrap();
    fs::remove_file(mount.0.join("gone")).unwrap();
    // A freeze writes the journal's changes to their places.
    lab::output(Command::new("fsfreeze").arg("-f").arg(&mount.0));
    let frozen = mapped(&image);
    lab::output(Command::new("fsfreeze").arg("-u").arg(&mount.0));
    let files = frozen.files.iter().filter(|file| file.kind == Kind::File).count();
    assert_eq!((files, frozen.dirty), (before + 1, false), "a frozen file system is clean");
    assert_eq!(frozen.doubts, Vec::<String>::new());
    sync(&mount);
    assert!(mapped(&image).dirty, "thawed, it holds its journal again");
}

/// What was fsynced last is in the log tree only.
#[test]
fn a_log_of_btrfs_is_dirt() {
    let scratch = Scratch::new("btrfs-live");
    let Some(path) = scratch.image("btrfs-plain", 1) else { return };
    let mount = Mount::new(&path, "loop");
    let file = fs::File::create(mount.0.join("file")).unwrap();
    sync(&mount);
    file.write_all_at(&[1; 20_000], 0).unwrap();
    file.sync_all().unwrap();
    let image = Image::open(&path);
    assert!(mapped(&image).dirty);
    drop(file);
    drop(mount);
    assert!(!mapped(&image).dirty);
}

#[test]
fn a_log_of_xfs_is_dirt() {
    let scratch = Scratch::new("xfs-live");
    let Some(path) = scratch.image("xfs-default", 1) else { return };
    let image = Image::open(&path);
    let mount = Mount::new(&path, "loop");
    fs::write(mount.0.join("file"), b"new").unwrap();
    fs::File::open(mount.0.join("file")).unwrap().sync_all().unwrap();
    assert!(mapped(&image).dirty, "in use");
    drop(mount);
    assert!(!mapped(&image).dirty);
}
