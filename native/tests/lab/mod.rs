//! Real images, and what other programs say about them: the Rust side of lab.py. Each test takes what it needs.
#![allow(dead_code)]

pub mod reader;
pub mod render;
#[path = "../skips/mod.rs"]
mod skips;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use imager_native::base::error::{Error, Result};
use imager_native::disk::volume::{ReadAt, Volume};
use imager_native::fs::volume_map::{File, Kind, VolumeMap};
use imager_native::fs::{Outcome, map_volume};

pub use skips::skipped;

/// The exit code of lab.py where this machine cannot make an image.
const IMPOSSIBLE: i32 = 77;

/// One image of the matrix.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    pub seed: String,
    /// What the map must hold, see `render::shows`.
    pub shows: Vec<String>,
    /// In every sentence of doubt; empty: there must be none.
    pub doubt: String,
    /// Why it is raw; empty: it must be mapped.
    pub raw: String,
}

pub fn rows(arguments: &[&str]) -> std::result::Result<Vec<Row>, Trouble> {
    let text = lab("list", arguments)?;
    let rows = text.lines().map(|line| {
        let fields: Vec<String> = line.split('\t').map(String::from).collect();
        let [name, seed, shows, doubt, raw] = <[String; 5]>::try_from(fields).unwrap();
        Row { name, seed, shows: shows.split_whitespace().map(String::from).collect(), doubt, raw }
    });
    Ok(rows.collect())
}

/// Why lab.py printed nothing.
#[derive(Debug)]
pub enum Trouble {
    /// This machine cannot do it.
    Impossible(String),
    Failed(String),
}

/// What lab.py prints.
pub fn lab(verb: &str, arguments: &[&str]) -> std::result::Result<String, Trouble> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/lab.py");
    let run = Command::new("python3").arg("-B").arg(script).arg(verb).args(arguments).output();
    let Output { status, stdout, stderr } =
        run.map_err(|_| Trouble::Impossible("python3 is not installed".to_string()))?;
    let said = String::from_utf8_lossy(&stderr).trim().to_string();
    match status.code() {
        Some(0) => Ok(String::from_utf8(stdout).unwrap()),
        Some(IMPOSSIBLE) => Err(Trouble::Impossible(said)),
        _ => Err(Trouble::Failed(format!("lab.py {verb} {arguments:?}: {said}"))),
    }
}

/// A folder of its own for one test, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        // Memory where there is some: the work waits for the disk again and again.
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let folder = parent.join(format!("imager-test-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// An image of the matrix; `None`, and the test is skipped, where this machine cannot make it.
    pub fn image(&self, name: &str, seed: u64) -> Option<PathBuf> {
        let path = self.path("image");
        match lab("make", &[name, &seed.to_string(), path.to_str().unwrap()]) {
            Ok(_) => Some(path),
            Err(Trouble::Failed(why)) => panic!("{why}"),
            Err(Trouble::Impossible(reason)) => {
                skipped(&format!("{name}: {reason}"));
                None
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A mounted image; unmounted at the end.
pub struct Mount(pub PathBuf);

impl Mount {
    pub fn new(image: &Path, options: &str) -> Self {
        let at = image.with_extension("mount");
        fs::create_dir_all(&at).unwrap();
        output(Command::new("mount").args(["-o", options]).args([image, &at]));
        Self(at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// What a command prints.
pub fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The image as the parser reads it.
pub struct Image(fs::File);

impl Image {
    pub fn open(path: &Path) -> Self {
        Self(fs::File::open(path).unwrap())
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

pub fn mapped(source: &dyn ReadAt) -> VolumeMap {
    match map_volume(Volume::whole(source)) {
        Outcome::Mapped(map) => map,
        Outcome::Raw { found, reason } => panic!("{found}: {reason}"),
    }
}

/// All paths of the map, by its entries from the root down.
pub fn paths(map: &VolumeMap) -> BTreeMap<Vec<u8>, &File> {
    let mut paths = BTreeMap::new();
    let mut folders = vec![(Vec::new(), map.root)];
    while let Some((path, number)) = folders.pop() {
        let first = map.entries.partition_point(|entry| entry.parent < number);
        for entry in map.entries[first..].iter().take_while(|entry| entry.parent == number) {
            let mut path: Vec<u8> = path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(&entry.name);
            let at = map.files.binary_search_by_key(&entry.child, |file| file.number).unwrap();
            if map.files[at].kind == Kind::Directory {
                folders.push((path.clone(), entry.child));
            }
            paths.insert(path, &map.files[at]);
        }
    }
    paths
}
