//! Files for the images: trees of extents and runs, small ones, short and long names and targets, attributes, holes.

#[path = "../../../src/base/xorshift.rs"]
mod xorshift;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use xorshift::Random;

const KIB: usize = 1024;

/// What every file system holds.
pub fn plain(top: &Path, names: usize) -> Option<()> {
    fs::create_dir_all(top.join("below/deeper")).ok()?;
    fs::write(top.join("whole"), text(40 * KIB)).ok()?;
    for number in 0..names {
        let name = format!("below/file-{number}{}", "n".repeat(number % 40));
        fs::write(top.join(name), vec![1; number * 7 % 1500]).ok()?;
    }
    fs::write(top.join("below/größe 😀.txt"), b"beyond the first plane").ok()?;
    fs::write(top.join("UPPER.TXT"), b"upper").ok()
}

/// What file systems of Unix hold besides. Attributes only where the folder can have them.
pub fn unix(top: &Path, names: usize) -> Option<()> {
    plain(top, names)?;
    let holes = File::create(top.join("holes")).ok()?;
    for number in 0..60 {
        holes.write_all_at(&vec![7; KIB], number * 9 * KIB as u64).ok()?;
    }
    symlink("short", top.join("below/deeper/short")).ok()?;
    symlink("long/".repeat(100), top.join("below/deeper/long")).ok()?;
    fs::hard_link(top.join("whole"), top.join("below/again")).ok()?;
    quietly("mknod", &[top.join("device").as_ref(), "b".as_ref(), "8".as_ref(), "17".as_ref()]);
    attribute(&top.join("whole"), "user.mime", "text/plain");
    attribute(&top.join("holes"), "user.large", &"v".repeat(700));
    for number in 0..12 {
        attribute(&top.join("below"), &format!("user.{number}"), &"w".repeat(number * 9));
    }
    quietly("setfacl", &["-m".as_ref(), "u:12:rw,g:13:r".as_ref(), top.join("UPPER.TXT").as_ref()]);
    quietly("setfacl", &["-d".as_ref(), "-m".as_ref(), "u:12:rw".as_ref(), top.join("below/deeper").as_ref()]);
    Some(())
}

pub fn attribute(path: &Path, name: &str, value: &str) {
    quietly("setfattr", &["-n".as_ref(), name.as_ref(), "-v".as_ref(), value.as_ref(), path.as_ref()]);
}

/// What is not there leaves the image a little poorer.
fn quietly(program: &str, arguments: &[&std::ffi::OsStr]) {
    let _ = Command::new(program).args(arguments).stdin(Stdio::null()).output();
}

/// Bytes that compress, and not to nothing.
pub fn text(length: usize) -> Vec<u8> {
    let lines =
        (0..).flat_map(|number: u32| format!("line {} of a text\n", number.wrapping_mul(2_654_435_761)).into_bytes());
    lines.take(length).collect()
}

/// Bytes that do not compress.
pub fn noise(length: usize) -> Vec<u8> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    (0..length).map(|_| random.below(256) as u8).collect()
}

/// Fills what is free with files of one piece, frees every second, and writes one file into the gaps.
pub fn fragment(top: &Path, piece: usize, length: usize) -> Option<()> {
    let folder = top.join("fill");
    fs::create_dir(&folder).ok()?;
    let paths: Vec<_> = (0..).map(|number| folder.join(format!("piece {number}"))).take(6000).collect();
    let bytes = noise(piece.max(KIB));
    let full = paths.iter().position(|path| fs::write(path, &bytes).is_err()).unwrap_or(paths.len());
    let _ = fs::remove_file(&paths[full.min(paths.len() - 1)]);
    paths[..full].iter().step_by(2).try_for_each(fs::remove_file).ok()?;
    let file = File::create(top.join("fragmented")).ok()?;
    let pieces = bytes.len().min(piece);
    (0..length / piece).try_for_each(|at| file.write_all_at(&bytes[..pieces], (at * piece) as u64)).ok()?;
    for path in &paths[..full] {
        let _ = fs::remove_file(path);
    }
    Some(())
}
