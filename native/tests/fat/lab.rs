//! Real volumes: work for them, and what tools show of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Why these tests cannot run here, if they cannot.
pub fn missing(tools: &[&str]) -> Option<String> {
    // SAFETY: geteuid has no preconditions.
    if tools.contains(&"losetup") && unsafe { libc::geteuid() } != 0 {
        return Some("not root".into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |tool: &&&str| std::env::split_paths(&path).any(|folder| folder.join(tool).exists());
    tools.iter().find(|tool| !found(tool)).map(|tool| format!("{tool} is not installed"))
}

/// xorshift64*: the same work for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }
}

/// A folder of its own for one test, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("imager-fat-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        fs::create_dir_all(self.path(name)).unwrap();
        self.path(name)
    }

    pub fn image(&self, bytes: u64) -> PathBuf {
        fs::File::create(self.path("image")).unwrap().set_len(bytes).unwrap();
        self.path("image")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// exFAT of an image through exfat-fuse, which wants a block device.
pub struct Loop {
    pub at: PathBuf,
    device: String,
    child: Child,
}

impl Loop {
    pub fn mount(image: &Path, at: &Path) -> Option<Self> {
        let made = Command::new("losetup").args(["-f", "--show"]).arg(image).output().unwrap();
        if !made.status.success() {
            return None;
        }
        let device = String::from_utf8(made.stdout).unwrap().trim().to_string();
        let before = fs::metadata(at).unwrap().dev();
        // With -d it stays ours, so that its end can be waited for.
        let mut command = Command::new("mount.exfat-fuse");
        command.arg("-d").arg(&device).arg(at).stdout(Stdio::null()).stderr(Stdio::null());
        let mut mount = Self { at: at.into(), device, child: command.spawn().unwrap() };
        while fs::metadata(at).map_or(before, |folder| folder.dev()) == before {
            if mount.child.try_wait().unwrap().is_some() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(mount)
    }

    pub fn close(self) {}
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = Command::new("umount").arg(&self.at).status();
            // Only when it has ended is the volume whole.
            let _ = self.child.wait();
        }
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
}

/// A tree of many small files, long and other names, and deep folders.
pub fn fill(top: &Path, random: &mut Random, files: u64) {
    for folder in ["many", "names", "Mixed Case"] {
        fs::create_dir_all(top.join(folder)).unwrap();
    }
    for number in 0..files {
        let size = [0, 1, 100, 511, 512, 513, 1500, 3000][random.below(8) as usize];
        let kind = if number % 3 == 0 { "txt" } else { "del" };
        let long = "n".repeat(if number % 5 == 0 { random.below(60) as usize } else { 0 });
        fs::write(top.join(format!("many/f{long}{number:05}.{kind}")), random.bytes(size)).unwrap();
    }
    let names = [
        "größe.txt",
        "日本語のファイル.txt",
        "lower",
        "UPPER.TXT",
        "base.TXT",
        "EXTENSION.txt",
        "EXT.txt",
        "a b  c.d.e",
        "ÄÖÜ",
    ];
    for name in names.map(String::from).into_iter().chain([13, 26, 27, 200, 255].map(|length| "m".repeat(length))) {
        fs::write(top.join("names").join(&name), name.as_bytes()).unwrap();
    }
    let mut deep = top.to_path_buf();
    for number in 0..12 {
        deep.push(format!("deep{number}"));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), b"bottom").unwrap();
    fs::write(top.join("Mixed Case/Mixed.Txt"), b"mixed").unwrap();
}

/// One path as a tool shows it: size and hash of a file, `None` for a folder.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub content: Option<(u64, blake3::Hash)>,
    pub modified: i64,
}

pub fn see(top: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let mut seen = BTreeMap::new();
    let mut folders = vec![top.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = metadata.is_file().then(|| {
                let bytes = fs::read(&path).unwrap();
                (bytes.len() as u64, blake3::hash(&bytes))
            });
            if content.is_none() {
                folders.push(path.clone());
            }
            let name = path.strip_prefix(top).unwrap().as_os_str().as_bytes().to_vec();
            seen.insert(name, Seen { content, modified: metadata.mtime() });
        }
    }
    seen
}

/// One of mtools, in a locale that knows all letters and a zone that is the map's.
pub fn mtools(tool: &str, image: &Path, arguments: &[&str], last: Option<&Path>) {
    let mut command = Command::new(tool);
    command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC").env("MTOOLS_SKIP_CHECK", "1");
    output(command.arg("-i").arg(image).args(arguments).args(last));
}

/// Where FAT32 looks for the next free cluster: unknown, so that the holes in front are filled first.
pub fn forget_free(image: &Path) {
    let file = fs::OpenOptions::new().read(true).write(true).open(image).unwrap();
    for sector in [512, 4096] {
        let mut magic = [0; 4];
        file.read_exact_at(&mut magic, sector).unwrap();
        if &magic == b"RRaA" {
            file.write_all_at(&[0xFF; 8], sector + 488).unwrap();
        }
    }
}

/// What a command prints.
pub fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
