//! What of an image a parser reads: the structures that it knows, with the way to put their checksums right, and what
//! else it was seen to read.

mod btrfs;
mod ext;
mod fat;
mod ntfs;
mod table;
mod xfs;

use std::collections::BTreeMap;
use std::sync::Mutex;

use imager_native::base::error::Result;
use imager_native::disk::read_table;
use imager_native::disk::volume::{ReadAt, Volume};
use imager_native::fs::volume_map::{Content, ExtentKind};
use imager_native::fs::{Outcome, map_volume};

use super::Parser;
use super::image::{Damaged, Sparse};

/// A piece of what is read besides the structures.
const PIECE: u64 = 512;
const PACKED_BYTES: u64 = 4096;

pub type Seal = fn(&mut Damaged, &Region);

#[derive(Clone)]
pub struct Region {
    pub at: u64,
    pub length: u64,
    /// By which number others lead here, or whose it is.
    pub number: u64,
    pub governs: Governs,
    pub seal: Option<Seal>,
}

/// What an edit of a region may rightly change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Governs {
    /// Not what is free.
    Nothing,
    /// What is free, by the bits there.
    Bits,
    /// What is free, by leading to what says so.
    All,
}

impl Governs {
    fn all(yes: bool) -> Self {
        if yes { Self::All } else { Self::Nothing }
    }
}

/// Bits of a bitmap that lie together: each says whether `unit` bytes are in use, from byte `first` of the volume on.
pub struct Bits {
    pub at: u64,
    pub count: u64,
    pub first: u64,
    pub unit: u64,
}

pub struct Layout {
    /// Regions of one kind, so that one superblock is hit as often as a thousand inodes.
    groups: Vec<Vec<Region>>,
    /// The bytes that addresses count in.
    pub unit: u64,
    /// All of the file system's own bitmap, where it has one.
    pub bitmap: Vec<Bits>,
}

impl Layout {
    pub fn region(&self, group: u8, index: u16) -> &Region {
        let group = &self.groups[usize::from(group) % self.groups.len()];
        &group[usize::from(index) % group.len()]
    }

    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        self.groups.iter().flatten()
    }

    pub fn describe(&self) -> String {
        self.groups.iter().map(|group| format!("{} of {}", group.len(), group[0].length)).collect::<Vec<_>>().join(", ")
    }
}

/// Regions by a name of their kind.
#[derive(Default)]
struct Found {
    kinds: BTreeMap<&'static str, Vec<Region>>,
    bitmap: Vec<Bits>,
}

impl Found {
    fn add(&mut self, kind: &'static str, region: Region) {
        self.kinds.entry(kind).or_default().push(region);
    }

    fn holds(&self, at: u64) -> bool {
        self.kinds.values().flatten().any(|region| region.at <= at && at < region.at + region.length)
    }
}

pub fn find(parser: Parser, image: &Sparse) -> Layout {
    let traced = Traced { image: Damaged::new(image), reads: Mutex::default() };
    let mut found = Found::default();
    if parser.is_table() {
        read_table(&traced, &imager_native::fs::known).unwrap();
    } else if let Outcome::Mapped(map) = map_volume(Volume::whole(&traced)) {
        let streams = map.files.iter().flat_map(|file| &file.streams);
        for stream in streams {
            let Content::Extents(extents) = &stream.content else { continue };
            for extent in extents.iter().filter(|e| !matches!(e.kind, ExtentKind::Plain | ExtentKind::Unwritten)) {
                let length = extent.length.min(PACKED_BYTES);
                found.add(
                    "packed",
                    Region { at: extent.disk, length, number: 0, governs: Governs::Nothing, seal: None },
                );
            }
        }
    }
    let Traced { image: good, reads } = traced;
    let reads = Reads(reads.into_inner().unwrap());
    let unit = match parser {
        Parser::Gpt | Parser::Mbr => table::find(&good, &mut found),
        Parser::Ext => ext::find(&good, &reads, &mut found),
        Parser::Ntfs => ntfs::find(image, &reads, &mut found),
        Parser::Xfs => xfs::find(image, &reads, &mut found),
        Parser::Btrfs => btrfs::find(image, &reads, &mut found),
        Parser::Exfat => fat::find_exfat(image, &reads, &mut found),
        Parser::Fat | Parser::Recognise => PIECE,
    };
    let governs = |at: u64| match parser {
        Parser::Fat => at < fat::tables_end(&good),
        Parser::Ext => ext::is_spread(&good),
        Parser::Xfs | Parser::Btrfs => false,
        _ => true,
    };
    rest(image, &reads, &mut found, governs);
    Layout { groups: found.kinds.into_values().collect(), unit, bitmap: found.bitmap }
}

/// What is read and is no structure found before.
fn rest(image: &Sparse, reads: &Reads, found: &mut Found, governs: impl Fn(u64) -> bool) {
    let mut pieces = Vec::new();
    for &(start, length) in &reads.0 {
        let first = start / PIECE * PIECE;
        pieces.extend((first..start + length).step_by(PIECE as usize));
    }
    pieces.sort_unstable();
    pieces.dedup();
    let all_zero = pieces.iter().all(|&at| image.is_zero(at, PIECE as usize));
    for at in pieces {
        if !found.holds(at) && (all_zero || !image.is_zero(at, PIECE as usize)) {
            // The last piece of a bitmap ends in its own cluster.
            let holds = |bits: &Bits| bits.at <= at && at < bits.at + bits.count.div_ceil(8);
            let (kind, governs) = match governs(at) {
                _ if found.bitmap.iter().any(holds) => ("bitmap", Governs::Bits),
                true => ("rest that governs", Governs::All),
                false => ("rest", Governs::Nothing),
            };
            found.add(kind, Region { at, length: PIECE, number: 0, governs, seal: None });
        }
    }
}

/// What a parser read: offsets and lengths.
struct Reads(Vec<(u64, u64)>);

impl Reads {
    fn meet(&self, at: u64, length: u64) -> bool {
        self.0.iter().any(|&(start, count)| start < at + length && at < start + count)
    }
}

struct Traced<'a> {
    image: Damaged<'a>,
    reads: Mutex<Vec<(u64, u64)>>,
}

impl ReadAt for Traced<'_> {
    fn length(&self) -> u64 {
        self.image.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let length = buffer.len() as u64;
        let mut reads = self.reads.lock().unwrap();
        match reads.last_mut() {
            Some(last) if last.0 + last.1 == offset => last.1 += length,
            _ => reads.push((offset, length)),
        }
        self.image.read_at(offset, buffer)
    }
}

/// Puts a CRC-32C (stored little-endian, its own field counted as zeros) right.
fn seal_crc32c(damaged: &mut Damaged, region: &Region, field: usize) {
    let mut bytes = damaged.get(region.at, region.length as usize);
    bytes[field..field + 4].fill(0);
    damaged.set(region.at + field as u64, &crc32c::crc32c(&bytes).to_le_bytes());
}
