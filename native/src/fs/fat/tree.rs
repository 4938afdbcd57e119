//! What the directories of FAT and exFAT have in common: files and names collected from the root down.

use super::heap::{Chain, Heap};
use crate::fs::shared::Doubts;
use crate::fs::volume_map::{Content, DirectoryEntry, File, Kind, Stream, Timestamp};

pub const ROOT: u64 = 1;
const WRITE: u16 = 0o222;

/// A directory whose entries are not read yet.
pub struct Pending {
    pub number: u64,
    /// Byte offset in the volume and length.
    pub spans: Vec<(u64, u64)>,
}

/// One entry, with the clusters that it got.
pub struct Found {
    pub number: u64,
    pub name: Vec<u8>,
    pub directory: bool,
    pub read_only: bool,
    pub size: u64,
    pub valid: u64,
    pub chain: Chain,
    pub modified: Timestamp,
    pub created: Timestamp,
}

pub struct Tree {
    files: Vec<File>,
    entries: Vec<DirectoryEntry>,
    pending: Vec<Pending>,
}

impl Tree {
    pub fn new(root: Vec<(u64, u64)>) -> Self {
        let size = root.iter().map(|span| span.1).sum();
        let root_file = file(ROOT, Kind::Directory, 0o777, stream(size, size, Vec::new()));
        Self { files: vec![root_file], entries: Vec::new(), pending: vec![Pending { number: ROOT, spans: root }] }
    }

    /// Each directory has clusters that no other one has, so that this ends.
    pub fn next_directory(&mut self) -> Option<Pending> {
        self.pending.pop()
    }

    /// A file that lacks clusters is left out, a directory keeps those that it has.
    pub fn add(&mut self, heap: &mut Heap, parent: u64, found: Found) {
        let Found { number, name, directory, read_only, size, valid, chain, .. } = found;
        let short = (chain.clusters() * heap.cluster_bytes < size).then(|| "it has too few clusters".to_string());
        let why = chain.broken.clone().or(short);
        let shown = || String::from_utf8_lossy(&name).into_owned();
        let spans = if directory { heap.spans(&chain) } else { Vec::new() };
        if let Some(why) = why {
            if !directory || spans.is_empty() {
                heap.doubts.push(format!("{:?} (entry {number}): {why}; it is kept as clusters only", shown()));
                return;
            }
            heap.doubts.push(format!("directory {:?} (entry {number}): {why}; names may be missing", shown()));
        }
        let kind = if directory { Kind::Directory } else { Kind::File };
        let mode = match (directory, read_only) {
            (true, _) => 0o777,
            (false, true) => 0o666 & !WRITE,
            (false, false) => 0o666,
        };
        let extents = if directory { Vec::new() } else { heap.extents(&chain, size) };
        let mut file = file(number, kind, mode, stream(size, valid, extents));
        (file.modified, file.changed, file.created) = (found.modified, found.modified, found.created);
        self.files.push(file);
        self.entries.push(DirectoryEntry { parent, name, child: number });
        if directory {
            self.pending.push(Pending { number, spans });
        }
    }

    /// Sorted; of names that a directory has twice the one that comes first on the disk stays.
    pub fn finish(mut self, doubts: &mut Doubts) -> (Vec<File>, Vec<DirectoryEntry>) {
        self.files.sort_unstable_by_key(|file| file.number);
        self.entries.sort_unstable_by(|a, b| (a.parent, &a.name, a.child).cmp(&(b.parent, &b.name, b.child)));
        let before = self.entries.len();
        self.entries.dedup_by(|later, earlier| later.parent == earlier.parent && later.name == earlier.name);
        let twice = before - self.entries.len();
        if twice > 0 {
            doubts.push(format!("{twice} names are given twice in one directory, they were left out"));
        }
        self.files.shrink_to_fit();
        self.entries.shrink_to_fit();
        (self.files, self.entries)
    }
}

fn stream(size: u64, valid: u64, extents: Vec<crate::fs::volume_map::Extent>) -> Stream {
    Stream { name: Vec::new(), size, valid, content: Content::Extents(extents) }
}

fn file(number: u64, kind: Kind, mode: u16, stream: Stream) -> File {
    let none = Timestamp::default();
    File {
        number,
        generation: 0,
        kind,
        mode,
        uid: 0,
        gid: 0,
        links: 1,
        device: 0,
        modified: none,
        changed: none,
        created: none,
        xattrs: Vec::new(),
        streams: vec![stream],
        opaque: Vec::new(),
    }
}
