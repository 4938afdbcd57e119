//! What is written to the test volumes: everyday files, and the shapes that broke other parsers.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use crate::lab::{Mount, Random, output, set_xattr};

/// Everyday files, and one of each kind.
pub fn everyday(mount: &Mount, random: &mut Random, names: u64) {
    let tiny = mount.path("tiny");
    fs::create_dir(&tiny).unwrap();
    for index in 0..150 {
        let length = random.below(900) as usize;
        fs::write(tiny.join(format!("{index}.txt")), random.bytes(length)).unwrap();
    }
    for index in (0..150).step_by(7) {
        fs::remove_file(tiny.join(format!("{index}.txt"))).unwrap();
    }
    fs::write(mount.path("big.bin"), random.bytes(3_000_001)).unwrap();
    sparse(mount, random);
    interleaved(mount, random);
    odd_names(mount);
    links_and_nodes(mount);
    streams(mount, random);
    let many = mount.path("many");
    fs::create_dir(&many).unwrap();
    (0..names).for_each(|index| drop(File::create(many.join(format!("a rather ordinary name {index}"))).unwrap()));
}

fn sparse(mount: &Mount, random: &mut Random) {
    let file = File::create(mount.path("sparse.bin")).unwrap();
    for offset in [0u64, 300_000, 1_000_000, 9_000_000] {
        file.write_all_at(&random.bytes(70_000), offset).unwrap();
    }
    // Made longer without a write: the bytes past the old end are not valid data.
    let grown = File::create(mount.path("grown.bin")).unwrap();
    grown.write_all_at(&random.bytes(100_001), 0).unwrap();
    grown.set_len(2_000_000).unwrap();
    File::create(mount.path("hole.bin")).unwrap().set_len(50_000_000_000).unwrap();
    fs::remove_file(mount.path("hole.bin")).unwrap();
    File::create(mount.path("hole.bin")).unwrap().set_len(5_000_000).unwrap();
    let cut = File::create(mount.path("cut.bin")).unwrap();
    cut.write_all_at(&random.bytes(500_000), 0).unwrap();
    cut.set_len(123_457).unwrap();
}

/// Two files that grow in turns. ntfs-3g gives each its own place; for real fragments see `fragmented`.
fn interleaved(mount: &Mount, random: &mut Random) {
    let files = ["left.bin", "right.bin"].map(|name| File::create(mount.path(name)).unwrap());
    for step in 0..160u64 {
        for file in &files {
            file.write_all_at(&random.bytes(8192), step * 8192).unwrap();
        }
    }
}

fn odd_names(mount: &Mount) {
    let folder = mount.path("Ünïcödé 😀");
    fs::create_dir(&folder).unwrap();
    for name in ["a", "A", "é", "名前", "𝒳.txt", "with space", "trailing.", "it's \"quoted\" $(x)", "new\nline"] {
        fs::write(folder.join(name), name).unwrap();
    }
    fs::write(folder.join("ß".repeat(127)), "long").unwrap();
    let mut deep = mount.path("deep");
    for level in 0..30 {
        deep.push(format!("level {level}"));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "bottom").unwrap();
    fs::rename(mount.path("deep/level 0/level 1"), mount.path("moved")).unwrap();
}

fn links_and_nodes(mount: &Mount) {
    fs::write(mount.path("one"), "one file, many names").unwrap();
    // So many that the attribute list itself leaves the record.
    for index in 0..300 {
        fs::hard_link(mount.path("one"), mount.path(&format!("tiny/hard link {index} of one"))).unwrap();
    }
    links(mount);
    symlink("../ü 😀/x", mount.path("tiny/link")).unwrap();
    nodes(mount);
    // A socket's path is short by its nature, so it is bound from inside.
    let socket = Path::new("/proc/self/fd");
    let folder = File::open(&mount.at).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&folder);
    drop(UnixListener::bind(socket.join(number.to_string()).join("socket")).unwrap());
}

fn links(mount: &Mount) {
    symlink("one", mount.path("link")).unwrap();
    symlink("long/".repeat(120), mount.path("long link")).unwrap();
}

fn nodes(mount: &Mount) {
    let nodes: [&[&str]; 3] = [&["fifo", "p"], &["char", "c", "5", "7"], &["block", "b", "8", "300"]];
    for node in nodes {
        output(Command::new("mknod").current_dir(&mount.at).args(node));
    }
}

/// For a mount whose special files are those of WSL.
pub fn reparse_points(mount: &Mount) {
    links(mount);
    nodes(mount);
    fs::write(mount.path("one"), "one").unwrap();
    // A symbolic link of Windows, relative: substitute name and print name are the same.
    let name: Vec<u8> = "folder\\é\\x".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut point = 0xA000_000Cu32.to_le_bytes().to_vec();
    let length = name.len() as u16;
    let words = [12 + length, 0, 0, length, 0, length, 1, 0];
    point.extend(words.iter().flat_map(|word: &u16| word.to_le_bytes()));
    point.extend(&name);
    fs::create_dir_all(mount.path("folder/é")).unwrap();
    fs::write(mount.path("folder/é/x"), "x").unwrap();
    fs::write(mount.path("windows link"), "").unwrap();
    set_xattr(&mount.path("windows link"), "system.ntfs_reparse_data", &point);
}

fn streams(mount: &Mount, random: &mut Random) {
    fs::write(mount.path("streams"), "the unnamed one").unwrap();
    set_xattr(&mount.path("streams"), "user.small", b"small");
    set_xattr(&mount.path("streams"), "user.große", &random.bytes(60_000));
    set_xattr(&mount.path("streams"), "user.empty", b"");
    for index in 0..30 {
        // Enough to need an attribute list made of resident parts.
        set_xattr(&mount.path("streams"), &format!("user.stream {index}"), &random.bytes(200));
    }
    set_xattr(&mount.path("tiny"), "user.of a folder", b"folders have streams too");
}

/// Fills the volume with files of one cluster, frees every second and writes a file into the gaps.
pub fn fragmented(mount: &Mount, random: &mut Random, cluster: usize, length: usize) -> usize {
    let folder = mount.path("fill");
    fs::create_dir(&folder).unwrap();
    let mut count = 0usize;
    loop {
        let mut bytes = random.bytes(cluster.max(1024));
        bytes[0] = 1;
        let path = folder.join(format!("file number {count}"));
        if fs::write(&path, bytes).is_err() {
            let _ = fs::remove_file(path);
            break;
        }
        count += 1;
    }
    (0..count).step_by(2).for_each(|index| fs::remove_file(folder.join(format!("file number {index}"))).unwrap());
    let mut file = OpenOptions::new().create(true).append(true).open(mount.path("fragmented.bin")).unwrap();
    let mut written = 0;
    while written < length && file.write_all(&random.bytes(cluster)).is_ok() {
        written += cluster;
    }
    count
}

/// Leaves only gaps of one cluster, then makes $MFT grow into them.
pub fn fragmented_mft(mount: &Mount, random: &mut Random) {
    let count = fragmented(mount, random, 1024, 0);
    let full = mount.path("fill");
    // Every file that is left keeps its record; every second gives its cluster back.
    for index in (1..count).step_by(4) {
        File::create(full.join(format!("file number {index}"))).unwrap();
    }
    for index in 0..count {
        if fs::write(mount.path(&format!("{index}")), index.to_string()).is_err() {
            break;
        }
    }
}

/// A folder whose files NTFS compresses, with all three kinds of units.
pub fn compressed(mount: &Mount, random: &mut Random, length: usize) {
    let folder = mount.path("compressed");
    fs::create_dir(&folder).unwrap();
    set_xattr(&folder, "system.ntfs_attrib_be", &[0, 0, 8, 0]);
    let mut text = Vec::new();
    while text.len() < length {
        text.extend(format!("line {} of a text that repeats itself\n", random.below(1000)).bytes());
    }
    text.truncate(length);
    fs::write(folder.join("text"), &text).unwrap();
    fs::write(folder.join("noise"), random.bytes(length)).unwrap();
    let mut mixed = text.clone();
    mixed[length / 4..length * 3 / 4].copy_from_slice(&random.bytes(length * 3 / 4 - length / 4));
    fs::write(folder.join("mixed"), &mixed).unwrap();
    let holes = File::create(folder.join("holes")).unwrap();
    holes.write_all_at(&text[..length / 5], 0).unwrap();
    holes.write_all_at(&text[..length / 5], 3 * length as u64).unwrap();
}
