//! A subvolume's tree into files and names. All items of an inode follow each other, its INODE_ITEM first; an inode
//! without one, or with a part in a node that is lost, is left out: a missing extent would look like a hole.

use std::collections::HashMap;

use super::content::{EXTENT_DATA, Gathered};
use super::inode::{INODE_ITEM, Inode};
use super::key::{Key, Pointer};
use super::names::{self, DIR_INDEX, XATTR_ITEM};
use super::reader::Btrfs;
use super::roots::{FIRST_FREE, LAST_FREE, ROOT_ITEM, Roots};
use super::tree::{self, Found};
use crate::base::error::{Error, Result};
use crate::base::limits::XATTR_BYTES;
use crate::fs::shared::Doubts;
use crate::fs::volume_map::{Content, DirectoryEntry, File, Kind, Stream};

/// A file's number has its inode's below this bit, and its subvolume's index in the list above.
pub const SUBVOLUME_SHIFT: u32 = 32;
/// 16 bits of a file's number.
const SUBVOLUMES: usize = 1 << 16;

/// All subvolumes; returns their ids, by the index that is in their files' numbers.
pub fn read_all(
    btrfs: &Btrfs,
    roots: &Roots,
    files: &mut Vec<File>,
    entries: &mut Vec<DirectoryEntry>,
    doubts: &mut Doubts,
) -> Vec<u64> {
    let subvolumes: Vec<(u64, Pointer)> = roots.subvolumes().take(SUBVOLUMES).collect();
    if roots.subvolumes().count() > SUBVOLUMES {
        doubts.push(format!("only the first {SUBVOLUMES} subvolumes are read as files"));
    }
    let ids: HashMap<u64, u64> = subvolumes.iter().enumerate().map(|(index, (id, _))| (*id, index as u64)).collect();
    for (index, (id, top)) in subvolumes.iter().enumerate() {
        let base = (index as u64) << SUBVOLUME_SHIFT;
        let mut reader =
            Reader { btrfs, roots, ids: &ids, id: *id, base, files, entries, doubts, current: None, too_many: false };
        tree::walk(btrfs, *top, |found| match found {
            Found::Item(key, item) => reader.item(key, item),
            Found::Lost { from, error } => reader.lost(from, &error),
        });
        reader.finish();
    }
    subvolumes.into_iter().map(|(id, _)| id).collect()
}

struct Reader<'a, 'b> {
    btrfs: &'a Btrfs<'b>,
    roots: &'a Roots,
    /// Subvolumes to their index.
    ids: &'a HashMap<u64, u64>,
    id: u64,
    /// Added to inode numbers.
    base: u64,
    files: &'a mut Vec<File>,
    entries: &'a mut Vec<DirectoryEntry>,
    doubts: &'a mut Doubts,
    current: Option<Current>,
    too_many: bool,
}

/// The inode whose items are being met.
struct Current {
    number: u64,
    /// Why it is left out.
    inode: Result<Inode>,
    content: Gathered,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    xattr_bytes: usize,
    entries: Vec<DirectoryEntry>,
}

impl Reader<'_, '_> {
    fn item(&mut self, key: Key, item: &[u8]) {
        if !(FIRST_FREE..=LAST_FREE).contains(&key.objectid) || self.too_many {
            return;
        }
        if self.current.as_ref().is_none_or(|current| current.number != key.objectid) {
            self.finish();
            if self.files.len() as u64 >= self.btrfs.files_most() {
                self.too_many = true;
                let most = self.btrfs.files_most();
                self.doubts.push(format!("more than {most} files: the rest is kept as blocks only"));
                return;
            }
            self.current = Some(Current::begin(key, item));
        }
        let Some(mut current) = self.current.take() else { return };
        if current.inode.is_ok() {
            self.part(&mut current, key, item);
        }
        self.current = Some(current);
    }

    /// An item behind the INODE_ITEM.
    fn part(&mut self, current: &mut Current, key: Key, item: &[u8]) {
        match key.kind {
            EXTENT_DATA => {
                if let Err(error) = current.content.add(self.btrfs, key, item) {
                    current.inode = Err(error);
                }
            }
            DIR_INDEX => {
                if let Err(error) = self.entry(current, key, item) {
                    self.doubts.push(format!("subvolume {}: {error}; the name is left out", self.id));
                }
            }
            XATTR_ITEM => {
                if let Err(error) = self.attributes(current, key, item) {
                    self.doubts.push(format!("subvolume {}: {error}; such attributes are left out", self.id));
                }
            }
            _ => {}
        }
    }

    fn entry(&self, current: &mut Current, key: Key, item: &[u8]) -> Result<()> {
        for name in names::decode(key.objectid, item)? {
            let location = name.location;
            let number = match location.kind {
                INODE_ITEM => self.base + below_32_bits(location.objectid)?,
                ROOT_ITEM => match self.subvolume_at(key.objectid, location.objectid, name.name) {
                    Some(number) => number,
                    // In a snapshot: the kernel shows an empty folder.
                    None => continue,
                },
                kind => {
                    let why = format!("a name leads to a key of type {kind}");
                    return Err(Error::corrupt("btrfs inode", key.objectid, why));
                }
            };
            if !names::is_entry(name.name) {
                return Err(Error::corrupt("btrfs inode", key.objectid, "a name holds a slash or is dots only"));
            }
            let parent = self.base + current.number;
            current.entries.push(DirectoryEntry { parent, name: name.name.to_vec(), child: number });
        }
        Ok(())
    }

    /// The root directory of a subvolume, where it is entered here and not only in what this one is a snapshot of.
    fn subvolume_at(&self, directory: u64, child: u64, name: &[u8]) -> Option<u64> {
        let (entrance_directory, entrance_name) = self.roots.entrances.get(&(self.id, child))?;
        let here = *entrance_directory == directory && entrance_name == name;
        let index = self.ids.get(&child).filter(|_| here)?;
        Some((index << SUBVOLUME_SHIFT) + FIRST_FREE)
    }

    fn attributes(&self, current: &mut Current, key: Key, item: &[u8]) -> Result<()> {
        for name in names::decode(key.objectid, item)? {
            let bytes = name.name.len() + name.data.len();
            current.xattr_bytes += bytes;
            if current.xattr_bytes > XATTR_BYTES || !self.btrfs.spend_attribute_bytes(bytes) {
                let why = "more extended attributes than are read";
                return Err(Error::corrupt("btrfs inode", key.objectid, why));
            }
            current.xattrs.push((name.name.to_vec(), name.data.to_vec()));
        }
        Ok(())
    }

    fn lost(&mut self, from: Option<Key>, error: &Error) {
        self.doubts.push(format!("subvolume {}: {error}; what it holds is kept as blocks only", self.id));
        let cut = |current: &&mut Current| from.is_none_or(|from| from.objectid <= current.number);
        if let Some(current) = self.current.as_mut().filter(cut) {
            // A directory still has the names that were met.
            if current.inode.as_ref().is_ok_and(|inode| inode.kind != Kind::Directory) {
                let why = "a part of it cannot be read";
                current.inode = Err(Error::corrupt("btrfs inode", current.number, why));
            }
        }
    }

    /// The inode that was met last is complete.
    fn finish(&mut self) {
        let Some(current) = self.current.take() else { return };
        let number = current.number;
        match current.build(self.base, self.entries) {
            Ok(file) => self.files.extend(file),
            Err(error) => {
                let id = self.id;
                self.doubts.push(format!("subvolume {id}: inode {number}: {error}; it is kept as blocks only"));
            }
        }
    }
}

impl Current {
    fn begin(key: Key, item: &[u8]) -> Self {
        let inode = match key.kind {
            INODE_ITEM => below_32_bits(key.objectid).and_then(|number| Inode::decode(number, item)),
            _ => Err(Error::corrupt("btrfs inode", key.objectid, "its inode item is missing")),
        };
        Self {
            number: key.objectid,
            inode,
            content: Gathered::default(),
            xattrs: Vec::new(),
            xattr_bytes: 0,
            entries: Vec::new(),
        }
    }

    /// `None`: nobody names it any more.
    fn build(self, base: u64, entries: &mut Vec<DirectoryEntry>) -> Result<Option<File>> {
        let inode = self.inode?;
        if inode.links == 0 {
            return Ok(None);
        }
        let stream = |size, valid, content| vec![Stream { name: Vec::new(), size, valid, content }];
        let streams = match inode.kind {
            Kind::File => stream(inode.size, inode.size, self.content.finish(self.number, inode.size)?),
            Kind::Symlink => match self.content.finish(self.number, inode.size)? {
                content @ Content::Resident(_) => stream(inode.size, inode.size, content),
                Content::Extents(_) => return Err(Error::corrupt("btrfs inode", self.number, "a link without target")),
            },
            // Its size for people.
            Kind::Directory => stream(inode.size, 0, Content::Extents(Vec::new())),
            _ => Vec::new(),
        };
        if inode.kind == Kind::Directory {
            entries.extend(self.entries);
        }
        let mut xattrs = self.xattrs;
        xattrs.shrink_to_fit();
        Ok(Some(File {
            number: base + self.number,
            generation: inode.generation as u32,
            kind: inode.kind,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            links: inode.links,
            device: inode.device,
            modified: inode.modified,
            changed: inode.changed,
            created: inode.created,
            xattrs,
            streams,
            opaque: Vec::new(),
        }))
    }
}

fn below_32_bits(number: u64) -> Result<u64> {
    let fits = number >> SUBVOLUME_SHIFT == 0;
    if fits { Ok(number) } else { Err(Error::corrupt("btrfs inode", number, "its number has more than 32 bits")) }
}
