//! Good images, each made by its file system's own tools over several options, small and sparse. What cannot be made here
//! is left out, and the test counts as skipped.

mod files;
mod linux;
mod windows;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::image::Sparse;
use super::skips::skipped;
use super::{Parser, Seed};

/// Options, KiB, and who makes it.
type Recipe = (&'static str, u64, fn(&Bench, &str) -> Option<()>);

const TABLES_KIB: u64 = 8 << 10;

fn recipes(parser: Parser) -> Vec<Recipe> {
    match parser {
        Parser::Gpt => vec![("512", TABLES_KIB, gpt), ("4096", TABLES_KIB, gpt)],
        Parser::Mbr => vec![("logical", TABLES_KIB, mbr), ("primary", TABLES_KIB, mbr)],
        Parser::Ext => linux::EXT.map(|(options, kib)| (options, kib, linux::ext as _)).into(),
        Parser::Xfs => linux::XFS.map(|(options, kib)| (options, kib, linux::xfs as _)).into(),
        Parser::Btrfs => linux::BTRFS.map(|(options, kib)| (options, kib, linux::btrfs as _)).into(),
        Parser::Ntfs => windows::NTFS.map(|(options, kib)| (options, kib, windows::ntfs as _)).into(),
        Parser::Fat => windows::FAT.map(|(options, kib)| (options, kib, windows::fat as _)).into(),
        Parser::Exfat => windows::EXFAT.map(|(options, kib)| (options, kib, windows::exfat as _)).into(),
        Parser::Recognise => vec![("blank", 260, |_, _| Some(())), ("mkswap", 260, swap)],
    }
}

/// In `kept`, where there is one, images are made once and stay, so that an input means the same the next time.
pub fn all(parser: Parser, kept: Option<&Path>) -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (number, (options, kib, make)) in recipes(parser).into_iter().enumerate() {
        let name = format!("{} {number} ({options})", parser.name());
        let at = kept.map(|folder| folder.join(format!("{}-{number}", parser.name())));
        if let Some(at) = at.as_ref().filter(|at| at.exists()) {
            seeds.push(Seed::new(parser, name, Sparse::load(at)));
            continue;
        }
        let bench = Bench::new(&format!("{}-{number}", parser.name()));
        fs::File::create(bench.image()).unwrap().set_len(kib << 10).unwrap();
        if make(&bench, options).is_none() {
            skipped(&format!("no image of {name}: {}", bench.why.take()));
            continue;
        }
        if let Some(at) = at {
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            bench.run("cp", &["--sparse=always".as_ref(), bench.image().as_ref(), at.as_ref()]).unwrap();
        }
        seeds.push(Seed::new(parser, name, Sparse::load(&bench.image())));
    }
    seeds
}

/// A folder of its own for one image, removed at the end.
pub struct Bench {
    folder: PathBuf,
    /// What the last program that failed said.
    why: RefCell<String>,
}

impl Bench {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("imager-hostile-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("mount")).unwrap();
        Self { folder, why: RefCell::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn image(&self) -> PathBuf {
        self.path("image")
    }

    fn mountpoint(&self) -> PathBuf {
        self.path("mount")
    }

    fn fails<T>(&self, why: String) -> Option<T> {
        self.why.replace(why);
        None
    }

    /// What it prints; none, with its own words in `why`, where it fails or is not there.
    fn run(&self, program: &str, arguments: &[&std::ffi::OsStr]) -> Option<String> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).env("MTOOLS_SKIP_CHECK", "1").env("LC_ALL", "C.UTF-8");
        let output = match command.output() {
            Ok(output) if output.status.success() => output,
            Ok(output) => return self.fails(format!("{program}: {}", String::from_utf8_lossy(&output.stderr))),
            Err(error) => return self.fails(format!("{program}: {error}")),
        };
        Some(String::from_utf8_lossy(&output.stdout).trim().to_string())
    }

    /// `run` of words that hold no blanks, and the image.
    fn on_image(&self, program: &str, options: &str) -> Option<String> {
        let image = self.image();
        let words = options.split(' ').filter(|word| !word.is_empty()).map(AsRef::as_ref);
        self.run(program, &words.chain([image.as_ref()]).collect::<Vec<_>>())
    }

    /// Mounts by the kernel, fills, unmounts.
    fn kernel(&self, options: &str, fill: impl FnOnce(&Path) -> Option<()>) -> Option<()> {
        let (image, at) = (self.image(), self.mountpoint());
        self.run("mount", &["-o".as_ref(), options.as_ref(), image.as_ref(), at.as_ref()])?;
        let filled = fill(&at);
        self.run("umount", &[at.as_ref()])?;
        filled
    }

    /// The same through a program that serves FUSE until it is unmounted, and has written all only when it has ended.
    fn fuse(&self, command: &mut Command, fill: impl FnOnce(&Path) -> Option<()>) -> Option<()> {
        use std::os::unix::fs::MetadataExt;
        let at = self.mountpoint();
        let device = || fs::metadata(&at).map_or(0, |folder| folder.dev());
        let before = device();
        let spawned = command.arg(&at).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child: Child = match spawned {
            Ok(child) => child,
            Err(error) => return self.fails(format!("{:?}: {error}", command.get_program())),
        };
        let started = Instant::now();
        while device() == before {
            if child.try_wait().unwrap().is_some() || started.elapsed() > Duration::from_secs(20) {
                let _ = child.kill();
                let _ = child.wait();
                return self.fails(format!("{:?} does not mount", command.get_program()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let filled = fill(&at);
        self.run("umount", &[at.as_ref()])?;
        child.wait().unwrap();
        filled
    }

    fn loop_device(&self, options: &str) -> Option<String> {
        self.on_image("losetup", &format!("--find --show {options}"))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let mount = self.mountpoint();
        if fs::read_to_string("/proc/mounts").is_ok_and(|mounts| mounts.contains(&*mount.to_string_lossy())) {
            let _ = Command::new("umount").arg("-l").arg(&mount).status();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn sfdisk(bench: &Bench, target: &str, script: &str) -> Option<()> {
    let at = bench.path("script");
    fs::write(&at, script).unwrap();
    let command = format!("sfdisk --quiet --no-reread --no-tell-kernel '{target}' <'{}' && sync", at.display());
    bench.run("sh", &["-c".as_ref(), command.as_ref()]).map(drop)
}

fn gpt(bench: &Bench, sector: &str) -> Option<()> {
    let script = "label: gpt\nlabel-id: 3B7E0C9A-6E1F-4E3B-9C51-0D5E7B1C2A33\ntable-length: 16\n\
                  size=1MiB, type=U, name=\"EFI\"\n5: start=4MiB, size=1MiB, type=L, name=\"root\"\n7: size=1MiB\n";
    if sector == "512" {
        return sfdisk(bench, &bench.image().to_string_lossy(), script);
    }
    let device = bench.loop_device(&format!("-b {sector}"))?;
    let made = sfdisk(bench, &device, script);
    bench.run("losetup", &["-d".as_ref(), device.as_ref()])?;
    made
}

fn mbr(bench: &Bench, options: &str) -> Option<()> {
    let script = match options {
        "logical" => {
            "label: dos\n1: size=1MiB, type=7\n2: size=5MiB, type=f\n4: size=100KiB, type=83\n5: size=1MiB\n\
             6: size=100KiB\n"
        }
        _ => "label: dos\n1: size=1MiB, type=7\n2: size=2MiB, type=83\n3: size=1MiB\n4: size=1MiB\n",
    };
    sfdisk(bench, &bench.image().to_string_lossy(), script)
}

fn swap(bench: &Bench, _: &str) -> Option<()> {
    bench.on_image("mkswap", "").map(drop)
}
