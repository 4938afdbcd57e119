//! Real volumes: made by mkntfs, filled through ntfs-3g, and written down as the mount shows them.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use imager_native::error::{Error, Result};
use imager_native::volume::ReadAt;

const TOOLS: [&str; 6] = ["mkntfs", "ntfs-3g", "ntfscat", "istat", "umount", "mknod"];

/// Why these tests cannot run here, if they cannot.
pub fn missing() -> Option<String> {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return Some("not root".into());
    }
    if !Path::new("/dev/fuse").exists() {
        return Some("no /dev/fuse".into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |tool: &&str| std::env::split_paths(&path).any(|folder| folder.join(tool).exists());
    TOOLS.iter().find(|tool| !found(tool)).map(|tool| format!("{tool} is not installed"))
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
pub struct Scratch {
    folder: PathBuf,
    /// Of ntfs-3g.
    pub options: String,
}

impl Scratch {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("imager-ntfs-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("mount")).unwrap();
        Self { folder, options: "no_detach,streams_interface=xattr,compression".into() }
    }

    pub fn image(&self, bytes: u64, options: &[&str]) -> PathBuf {
        let image = self.folder.join("volume.img");
        fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        let made = Command::new("mkntfs").args(["-F", "-Q", "-q"]).args(options).arg(&image).output().unwrap();
        assert!(made.status.success(), "mkntfs: {}", String::from_utf8_lossy(&made.stderr));
        image
    }

    pub fn mount(&self, image: &Path) -> Mount {
        let at = self.folder.join("mount");
        let before = fs::metadata(&at).unwrap().dev();
        let child =
            Command::new("ntfs-3g").arg("-o").arg(&self.options).arg(image).arg(&at).stderr(Stdio::null()).spawn();
        let mount = Mount { at, child: child.unwrap() };
        let start = Instant::now();
        while fs::metadata(&mount.at).map_or(before, |folder| folder.dev()) == before {
            assert!(start.elapsed() < Duration::from_secs(20), "ntfs-3g did not mount");
            std::thread::sleep(Duration::from_millis(5));
        }
        mount
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub struct Mount {
    pub at: PathBuf,
    child: Child,
}

impl Mount {
    pub fn path(&self, path: &str) -> PathBuf {
        self.at.join(path)
    }

    pub fn close(mut self) {
        assert!(Command::new("umount").arg(&self.at).status().unwrap().success());
        // Only when ntfs-3g has ended is the volume whole and clean.
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = Command::new("umount").arg("-l").arg(&self.at).status();
            let _ = self.child.wait();
        }
    }
}

/// The image as the parser reads it.
pub struct Image(fs::File);

impl Image {
    pub fn open(path: &Path) -> Self {
        Self(OpenOptions::new().read(true).open(path).unwrap())
    }
}

impl ReadAt for Image {
    fn length(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.read_exact_at(buffer, offset).map_err(|error| Error::io("reading the image", error))
    }
}

/// One path as the mount shows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub number: u64,
    /// The letter of `ls -l`.
    pub kind: char,
    pub links: u64,
    pub device: u64,
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
    pub changed: (i64, i64),
    pub target: Vec<u8>,
    /// Name ("" is the file itself), size, hash.
    pub streams: BTreeMap<Vec<u8>, (u64, blake3::Hash)>,
}

pub fn see(mount: &Mount) -> BTreeMap<Vec<u8>, Seen> {
    let mut seen = BTreeMap::new();
    let mut folders = vec![mount.at.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let one = see_one(&path);
            if one.kind == 'd' {
                folders.push(path.clone());
            }
            seen.insert(path.strip_prefix(&mount.at).unwrap().as_os_str().as_bytes().to_vec(), one);
        }
    }
    seen
}

fn see_one(path: &Path) -> Seen {
    let metadata = fs::symlink_metadata(path).unwrap();
    let file_type = metadata.file_type();
    let kinds = [
        (file_type.is_dir(), 'd'),
        (file_type.is_symlink(), 'l'),
        (file_type.is_fifo(), 'p'),
        (file_type.is_socket(), 's'),
        (file_type.is_char_device(), 'c'),
        (file_type.is_block_device(), 'b'),
    ];
    let kind = kinds.iter().find(|(is, _)| *is).map_or('-', |(_, letter)| *letter);
    let mut streams = xattrs(path);
    if kind == '-' {
        let (size, hash) = hash(fs::File::open(path).unwrap());
        assert_eq!(size, metadata.len());
        streams.insert(Vec::new(), (size, hash));
    }
    let target = if kind == 'l' { fs::read_link(path).unwrap().into_os_string().into_vec() } else { Vec::new() };
    Seen {
        number: metadata.ino(),
        kind,
        links: metadata.nlink(),
        device: metadata.rdev(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        target,
        streams,
    }
}

fn hash(mut reader: impl Read) -> (u64, blake3::Hash) {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 17];
    let mut size = 0;
    loop {
        let read = reader.read(&mut buffer).unwrap();
        if read == 0 {
            return (size, hasher.finalize());
        }
        size += read as u64;
        hasher.update(&buffer[..read]);
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// ntfs-3g shows named streams as attributes of the user's name space.
fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, (u64, blake3::Hash)> {
    let path = c_path(path);
    let mut names = vec![0u8; 1 << 16];
    // SAFETY: the path ends in a zero; the buffer is as long as is said.
    let length = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(usize::try_from(length).unwrap_or(0));
    let mut found = BTreeMap::new();
    for name in names.split(|&byte| byte == 0) {
        let Some(stream) = name.strip_prefix(b"user.") else { continue };
        let name = CString::new(name).unwrap();
        let mut value = vec![0u8; 1 << 17];
        // SAFETY: as above.
        let length = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        let (size, hash) = hash(&value[..usize::try_from(length).unwrap()]);
        found.insert(stream.to_vec(), (size, hash));
    }
    found
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    let (path, name) = (c_path(path), CString::new(name).unwrap());
    // SAFETY: both strings end in a zero, the value is as long as is said.
    let result = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    assert_eq!(result, 0, "{name:?}: {}", std::io::Error::last_os_error());
}

/// What a command prints.
pub fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
