//! A disk whose tables were read, and what they say.

use std::sync::{Arc, Mutex};

use napi::bindgen_prelude::{AsyncTask, BigUint64Array, Buffer, Either, Float64Array, Null, Result};
use napi_derive::napi;

use super::{Job, job, lock, thrown};
use crate::base::error::Error;
use crate::disk::sandbox::{self, Confinement};
use crate::disk::source::Source;
use crate::disk::volume::ReadAt;
use crate::fs::volume_map::{Content, Extent, Kind};
use crate::fs::{self, Outcome, btrfs};
use crate::map::picture;
use crate::map::scan::{Listing, Named, Scan};

/// A disk whose tables were read.
#[napi]
pub struct DiskScan {
    pub(super) source: Arc<Source>,
    pub(super) facts: DiskFacts,
    pub(super) scan: Arc<Mutex<Scan>>,
}

/// Opens a block device or image file read-only and reads its tables. `everything`: nothing in use is left out.
/// `flushed`: where volumes begin whose tables are whole now, whatever their journals say.
#[napi(ts_return_type = "Promise<DiskScan>")]
pub fn scan_disk(path: String, everything: bool, flushed: Option<Vec<f64>>) -> AsyncTask<Job<DiskScan>> {
    job(move || {
        let source = Arc::new(Source::open(&path)?);
        let flushed: Vec<u64> = flushed.unwrap_or_default().into_iter().map(|start| start as u64).collect();
        let work = || Scan::of_flushed(source.as_ref(), everything, &flushed);
        let (scan, confinement) = sandbox::run(&[source.descriptor()], work)?;
        let facts = DiskFacts::of(&scan, confinement);
        Ok(DiskScan { source, facts, scan: Arc::new(Mutex::new(scan)) })
    })
}

/// Types of mounts (/proc/mounts) that may be frozen: those whose frozen state was compared with what it is restored to.
#[napi]
pub fn freezable_types() -> Vec<String> {
    fs::freezable().map(String::from).collect()
}

#[napi]
impl DiskScan {
    /// Bytes of the disk.
    #[napi(getter)]
    pub fn size_bytes(&self) -> f64 {
        self.source.length() as f64
    }

    /// Sorted, disjoint: start and length alternate.
    #[napi]
    pub fn allocated(&self) -> BigUint64Array {
        let ranges = lock(&self.scan).allocated();
        ranges.iter().flat_map(|range| [range.start, range.length]).collect::<Vec<_>>().into()
    }

    /// Lets go of the disk: nothing more is read from it.
    #[napi]
    pub fn close(&self) {
        self.source.close();
    }

    /// Lets go of the file maps; only `sizeBytes` is right after that.
    #[napi]
    pub fn release(&self) {
        drop(lock(&self.scan).take_maps());
    }
}

/// A partition and what is on it. Offsets and sizes in bytes.
#[napi(object)]
#[derive(Clone)]
pub struct VolumeFacts {
    pub index: u32,
    pub start: f64,
    pub length: f64,
    /// Of a logical volume, the partition that it lies in.
    pub within: Either<u32, Null>,
    /// Where its bytes lie, in its own order: start and length alternate.
    pub pieces: Vec<f64>,
    /// Type GUID or MBR type byte; "lvm2" for a logical volume.
    pub kind: String,
    pub name: String,
    /// What the tables or magic bytes say; "unknown" where nothing does.
    pub file_system: String,
    /// Why it is read raw; null where it was mapped.
    pub raw: Either<String, Null>,
    pub label: String,
    pub uuid: String,
    pub cluster_bytes: u32,
    pub dirty: bool,
    /// The number of the root directory.
    pub root: f64,
    pub files: u32,
    pub resident_files: u32,
    pub resident_bytes: f64,
    pub extents: f64,
    /// Files whose extents do not follow each other on the disk.
    pub fragmented_files: u32,
    /// Bytes of all extents of files.
    pub content_bytes: f64,
    pub allocated: f64,
    pub doubts: Vec<String>,
}

/// A disk by its partition table. `size` in bytes; `id` as the table has it; `doubts`: sentences about what of the
/// table could not be read.
#[napi(object)]
#[derive(Clone)]
pub struct DiskFacts {
    pub size: f64,
    /// "gpt", "mbr" or "none".
    pub table: String,
    pub id: String,
    pub sector_bytes: u32,
    pub doubts: Vec<String>,
    pub volumes: Vec<VolumeFacts>,
    /// What the kernel held the parsers with: "landlock", "seccomp".
    pub confined: Vec<String>,
}

/// Some lines of a listing, each one stream of a file under one of its names. Columns, not objects: a million buffers
/// and arrays of their own take ten times as long to hand over as to make.
#[napi(object)]
pub struct MapLines {
    /// All paths, one behind the other.
    pub paths: Buffer,
    /// Rows of eight: partition, end of its path in `paths`, inode, subvolume (btrfs: the id of the one in which `inode`
    /// is a number; else 0), kind (`fs::Kind`: 1 file, 2 directory, 3 symlink, 4 block, 5 character, 6 fifo, 7 socket),
    /// size, resident (0 or 1), end of its extents in `extents`.
    pub lines: Float64Array,
    /// Rows of four: logical, disk, length, kind (0 plain, 1 unwritten, 2 compressed, 3 encrypted, 4 packed).
    pub extents: Float64Array,
}

impl DiskFacts {
    /// From a scan, and from what the kernel held its parsers with.
    pub fn of(scan: &Scan, confinement: Confinement) -> Self {
        let confined = [(confinement.landlock, "landlock"), (confinement.seccomp, "seccomp")];
        Self {
            size: scan.size as f64,
            table: format!("{:?}", scan.table.kind).to_lowercase(),
            id: scan.table.id.clone(),
            sector_bytes: scan.table.sector_bytes,
            doubts: scan.table.doubts.clone(),
            volumes: scan.volumes.iter().map(volume_facts).collect(),
            confined: confined.into_iter().filter(|(on, _)| *on).map(|(_, by)| by.into()).collect(),
        }
    }
}

fn volume_facts(volume: &crate::map::cut::MappedVolume) -> VolumeFacts {
    let partition = &volume.partition;
    let mut facts = VolumeFacts {
        index: partition.index,
        start: partition.start as f64,
        length: partition.length as f64,
        within: volume.within.map_or(Either::B(Null), Either::A),
        pieces: volume.pieces.iter().flat_map(|piece| [piece.start as f64, piece.length as f64]).collect(),
        kind: partition.kind.clone(),
        name: partition.name.clone(),
        file_system: String::new(),
        raw: Either::B(Null),
        label: String::new(),
        uuid: String::new(),
        cluster_bytes: 0,
        dirty: false,
        root: 0.0,
        files: 0,
        resident_files: 0,
        resident_bytes: 0.0,
        extents: 0.0,
        fragmented_files: 0,
        content_bytes: 0.0,
        allocated: volume.pieces.iter().map(|piece| piece.length).sum::<u64>() as f64,
        doubts: vec![],
    };
    match &volume.outcome {
        Outcome::Raw { found, reason } => {
            facts.file_system = (*found).into();
            facts.raw = Either::A(reason.clone());
        }
        Outcome::Mapped(map) => {
            facts.file_system = map.file_system.into();
            facts.label.clone_from(&map.label);
            facts.uuid.clone_from(&map.uuid);
            facts.cluster_bytes = map.cluster_bytes;
            facts.dirty = map.dirty;
            facts.root = map.root as f64;
            facts.files = map.files.len() as u32;
            facts.doubts.clone_from(&map.doubts);
            facts.allocated = map.allocated.iter().map(|range| range.length).sum::<u64>() as f64;
            for file in &map.files {
                for stream in &file.streams {
                    let content_of_file = stream.name.is_empty() && file.kind == Kind::File;
                    count(&mut facts, &stream.content, content_of_file);
                }
            }
        }
    }
    facts
}

/// Named streams, and targets of symbolic links, count as bytes in use, not as files.
fn count(facts: &mut VolumeFacts, content: &Content, of_file: bool) {
    match content {
        Content::Resident(bytes) if of_file => {
            facts.resident_files += 1;
            facts.resident_bytes += bytes.len() as f64;
        }
        Content::Resident(_) => {}
        Content::Extents(extents) => {
            facts.extents += extents.len() as f64;
            facts.content_bytes += extents.iter().map(|extent| extent.length).sum::<u64>() as f64;
            let apart = |pair: &[Extent]| pair[0].disk + pair[0].length != pair[1].disk;
            facts.fragmented_files += u32::from(of_file && extents.windows(2).any(apart));
        }
    }
}

/// Extents up to the end of the stream: what was allocated past it is no part of the file.
fn row(extent: &Extent, size: u64) -> Option<[u64; 4]> {
    (extent.logical < size).then_some([extent.logical, extent.disk, extent.length, extent.kind.number().into()])
}

#[derive(Default)]
struct Columns {
    paths: Vec<u8>,
    lines: Vec<f64>,
    extents: Vec<f64>,
}

impl Columns {
    fn push(&mut self, named: Named) {
        let Named { volume, map, file, stream, path } = named;
        let (inode, subvolume) = match map.subvolumes.get(btrfs::subvolume_index(file.number)) {
            Some(subvolume) => (btrfs::inode_number(file.number), *subvolume),
            None => (file.number, 0),
        };
        let size = stream.map_or(0, |stream| stream.size);
        let cluster = u64::from(map.cluster_bytes.max(1));
        let end = size.div_ceil(cluster) * cluster;
        let content = stream.map(|stream| &stream.content);
        if let Some(Content::Extents(extents)) = content {
            for [logical, disk, length, kind] in extents.iter().filter_map(|extent| row(extent, end)) {
                // Compressed bytes may reach past the end of the file; they belong to it whole.
                let length = if kind == 2 || kind == 4 { length } else { length.min(end - logical) };
                self.extents.extend([logical, disk, length, kind].map(|number| number as f64));
            }
        }
        self.paths.extend(path);
        self.lines.extend([
            f64::from(volume.partition.index),
            self.paths.len() as f64,
            inode as f64,
            subvolume as f64,
            f64::from(file.kind as u8),
            size as f64,
            f64::from(u8::from(matches!(content, Some(Content::Resident(_))))),
            self.extents.len() as f64,
        ]);
    }
}

/// What a snapshot leaves out on purpose.
#[napi(object)]
pub struct LeftOut {
    pub partition: u32,
    /// "swap partition", "swap file", "page file", "hibernation file" or "journal".
    pub what: String,
    /// From the volume's root; empty where it is no file.
    pub path: String,
    pub bytes: f64,
}

/// Where a listing is.
#[napi]
pub struct MapListing(Listing);

/// A volume by its index among `facts().volumes`, or the whole disk, and the number of cells to show it in.
#[napi(object)]
pub struct WantedStrip {
    pub volume: Either<u32, Null>,
    pub cells: u32,
}

/// Bytes under a name.
#[napi(object)]
pub struct Share {
    pub name: String,
    pub bytes: f64,
}

/// Bytes of files, the largest sums first.
#[napi(object)]
pub struct Census {
    /// By the ending of names.
    pub types: Vec<Share>,
    /// By user id.
    pub owners: Vec<Share>,
}

#[napi]
impl DiskScan {
    /// Bytes of files by type and owner, the `most` largest of each.
    #[napi]
    pub fn census(&self, most: u32) -> Census {
        let [types, owners] = lock(&self.scan).census(most as usize);
        let shares = |rows: Vec<(String, u64)>| {
            rows.into_iter().map(|(name, bytes)| Share { name, bytes: bytes as f64 }).collect()
        };
        Census { types: shares(types), owners: shares(owners) }
    }

    /// Of each volume its cells: bytes outside of partitions, of metadata, files, free, raw, unsettled, left out
    /// (`picture::Kind`).
    #[napi]
    pub fn strips(&self, wanted: Vec<WantedStrip>) -> Result<Vec<Float64Array>> {
        let scan = lock(&self.scan);
        let asked = wanted.iter().map(|one| match one.volume {
            Either::A(volume) if volume as usize >= scan.volumes.len() => Err(Error::invalid("volume", "no such one")),
            Either::A(volume) => Ok((Some(volume as usize), one.cells as usize)),
            Either::B(Null) => Ok((None, one.cells as usize)),
        });
        let asked: Vec<_> = asked.collect::<crate::base::error::Result<_>>().map_err(thrown)?;
        let rows = picture::strips(&scan, &asked).into_iter().map(|cells| cells.into_iter().flatten());
        Ok(rows.map(|row| row.map(|bytes| bytes as f64).collect::<Vec<_>>().into()).collect())
    }

    /// Bytes of files that lie in their own records.
    #[napi]
    pub fn resident_bytes(&self) -> f64 {
        picture::resident_bytes(&lock(&self.scan)) as f64
    }

    /// What a snapshot of this disk would leave out on purpose; none with `everything`.
    #[napi]
    pub fn left_out(&self) -> Vec<LeftOut> {
        let left_out = |exclusion: &crate::map::exclude::Exclusion| LeftOut {
            partition: exclusion.partition,
            what: exclusion.what.into(),
            path: String::from_utf8_lossy(&exclusion.path).into_owned(),
            bytes: exclusion.ranges.iter().map(|range| range.length).sum::<u64>() as f64,
        };
        lock(&self.scan).exclusions.iter().map(left_out).collect()
    }

    /// What the tables said when they were read.
    #[napi]
    pub fn facts(&self) -> DiskFacts {
        self.facts.clone()
    }

    /// The start of a listing of all files, for `lines`.
    #[napi]
    pub fn listing(&self) -> MapListing {
        MapListing(Listing::new(&lock(&self.scan)))
    }

    /// The next lines of a listing, about `count`; none at its end.
    #[napi]
    pub fn lines(&self, listing: &mut MapListing, count: u32) -> MapLines {
        let mut columns = Columns::default();
        listing.0.next(&lock(&self.scan), count as usize, |named| columns.push(named));
        let Columns { paths, lines, extents } = columns;
        MapLines { paths: paths.into(), lines: lines.into(), extents: extents.into() }
    }
}
