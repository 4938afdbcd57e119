//! Images of a file system in use: a journal that still holds changes, files without a name, encrypted folders.
//! Needs root, loop devices, e2fsprogs and python3; says so and passes where one is missing.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use imager_native::fs::{Content, ExtentKind, Kind, VolumeMap, ext};
use imager_native::volume::Volume;

/// A folder with a v2 policy and a random key; exit code 3 when the kernel has no fscrypt.
const ENCRYPT: &str = r#"
import fcntl, os, struct, sys
folder = sys.argv[1] + "/secret"
os.mkdir(folder)
fd = os.open(folder, os.O_RDONLY)
key = os.urandom(64)
add = bytearray(struct.pack("=II32sII32x", 2, 0, bytes(32), 64, 0) + key)
try:
    fcntl.ioctl(fd, 0xC0506617, add)
    fcntl.ioctl(fd, 0x800C6613, struct.pack("=BBBBB3x16s", 2, 1, 4, 0, 0, bytes(add[8:24])))
except OSError as error:
    print(error, file=sys.stderr)
    sys.exit(3)
for number in range(50):
    with open(f"{folder}/name-{number}", "wb") as file:
        file.write(b"plain text" * 1000)
os.symlink("target", folder + "/link")
os.sync()
"#;

/// Mounted while the image is read; unmounted at the end.
struct Live {
    directory: PathBuf,
}

impl Live {
    /// `None`, with a printed reason, where it cannot be.
    fn new(name: &str, options: &str) -> Option<Self> {
        let live = Self { directory: std::env::temp_dir().join(format!("imager-{name}-{}", std::process::id())) };
        fs::create_dir_all(live.mount_point()).unwrap();
        fs::File::create(live.image()).unwrap().set_len(32 << 20).unwrap();
        let mkfs = Command::new("mkfs.ext4").args(["-q", "-F"]).args(options.split(' ')).arg(live.image()).output();
        let mount = || Command::new("mount").args(["-o", "loop"]).args([live.image(), live.mount_point()]).output();
        for (what, output) in [("mkfs.ext4", mkfs), ("mount", mount())] {
            if !output.as_ref().is_ok_and(|output| output.status.success()) {
                println!("ext: skipped, {what} {options} does not work here: {output:?}");
                return None;
            }
        }
        Some(live)
    }

    fn image(&self) -> PathBuf {
        self.directory.join("image")
    }

    fn mount_point(&self) -> PathBuf {
        self.directory.join("mount")
    }

    fn map(&self) -> VolumeMap {
        Command::new("sync").status().unwrap();
        ext::map(Volume::whole(&fs::read(self.image()).unwrap())).unwrap()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.mount_point()).output();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn a_mounted_volume_is_dirty_and_files_without_names_are_left_out() {
    let Some(live) = Live::new("ext-mounted", "-b 4096") else { return };
    fs::write(live.mount_point().join("kept"), b"kept").unwrap();
    let gone = live.mount_point().join("gone");
    let open = fs::File::create(&gone).unwrap();
    open.set_len(100).unwrap();
    fs::remove_file(&gone).unwrap();
    // A freeze writes the journal's changes to their places.
    let frozen = Command::new("fsfreeze").arg("-f").arg(live.mount_point()).status().is_ok_and(|s| s.success());
    let map = live.map();
    if frozen {
        Command::new("fsfreeze").arg("-u").arg(live.mount_point()).status().unwrap();
        let files = map.files.iter().filter(|file| file.kind == Kind::File).count();
        assert_eq!((files, map.dirty), (1, false), "a frozen file system is clean");
        assert_eq!(map.doubts, Vec::<String>::new());
    }
    assert!(live.map().dirty || !frozen, "thawed, it holds its journal again");
}

#[test]
fn encrypted_folders_keep_their_ciphertext() {
    let Some(live) = Live::new("ext-encrypted", "-b 4096 -O encrypt") else { return };
    let output = Command::new("python3").args(["-c", ENCRYPT]).arg(live.mount_point()).output();
    if !output.as_ref().is_ok_and(|output| output.status.success()) {
        println!("ext: skipped, fscrypt does not work here: {output:?}");
        return;
    }
    Command::new("umount").arg(live.mount_point()).status().unwrap();
    let map = live.map();
    let folder = map.entries.iter().find(|entry| entry.name == b"secret").unwrap().child;
    let below: Vec<_> = map.entries.iter().filter(|entry| entry.parent == folder).collect();
    assert_eq!(below.len(), 51);
    assert!(below.iter().all(|entry| !entry.name.starts_with(b"name-") && entry.name.len() >= 16));
    for file in map.files.iter().filter(|file| below.iter().any(|entry| entry.child == file.number)) {
        match &file.streams[0].content {
            Content::Extents(extents) => {
                assert!(!extents.is_empty() && extents.iter().all(|extent| extent.kind == ExtentKind::Encrypted));
            }
            Content::Resident(_) => assert_eq!(file.kind, Kind::Symlink),
        }
    }
    assert!(map.doubts.len() == 1 && map.doubts[0].contains("ciphertext"), "{:?}", map.doubts);
}
