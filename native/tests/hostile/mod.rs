//! Hostile bytes, for `cargo test` and for the fuzzer alike (docs/fuzzing.md): good images made by each file system's own
//! mkfs, edits of the structures that the parsers read, checksums put right again, and what must hold of every outcome.

#![allow(dead_code)] // The fuzzer's targets and the tests each use a part.

pub mod edit;
pub mod image;
pub mod layout;
pub mod memory;
pub mod random;
pub mod sane;
pub mod seeds;
#[path = "../skips/mod.rs"]
mod skips;

use std::path::Path;
use std::time::Duration;

use imager_native::base::ranges::ByteRange;
use imager_native::disk::read_table;
use imager_native::disk::table::Partition;
use imager_native::disk::volume::Volume;
use imager_native::fs::{Outcome, map_volume};
use imager_native::map::cut::MappedVolume;
use imager_native::map::volumes::map_volumes;

use self::image::{Damaged, Sparse};
use self::layout::{Governs, Layout};
use self::sane::Freed;

/// What is attacked. The table's two are read by `read_table`, all others by `map_volume`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parser {
    Gpt,
    Mbr,
    Ext,
    Ntfs,
    Xfs,
    Btrfs,
    Fat,
    Exfat,
    Recognise,
}

pub const PARSERS: [(Parser, &str); 9] = [
    (Parser::Gpt, "gpt"),
    (Parser::Mbr, "mbr"),
    (Parser::Ext, "ext"),
    (Parser::Ntfs, "ntfs"),
    (Parser::Xfs, "xfs"),
    (Parser::Btrfs, "btrfs"),
    (Parser::Fat, "fat"),
    (Parser::Exfat, "exfat"),
    (Parser::Recognise, "recognise"),
];

impl Parser {
    pub fn name(self) -> &'static str {
        PARSERS.iter().find(|(parser, _)| *parser == self).map(|(_, name)| *name).unwrap()
    }

    pub fn is_table(self) -> bool {
        matches!(self, Self::Gpt | Self::Mbr)
    }
}

/// A good image, what of it the parser reads, and what is free in it.
pub struct Seed {
    pub name: String,
    pub image: Sparse,
    pub layout: Layout,
    free: Vec<ByteRange>,
}

impl Seed {
    pub fn new(parser: Parser, name: String, image: Sparse) -> Self {
        let layout = layout::find(parser, &image);
        let volumes = read(parser, &Damaged::new(&image));
        if let (false, [MappedVolume { outcome: Outcome::Raw { found, reason }, .. }]) =
            (parser.is_table() || parser == Parser::Recognise, &volumes[..])
        {
            panic!("{name} is not mapped: {found}: {reason}");
        }
        let free = sane::free(&volumes, image.length);
        Self { name, image, layout, free }
    }
}

/// The image that an input means, for other tools to look at.
pub fn save(seeds: &[Seed], input: &[u8], path: &Path) {
    if let Some((seed, edits)) = chosen(seeds, input) {
        edit::apply(&seed.image, &seed.layout, edits).0.save(path);
    }
}

/// The first byte chooses the image, the others are edits of it.
fn chosen<'a, 'b>(seeds: &'a [Seed], input: &'b [u8]) -> Option<(&'a Seed, &'b [u8])> {
    let (&choice, edits) = input.split_first()?;
    Some((&seeds[usize::from(choice) % seeds.len()], edits))
}

/// How much of the processor one execution may take, and how much memory it may use at once.
pub struct Limits {
    pub time: Duration,
    pub memory: u64,
}

/// One execution. Panics where something does not hold; returns whether something was mapped.
pub fn execute(parser: Parser, seeds: &[Seed], input: &[u8], limits: &Limits) -> bool {
    let Some((seed, edits)) = chosen(seeds, input) else { return false };
    let (damaged, governs) = edit::apply(&seed.image, &seed.layout, edits);
    let freed = match governs {
        Governs::All => Freed::Unknown,
        Governs::Nothing | Governs::Bits => Freed::ByBits(&seed.layout.bitmap, &seed.free),
    };
    let started = processor_time();
    let (volumes, most) = memory::peak(|| read(parser, &damaged));
    let took = processor_time() - started;
    assert!(most <= limits.memory, "{}: {most} bytes of memory at once", seed.name);
    assert!(took <= limits.time, "{}: it takes {took:?}", seed.name);
    sane::assert_sane(&damaged, &volumes, &freed);
    volumes.iter().any(|volume| matches!(volume.outcome, Outcome::Mapped(_)))
}

/// Of this thread, so far: a busy machine is no fault of a parser.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `time`, which is ours, and nowhere else.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(failed, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// As a snapshot reads a disk.
fn read(parser: Parser, image: &Damaged) -> Vec<MappedVolume> {
    if parser.is_table() {
        let table = read_table(image, &imager_native::fs::known).unwrap();
        sane::assert_table(&table, image.length);
        return map_volumes(image, &table);
    }
    let partition = Partition { index: 0, start: 0, length: image.length, kind: String::new(), name: String::new() };
    vec![MappedVolume::of_partition(partition, map_volume(Volume::whole(image)))]
}
