//! XFS version 4, which newer kernels do not mount: filled by mkfs.xfs itself, and read back.

mod skips;

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use imager_native::disk::volume::Volume;
use imager_native::fs::volume_map::{Content, File, Kind};
use imager_native::fs::xfs;

const IMAGE_BYTES: u64 = 20 << 20;
const IMAGES: [&str; 2] = [
    "-m crc=0,finobt=0 -b size=1024 -i size=256 -l size=4m -d agcount=1",
    "-m crc=0 -b size=4096 -n ftype=0 -l size=4m -d agcount=1",
];

/// What mkfs.xfs was told to write is what the map says.
#[test]
fn version_4_holds_what_mkfs_wrote() {
    let bench = Bench::new("v4");
    for options in IMAGES {
        let Some(image) = bench.make(options) else { continue };
        let map = xfs::map(Volume::whole(&image)).unwrap();
        assert_eq!(map.doubts, Vec::<String>::new());
        assert!(!map.dirty, "{options}");
        let files: HashMap<u64, &File> = map.files.iter().map(|file| (file.number, file)).collect();
        let mut contents = HashMap::new();
        for entry in &map.entries {
            let file = files[&entry.child];
            if matches!(file.kind, Kind::File | Kind::Symlink) {
                contents.insert(String::from_utf8(entry.name.clone()).unwrap(), content(file, &image));
            }
        }
        assert_eq!(contents, written());
        let device = map.entries.iter().find(|entry| entry.name == b"device").unwrap();
        assert_eq!((files[&device.child].kind, files[&device.child].device), (Kind::BlockDevice, 8 << 8 | 17));
        let text = bench.xfs_db(&["agf 0", "p freeblks"]);
        let free: u64 = text.trim().rsplit(' ').next().unwrap().parse().unwrap();
        let kept: u64 = map.allocated.iter().map(|range| range.length).sum();
        assert_eq!(image.len() as u64 - kept, free * u64::from(map.cluster_bytes), "{options}");
    }
}

/// Names and contents for the prototype: small and large, short and long targets, a folder of some blocks.
fn written() -> HashMap<String, Vec<u8>> {
    let pattern = |length: usize| (0..length).map(|at| (at * 31 % 251) as u8).collect::<Vec<_>>();
    let mut files: HashMap<_, _> =
        (0..300).map(|number| (format!("a-longer-name-{number}"), pattern(number % 7 * 500))).collect();
    files.insert("large".into(), pattern(1_000_000));
    files.insert("short".into(), b"target".to_vec());
    files.insert("long".into(), b"long/".repeat(120));
    files
}

fn content(file: &File, image: &[u8]) -> Vec<u8> {
    let stream = &file.streams[0];
    let extents = match &stream.content {
        Content::Resident(bytes) => return bytes.clone(),
        Content::Extents(extents) => extents,
    };
    let mut bytes = vec![0; stream.size as usize];
    for extent in extents.iter().filter(|extent| extent.logical < stream.size) {
        let length = extent.length.min(stream.size - extent.logical) as usize;
        bytes[extent.logical as usize..][..length].copy_from_slice(&image[extent.disk as usize..][..length]);
    }
    bytes
}

struct Bench {
    directory: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("imager-xfs-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        Self { directory }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// `None`, and the test is skipped, where it cannot be made.
    fn make(&self, options: &str) -> Option<Vec<u8>> {
        fs::File::create(self.at("image")).unwrap().set_len(IMAGE_BYTES).unwrap();
        let mut mkfs = Command::new("mkfs.xfs");
        mkfs.args(["--unsupported", "-q", "-f"]).args(options.split(' ')).arg("-p").arg(self.prototype());
        if !succeeds(mkfs.arg(self.at("image"))) {
            skips::skipped(&format!("mkfs.xfs makes no image with {options}"));
            return None;
        }
        Some(fs::read(self.at("image")).unwrap())
    }

    /// The file that `mkfs.xfs -p` wants.
    fn prototype(&self) -> PathBuf {
        let mut text = String::from("boot 0 0\nd--755 0 0\n");
        for (name, bytes) in written() {
            let path = self.at(&name);
            match name.as_str() {
                "short" | "long" => writeln!(text, "{name} l--777 0 0 {}", String::from_utf8(bytes).unwrap()).unwrap(),
                _ => {
                    fs::write(&path, bytes).unwrap();
                    writeln!(text, "{name} ---644 1 2 {}", path.display()).unwrap();
                }
            }
        }
        text.push_str("device b--640 0 6 8 17\nempty d--700 3 4\n$\n$\n");
        let path = self.at("prototype");
        fs::write(&path, text).unwrap();
        path
    }

    fn xfs_db(&self, commands: &[&str]) -> String {
        let arguments = commands.iter().flat_map(|command| ["-c", command]);
        let output = Command::new("xfs_db").args(["-r", "-f"]).args(arguments).arg(self.at("image")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

fn succeeds(command: &mut Command) -> bool {
    match command.output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_string();
            println!("xfs: {command:?}: {text}");
            false
        }
        Err(_) => false,
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}
