//! NTFS through ntfs-3g, FAT by mtools, exFAT through exfat-fuse. NTFS is made without files where it cannot be mounted.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;

use super::{Bench, files};

pub const NTFS: [(&str, u64); 3] = [("-c 512", 3072), ("-s 4096 -c 4096", 12 << 10), ("-c 4096 wsl", 8192)];

pub fn ntfs(bench: &Bench, options: &str) -> Option<()> {
    let (options, special) = options.strip_suffix(" wsl").map_or((options, ""), |rest| (rest, ",special_files=wsl"));
    bench.on_image("mkntfs", &format!("-F -Q -q -L LABEL {options}"))?;
    let mut command = Command::new("ntfs-3g");
    command.arg("-o").arg(format!("no_detach,streams_interface=xattr,compression{special}")).arg(bench.image());
    bench.fuse(&mut command, |top| fill_ntfs(top, options.contains("512")))
}

fn fill_ntfs(top: &Path, small: bool) -> Option<()> {
    files::plain(top, 30)?;
    for number in 0..40 {
        fs::hard_link(top.join("whole"), top.join(format!("below/a rather long hard link {number}"))).ok()?;
    }
    symlink("whole", top.join("link")).ok()?;
    symlink("long/".repeat(120), top.join("long link")).ok()?;
    let _ = Command::new("mknod").arg(top.join("node")).args(["c", "5", "7"]).status();
    for number in 0..20 {
        files::attribute(&top.join("UPPER.TXT"), &format!("user.stream {number}"), &"s".repeat(number * 17));
    }
    // A symbolic link of Windows: tag, length, two names in one buffer, relative.
    let name: Vec<u8> = "below\\é".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let length = name.len() as u16;
    let words = [12 + length, 0, 0, length, 0, length, 1, 0];
    let point = [0xA000_000Cu32.to_le_bytes().to_vec(), words.map(u16::to_le_bytes).concat(), name].concat();
    fs::write(top.join("windows link"), "").ok()?;
    let hex: String = point.iter().map(|byte| format!("{byte:02x}")).collect();
    files::attribute(&top.join("windows link"), "system.ntfs_reparse_data", &format!("0x{hex}"));

    let folder = top.join("compressed");
    fs::create_dir(&folder).ok()?;
    files::attribute(&folder, "system.ntfs_attrib_be", "0x00000800");
    let length = if small { 20_000 } else { 200_000 };
    let (text, noise) = (files::text(length), files::noise(length / 2));
    fs::write(folder.join("text"), &text).ok()?;
    fs::write(folder.join("mixed"), [&text[..length / 4], &noise, &text[..length / 4]].concat()).ok()?;
    let grown = fs::File::create(top.join("grown")).ok()?;
    grown.write_all_at(&noise[..5000], 0).ok()?;
    grown.set_len(20_000).ok()?;
    if small { files::fragment(top, 512, 200_000) } else { Some(()) }
}

pub const FAT: [(&str, u64); 4] =
    [("-F 12 -s 1", 700), ("-F 16 -s 1 -f 1", 2600), ("-F 32 -s 1", 34_000), ("-F 16 -s 1 -S 4096", 20_000)];

pub fn fat(bench: &Bench, options: &str) -> Option<()> {
    let source = bench.path("source");
    files::plain(&source, 60)?;
    bench.on_image("mkfs.fat", &format!("--invariant -n LABEL {options}"))?;
    let image = bench.image();
    let mut copy = vec!["-i".as_ref(), image.as_os_str(), "-s".as_ref(), "-m".as_ref(), "-Q".as_ref()];
    let names: Vec<_> = fs::read_dir(&source).ok()?.map(|entry| entry.unwrap().path()).collect();
    copy.extend(names.iter().map(|name| name.as_os_str()));
    bench.run("mcopy", &[&copy[..], &["::/".as_ref()]].concat())?;
    let deleted = ["-i".as_ref(), image.as_os_str(), "::/below/file-*5*".as_ref()];
    bench.run("mdel", &deleted)?;
    // The next search for free clusters begins in front, so that a large file lies in pieces.
    if options.contains("-F 32") {
        let file = fs::OpenOptions::new().write(true).open(&image).ok()?;
        file.write_all_at(&[0xFF; 8], 512 + 488).ok()?;
    }
    let large = bench.path("large.bin");
    fs::write(&large, files::noise(90_000)).ok()?;
    let copy = ["-i".as_ref(), image.as_os_str(), large.as_os_str(), "::/".as_ref()];
    bench.run("mcopy", &copy).map(drop)
}

pub const EXFAT: [(&str, u64); 2] = [("-b 4K -c 512", 1100), ("-c 4K", 4096)];

pub fn exfat(bench: &Bench, options: &str) -> Option<()> {
    bench.on_image("mkfs.exfat", &format!("-L LABEL {options}"))?;
    let device = bench.loop_device("")?;
    let mut command = Command::new("mount.exfat-fuse");
    // With -d it stays ours, so that its end can be waited for.
    let filled = bench.fuse(command.arg("-d").arg(&device), |top| {
        files::plain(top, 60)?;
        for number in (0..60).step_by(3) {
            let _ = fs::remove_file(top.join(format!("below/file-{number}{}", "n".repeat(number % 40))));
        }
        fs::write(top.join("large.bin"), files::noise(150_000)).ok()
    });
    bench.run("losetup", &["-d".as_ref(), device.as_ref()])?;
    filled
}
