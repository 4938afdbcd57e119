//! Builds the manifest of a snapshot (docs/formats/page.md): leaves of the map, file and directory trees, the index pages
//! above them, the root. Pages come out in batches, go the way of all blocks, and come back with their birth numbers.
//!
//! Invariant: a page is built only from pages that are stored already, so the root is last.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::base::error::{Error, Result};
use crate::base::limits::{MAP_PAGE_BYTES, PAGE_BYTES};
use crate::base::ranges::{ByteRange, coalesce, without};
use crate::formats::file_record;
use crate::formats::names::Runs;
use crate::formats::page::{self, DirectoryRow, IndexEntry, MapEntry, Ref, Top, Tree};
use crate::fs::volume_map::{File, VolumeMap};
use crate::map::owners;
use crate::snapshot::batch::{BATCH_BYTES, Batch};
use crate::snapshot::parent::ParentWriter;
use crate::snapshot::spill::Spill;

/// Numbers (inodes, MFT records, parents) that one leaf covers.
const LEAF_NUMBERS: u64 = 256;
/// A leaf is closed early at this size.
const LEAF_BYTES: usize = 1 << 20;
/// Children of an index page.
const FAN_OUT: usize = 1024;

/// A page that is not stored yet, and the keys it covers.
struct Waiting {
    tree: usize,
    level: u8,
    first: u64,
    last: u64,
    bytes: Vec<u8>,
}

struct Growing {
    tree: Tree,
    volume: u32,
    level: u8,
    entries: Vec<IndexEntry>,
}

pub struct Manifest {
    runs: Arc<Mutex<Runs>>,
    map: Spill,
    volumes: VecDeque<(u32, VolumeMap)>,
    trees: Vec<Growing>,
    waiting: VecDeque<Waiting>,
    root: Option<Ref>,
    /// Of the batch that was given out and is not stored yet: tree, level, first and last key of each page, in order.
    out: Vec<(usize, u8, u64, u64)>,
    leaves_done: bool,
    /// What the source refused.
    unreadable: Vec<ByteRange>,
    /// Takes the map for the next snapshot.
    kept: Option<ParentWriter>,
}

impl Manifest {
    /// `folder` takes the spilled part of large maps; `runs` has the names of all births.
    pub fn new(folder: &str, runs: Arc<Mutex<Runs>>) -> Self {
        let map = Growing { tree: Tree::Map, volume: 0, level: 0, entries: vec![] };
        Self {
            runs,
            map: Spill::new(folder),
            volumes: VecDeque::new(),
            trees: vec![map],
            waiting: VecDeque::new(),
            root: None,
            out: vec![],
            leaves_done: false,
            unreadable: vec![],
            kept: None,
        }
    }

    fn names(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().expect("no holder of this lock panics")
    }

    /// This set of bytes is read again: the blocks added from now on count instead of those that were added before.
    pub fn begin_pass(&mut self, again: &[ByteRange]) {
        self.map.begin_pass();
        self.unreadable = without(&coalesce(std::mem::take(&mut self.unreadable)), again);
    }

    /// All blocks were added. These are the file maps of what is held, and the set of bytes that must be: each of them was
    /// added, and what else was added is dropped.
    pub fn complete(&mut self, volumes: Vec<(u32, VolumeMap)>, held: Vec<ByteRange>) {
        let unreadable = coalesce(std::mem::take(&mut self.unreadable));
        self.unreadable = without(&unreadable, &without(&unreadable, &held));
        self.volumes = volumes.into();
        self.map.hold_only(held);
    }

    /// What is stored from now on of the map goes into `kept` too.
    pub fn keep(&mut self, kept: ParentWriter) {
        self.kept = Some(kept);
    }

    /// Once the snapshot is visible: the next one may build on it, unless it could not be kept.
    pub fn finish_kept(&mut self) -> bool {
        self.kept.take().is_some_and(|kept| kept.finish().is_ok())
    }

    /// Adds an appended batch of blocks to the map: which bytes of the disk they are.
    pub fn add_blocks(&mut self, batch: &Batch) -> Result<()> {
        for entry in &batch.reused {
            self.map.push(*entry)?;
        }
        let mut from = 0;
        for item in &batch.items {
            let mut in_block = 0;
            for piece in &batch.pieces[from..item.pieces_end] {
                let block = match (piece.unreadable, item.zero) {
                    (true, _) => Ref::UNREADABLE,
                    (false, true) => Ref::ZEROS,
                    (false, false) => Ref { key: item.key, birth: item.birth },
                };
                if piece.unreadable {
                    self.unreadable.push(ByteRange { start: piece.disk, length: piece.length.into() });
                }
                self.map.push(MapEntry { disk: piece.disk, length: piece.length, in_block, block })?;
                in_block += piece.length;
            }
            from = item.pieces_end;
        }
        Ok(())
    }

    /// What the source refused, in order.
    pub fn unreadable(&mut self) -> &[ByteRange] {
        self.unreadable = coalesce(std::mem::take(&mut self.unreadable));
        &self.unreadable
    }

    /// At most `most` files that lie in a set of ranges, as `/<partition>/<path>`. Before any page was asked for.
    pub fn files_at(&self, ranges: &[ByteRange], most: usize) -> Vec<Vec<u8>> {
        let named = |(partition, map): &(u32, VolumeMap)| {
            let paths = owners::files_at(map, ranges, most).into_iter();
            let partition = *partition;
            paths.map(move |path| [format!("/{partition}").as_bytes(), &path].concat()).collect::<Vec<_>>()
        };
        self.volumes.iter().flat_map(named).take(most).collect()
    }

    /// The next pages to store; `None` when all trees have one top.
    pub fn next_pages(&mut self) -> Result<Option<Batch>> {
        assert!(self.out.is_empty(), "the last batch of pages was stored");
        let mut pages = Vec::new();
        let mut total = 0;
        while total < BATCH_BYTES / 2 {
            if self.waiting.is_empty() {
                // Index pages wait until the level below has come back.
                if self.leaves_done && !pages.is_empty() {
                    break;
                }
                self.fill()?;
            }
            let Some(page) = self.waiting.pop_front() else { break };
            if page.bytes.len() > PAGE_BYTES {
                // No reader would open it: better no snapshot than one that cannot be restored.
                let number = page.first;
                return Err(Error::unsupported(format!(
                    "file {number}, whose record takes {} bytes,",
                    page.bytes.len()
                )));
            }
            total += page.bytes.len();
            self.out.push((page.tree, page.level, page.first, page.last));
            pages.push(page.bytes);
        }
        Ok((!pages.is_empty()).then(|| Batch::of_pages(pages.into_iter())))
    }

    /// Takes the birth numbers of the batch that `next_pages` or `root` gave.
    pub fn stored(&mut self, batch: &Batch) -> Result<()> {
        if self.leaves_done && self.out.is_empty() && batch.items.len() == 1 {
            self.root = Some(Ref { key: batch.items[0].key, birth: batch.items[0].birth });
            return Ok(());
        }
        if self.out.len() != batch.items.len() {
            return Err(Error::invalid("pages", "not the batch that is out"));
        }
        for ((tree, level, first, last), item) in self.out.drain(..).zip(&batch.items) {
            let tree = &mut self.trees[tree];
            if level > tree.level {
                tree.level = level;
                tree.entries.clear();
            }
            tree.entries.push(IndexEntry { first, last, child: Ref { key: item.key, birth: item.birth } });
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<()> {
        if let Some(window) = self.map.next_window(MAP_PAGE_BYTES)? {
            let (base, entries) = window;
            // Without it the next snapshot reads everything; this one is none the worse.
            let runs = self.runs.lock().expect("no holder of this lock panics");
            if self.kept.as_mut().is_some_and(|kept| kept.add(&entries, &runs).is_err()) {
                self.kept = None;
            }
            let bytes = page::encode_map(base, &entries, &runs)?;
            self.waiting.push_back(Waiting { tree: 0, level: 0, first: base, last: base + MAP_PAGE_BYTES - 1, bytes });
        } else if let Some((volume, map)) = self.volumes.pop_front() {
            self.add_volume(volume, &map);
        } else {
            self.leaves_done = true;
            if self.out.is_empty() {
                self.add_index_level()?;
            }
        }
        Ok(())
    }

    fn add_volume(&mut self, volume: u32, map: &VolumeMap) {
        for (tree, leaves) in [(Tree::Files, file_leaves(&map.files)), (Tree::Directories, directory_leaves(map))] {
            let index = self.trees.len();
            self.trees.push(Growing { tree, volume, level: 0, entries: vec![] });
            let wait = |(first, last, bytes)| Waiting { tree: index, level: 0, first, last, bytes };
            self.waiting.extend(leaves.into_iter().map(wait));
        }
    }

    /// One level of index pages above each tree that has more than one page at its top.
    fn add_index_level(&mut self) -> Result<()> {
        let runs = self.runs.lock().expect("no holder of this lock panics");
        for (index, tree) in self.trees.iter().enumerate().filter(|(_, tree)| tree.entries.len() > 1) {
            for entries in tree.entries.chunks(FAN_OUT) {
                let (first, last) = (entries[0].first, entries[entries.len() - 1].last);
                let bytes = page::encode_index(tree.level + 1, entries, &runs)?;
                self.waiting.push_back(Waiting { tree: index, level: tree.level + 1, first, last, bytes });
            }
        }
        Ok(())
    }

    /// What opens the root page, once it was stored.
    pub fn root_ref(&self) -> Option<Ref> {
        self.root
    }

    /// The root page, once `next_pages` has nothing more.
    pub fn root(&mut self, description: &str) -> Result<Batch> {
        let top = |tree: &Growing| {
            let entry = tree.entries.first()?;
            Some(Top { tree: tree.tree, volume: tree.volume, level: tree.level, page: entry.child })
        };
        let tops: Vec<Top> = self.trees.iter().filter_map(top).collect();
        let page = page::encode_root(description, &tops, &self.names())?;
        Ok(Batch::of_pages(std::iter::once(page)))
    }
}

type Leaf = (u64, u64, Vec<u8>);

fn file_leaves(files: &[File]) -> Vec<Leaf> {
    let records =
        files.iter().flat_map(|file| file_record::encode_file(file).into_iter().map(|record| (file.number, record)));
    leaves(records, Vec::len, |records| page::encode_files(&records))
}

fn directory_leaves(map: &VolumeMap) -> Vec<Leaf> {
    let kind = |number: u64| {
        let found = map.files.binary_search_by_key(&number, |file| file.number);
        found.ok().map(|index| map.files[index].kind as u8)
    };
    // A name whose file could not be read is not shown; its clusters are kept all the same.
    let rows = map.entries.iter().filter_map(|entry| {
        let kind = kind(entry.child)?;
        Some((entry.parent, DirectoryRow { parent: entry.parent, child: entry.child, kind, name: entry.name.clone() }))
    });
    leaves(rows, |row| row.name.len() + 12, |rows| page::encode_directory(&rows))
}

/// Groups items by their number: a leaf ends at a multiple of `LEAF_NUMBERS`, or early when it is large.
fn leaves<T>(
    items: impl Iterator<Item = (u64, T)>,
    size: impl Fn(&T) -> usize,
    encode: impl Fn(Vec<T>) -> Vec<u8>,
) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    let (mut open, mut bytes, mut first, mut last) = (Vec::new(), 0, 0, 0);
    for (number, item) in items {
        if !open.is_empty() && (number / LEAF_NUMBERS != first / LEAF_NUMBERS || bytes + size(&item) > LEAF_BYTES) {
            leaves.push((first, last, encode(std::mem::take(&mut open))));
            bytes = 0;
        }
        if open.is_empty() {
            first = number;
        }
        last = number;
        bytes += size(&item);
        open.push(item);
    }
    if !open.is_empty() {
        leaves.push((first, last, encode(open)));
    }
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::RESIDENT_BYTES;
    use crate::base::secret::Secret;
    use crate::formats::names::RunName;
    use crate::formats::page::Page;
    use crate::formats::record::Domain;
    use crate::fs::volume_map::{Content, Stream};

    fn file(number: u64, streams: usize) -> File {
        let content = || Content::Resident(vec![7; RESIDENT_BYTES]);
        let stream = |index: usize| Stream { name: index.to_string().into(), size: 1, valid: 1, content: content() };
        File::of_streams(number, (0..streams).map(stream).collect())
    }

    /// One run.
    fn runs() -> Runs {
        let mut runs = Runs::default();
        runs.number(&RunName { writer: [1; 32], run: [2; 8] }).unwrap();
        runs
    }

    fn manifest(files: Vec<File>) -> Manifest {
        let mut manifest = Manifest::new("/nowhere", Arc::new(Mutex::new(runs())));
        manifest.complete(vec![(1, VolumeMap { files, ..VolumeMap::default() })], vec![]);
        manifest
    }

    #[test]
    fn a_page_that_no_reader_would_open_is_not_written() {
        assert!(manifest(vec![file(1, PAGE_BYTES / RESIDENT_BYTES)]).next_pages().is_err());
        assert!(manifest(vec![file(1, PAGE_BYTES / RESIDENT_BYTES - 1)]).next_pages().is_ok());
    }

    /// 3,000 leaves take two levels of index pages; each page names pages that were stored before it.
    #[test]
    fn a_tall_tree_has_one_top_and_every_leaf_is_below_it() {
        let domain = Domain::pages(&Secret::new([1; 32]));
        let mut manifest = manifest((0..3000).map(|leaf| file(leaf * LEAF_NUMBERS, 0)).collect());
        let (mut births, mut named) = (std::collections::HashMap::new(), std::collections::HashSet::new());
        let mut store = |batch: &mut Batch| {
            batch.hash(&domain);
            for item in &mut batch.items {
                let birth = 1 << 40 | births.len() as u64;
                let page = page::decode(&batch.bytes[item.start..item.start + item.length], &mut runs()).unwrap();
                let children: Vec<Ref> = match page {
                    Page::Index { entries, .. } => entries.iter().map(|entry| entry.child).collect(),
                    Page::Root { tops, .. } => {
                        assert_eq!(
                            tops.iter().map(|top| (top.tree, top.level)).collect::<Vec<_>>(),
                            [(Tree::Files, 2)]
                        );
                        tops.iter().map(|top| top.page).collect()
                    }
                    _ => vec![],
                };
                for child in children {
                    assert_eq!(births.get(&child.birth), Some(&child.key));
                    assert!(named.insert(child.birth), "named twice");
                }
                item.birth = birth;
                births.insert(birth, item.key);
            }
        };
        while let Some(mut batch) = manifest.next_pages().unwrap() {
            store(&mut batch);
            manifest.stored(&batch).unwrap();
        }
        let mut root = manifest.root("{}").unwrap();
        store(&mut root);
        manifest.stored(&root).unwrap();
        assert_eq!(manifest.root_ref().unwrap().birth, 1 << 40 | (births.len() as u64 - 1));
        assert_eq!(births.len(), 3000 + 3 + 1 + 1);
        assert_eq!(named.len(), births.len() - 1);
    }
}
