//! Partition tables that `sfdisk` writes against what it reads back, and file systems on whole disks. A test
//! whose tools are missing is skipped.

mod skips;

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use imager_native::disk::read_table;
use imager_native::disk::table::{Table, TableKind};

const MIB: u64 = 1 << 20;

/// An image, and the loop device that shows it in larger sectors.
struct Image {
    path: PathBuf,
    device: Option<String>,
}

impl Image {
    fn new(name: &str, mib: u64) -> Self {
        let path = std::env::temp_dir().join(format!("imager-table-{name}-{}", std::process::id()));
        fs::File::create(&path).unwrap().set_len(mib * MIB).unwrap();
        Self { path, device: None }
    }

    fn attach(&mut self, sector_bytes: u32) -> bool {
        let sector = sector_bytes.to_string();
        let output = Command::new("losetup").args(["--find", "--show", "-b", &sector]).arg(&self.path).output();
        let output = output.ok().filter(|output| output.status.success());
        self.device = output.map(|output| String::from_utf8(output.stdout).unwrap().trim().to_string());
        self.device.is_some()
    }

    fn target(&self) -> String {
        self.device.clone().unwrap_or_else(|| self.path.display().to_string())
    }

    fn sfdisk(&self, script: &str) -> bool {
        let arguments = ["--quiet", "--no-reread", "--no-tell-kernel", &self.target()];
        let child = Command::new("sfdisk").args(arguments).stdin(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut child) = child else { return false };
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let written = child.wait().unwrap().success();
        Command::new("sync").status().unwrap();
        written
    }

    /// Index, first byte, bytes, kind and name of each line "PATH5 : start= 2048, size= 10, type=83".
    fn dumped(&self, sector_bytes: u32) -> Vec<(u32, u64, u64, String, String)> {
        let target = self.target();
        let output = Command::new("sfdisk").args(["--dump", &target]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix(&target)?.split_once(" : "));
        let partitions = lines.map(|(index, fields)| {
            let field = |name: &str| {
                let found = fields.split(", ").find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
                found.unwrap_or_default().trim().trim_matches('"').to_string()
            };
            let bytes = |name: &str| field(name).parse::<u64>().unwrap() * u64::from(sector_bytes);
            (
                index.trim_start_matches('p').parse().unwrap(),
                bytes("start"),
                bytes("size"),
                field("type"),
                field("name"),
            )
        });
        // The container of logical partitions is no partition here.
        partitions.filter(|(_, _, _, kind, _)| !["5", "f", "85"].contains(&kind.as_str())).collect()
    }

    /// The mark of swap space on each partition: something that is known by its place.
    fn mark(&self, sector_bytes: u32) {
        let file = fs::OpenOptions::new().write(true).open(&self.path).unwrap();
        for (_, start, ..) in self.dumped(sector_bytes) {
            file.write_all_at(b"SWAPSPACE2", start + 4086).unwrap();
        }
    }

    fn read(&self) -> Table {
        read_table(&fs::read(&self.path).unwrap(), &imager_native::fs::known).unwrap()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if let Some(device) = &self.device {
            let _ = Command::new("losetup").args(["-d", device]).status();
        }
        let _ = fs::remove_file(&self.path);
    }
}

fn compare(image: &Image, kind: TableKind, sector_bytes: u32) {
    let table = image.read();
    assert_eq!((table.kind, table.sector_bytes), (kind, sector_bytes));
    assert_eq!(table.doubts, Vec::<String>::new());
    let ours: Vec<_> = table
        .partitions
        .into_iter()
        .map(|partition| {
            let number = partition.kind.strip_prefix("0x").map(|digits| digits.trim_start_matches('0').to_lowercase());
            (partition.index, partition.start, partition.length, number.unwrap_or(partition.kind), partition.name)
        })
        .collect();
    let theirs = image.dumped(sector_bytes);
    assert!(theirs.len() > 2);
    assert_eq!(ours, theirs);
}

#[test]
fn sfdisk_agrees() {
    let gpt = "label: gpt\n\
               size=4MiB, type=U, name=\"EFI\"\n\
               5: start=10MiB, size=5MiB, type=L, name=\"the root\"\n\
               7: size=6MiB, type=S\n";
    for sector_bytes in [512, 4096] {
        let mut image = Image::new(&format!("gpt-{sector_bytes}"), 64);
        let attached = sector_bytes == 512 || image.attach(sector_bytes);
        if !attached || !image.sfdisk(gpt) {
            skips::skipped(&format!("GPT: no sfdisk or no loop device with sectors of {sector_bytes} bytes"));
            continue;
        }
        compare(&image, TableKind::Gpt, sector_bytes);
        let good = image.read();
        let mut bytes = fs::read(&image.path).unwrap();
        bytes[sector_bytes as usize..][..512].fill(0);
        fs::write(&image.path, bytes).unwrap();
        let repaired = image.read();
        assert_eq!((repaired.partitions, repaired.id), (good.partitions, good.id), "from the backup");
        assert_eq!(repaired.doubts.len(), 1);
    }
    let mbr = "label: dos\n\
               1: size=4MiB, type=7\n\
               2: size=40MiB, type=f\n\
               4: size=3MiB, type=83\n\
               5: size=5MiB, type=82\n\
               6: size=2MiB, type=83\n\
               7: size=9MiB, type=8e\n";
    for sector_bytes in [512, 4096] {
        let mut image = Image::new(&format!("mbr-{sector_bytes}"), 64);
        let attached = sector_bytes == 512 || image.attach(sector_bytes);
        if !attached || !image.sfdisk(mbr) {
            skips::skipped(&format!("MBR: no sfdisk or no loop device with sectors of {sector_bytes} bytes"));
            continue;
        }
        image.mark(sector_bytes);
        compare(&image, TableKind::Mbr, sector_bytes);
    }
}

#[test]
fn file_systems_on_whole_disks_have_no_table() {
    for (program, arguments, mib) in [
        ("mkfs.fat", vec![], 16),
        ("mkfs.fat", vec!["-F", "32"], 64),
        ("mkntfs", vec!["-F", "-Q", "-q"], 16),
        ("mkfs.ext4", vec!["-q", "-F"], 16),
    ] {
        let image = Image::new(&format!("{program}-{mib}"), mib);
        let made = Command::new(program).args(&arguments).arg(&image.path).output();
        if !made.is_ok_and(|output| output.status.success()) {
            skips::skipped(&format!("{program} makes no image"));
            continue;
        }
        let table = image.read();
        assert_eq!((table.kind, table.partitions.len()), (TableKind::None, 1), "{program}");
        assert_eq!((table.partitions[0].start, table.partitions[0].length), (0, mib * MIB));
    }
}
