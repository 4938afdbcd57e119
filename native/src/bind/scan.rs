//! What a scan says, for TypeScript.

use napi::bindgen_prelude::{BigUint64Array, Buffer, Either, Null};
use napi_derive::napi;

use super::snapshot::{DiskScan, lock};
use crate::fs::{Content, Extent, ExtentKind, Kind, Outcome, btrfs};
use crate::scan::{Named, Scan};

/// A partition and what is on it. Offsets and sizes in bytes.
#[napi(object)]
pub struct VolumeFacts {
    pub index: u32,
    pub start: f64,
    pub length: f64,
    /// Type GUID or MBR type byte.
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

#[napi(object)]
pub struct DiskFacts {
    pub size: f64,
    /// "gpt", "mbr" or "none".
    pub table: String,
    pub id: String,
    pub sector_bytes: u32,
    pub doubts: Vec<String>,
    pub volumes: Vec<VolumeFacts>,
}

/// One stream of a file under one of its names.
#[napi(object)]
pub struct MapLine {
    pub partition: u32,
    pub path: Buffer,
    pub inode: f64,
    /// btrfs: the id of the subvolume, in which `inode` is a number; else 0.
    pub subvolume: f64,
    /// As `fs::Kind`: 1 file, 2 directory, 3 symlink, 4 block, 5 character, 6 fifo, 7 socket.
    pub kind: u8,
    pub size: f64,
    pub resident: bool,
    /// Rows of four: logical, disk, length, kind (0 plain, 1 unwritten, 2 compressed, 3 encrypted, 4 packed).
    pub extents: BigUint64Array,
}

pub fn facts(scan: &Scan) -> DiskFacts {
    DiskFacts {
        size: scan.size as f64,
        table: format!("{:?}", scan.table.kind).to_lowercase(),
        id: scan.table.id.clone(),
        sector_bytes: scan.table.sector_bytes,
        doubts: scan.table.doubts.clone(),
        volumes: scan.volumes.iter().map(volume_facts).collect(),
    }
}

fn volume_facts(volume: &crate::cut::MappedVolume) -> VolumeFacts {
    let partition = &volume.partition;
    let mut facts = VolumeFacts {
        index: partition.index,
        start: partition.start as f64,
        length: partition.length as f64,
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
        allocated: partition.length as f64,
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
    let kind = match extent.kind {
        ExtentKind::Plain => 0,
        ExtentKind::Unwritten => 1,
        ExtentKind::Compressed { .. } => 2,
        ExtentKind::Encrypted => 3,
        ExtentKind::Packed { .. } => 4,
    };
    (extent.logical < size).then_some([extent.logical, extent.disk, extent.length, kind])
}

fn line(scan: &Scan, named: &Named) -> MapLine {
    let map = scan.map(named.volume).expect("a named file is on a mapped volume");
    let file = &map.files[named.file];
    let (inode, subvolume) = match map.subvolumes.get(btrfs::subvolume_index(file.number)) {
        Some(subvolume) => (btrfs::inode_number(file.number), *subvolume),
        None => (file.number, 0),
    };
    let stream = named.stream.map(|stream| &file.streams[stream]);
    let cluster = u64::from(map.cluster_bytes.max(1));
    let (size, content) = stream.map_or((0, None), |stream| (stream.size, Some(&stream.content)));
    let end = size.div_ceil(cluster) * cluster;
    let extents = match content {
        Some(Content::Extents(extents)) => extents.as_slice(),
        _ => &[],
    };
    let clipped = extents.iter().filter_map(|extent| row(extent, end)).flat_map(|[logical, disk, length, kind]| {
        // Compressed bytes may reach past the end of the file; they belong to it whole.
        [logical, disk, if kind == 2 || kind == 4 { length } else { length.min(end - logical) }, kind]
    });
    MapLine {
        partition: scan.volumes[named.volume].partition.index,
        path: named.path.clone().into(),
        inode: inode as f64,
        subvolume: subvolume as f64,
        kind: file.kind as u8,
        size: size as f64,
        resident: matches!(content, Some(Content::Resident(_))),
        extents: clipped.collect::<Vec<_>>().into(),
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

/// The names of a scan, held while they are listed.
#[napi]
pub struct MapListing {
    names: Vec<Named>,
    next: usize,
}

/// Bytes under a name.
#[napi(object)]
pub struct Share {
    pub name: String,
    pub bytes: f64,
}

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

    #[napi]
    pub fn left_out(&self) -> Vec<LeftOut> {
        let left_out = |exclusion: &crate::exclude::Exclusion| LeftOut {
            partition: exclusion.partition,
            what: exclusion.what.into(),
            path: String::from_utf8_lossy(&exclusion.path).into_owned(),
            bytes: exclusion.ranges.iter().map(|range| range.length).sum::<u64>() as f64,
        };
        lock(&self.scan).exclusions.iter().map(left_out).collect()
    }

    #[napi]
    pub fn facts(&self) -> DiskFacts {
        facts(&lock(&self.scan))
    }

    #[napi]
    pub fn listing(&self) -> MapListing {
        MapListing { names: lock(&self.scan).names(), next: 0 }
    }

    /// The next `count` lines of a listing; empty at its end.
    #[napi]
    pub fn lines(&self, listing: &mut MapListing, count: u32) -> Vec<MapLine> {
        let scan = lock(&self.scan);
        let end = listing.names.len().min(listing.next + count as usize);
        let lines = listing.names[listing.next..end].iter().map(|named| line(&scan, named)).collect();
        listing.next = end;
        lines
    }
}
