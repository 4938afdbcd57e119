//! The root tree: where all other trees begin, and which subvolume is named where.
//!
//! ```text
//! ROOT_ITEM 132 (tree, 132, -): inode_item 160   generation   root_dirid   bytenr (176)   ...   refs u32 (216)
//!   drop_progress 17   drop_level u8   level u8 (238)
//! ROOT_REF 156 (parent, 156, child): dirid   sequence   name_len u16   name
//! ```

use std::collections::{BTreeMap, HashMap};

use super::key::{Key, Pointer};
use super::reader::Btrfs;
use super::superblock::MOST_LEVEL;
use super::tree::{self, Found};
use crate::base::bytes::{le16, le32, le64};
use crate::base::error::{Error, Result};
use crate::fs::shared::Doubts;

pub const EXTENT_TREE: u64 = 2;
pub const TOP_LEVEL: u64 = 5;
pub const BLOCK_GROUP_TREE: u64 = 11;
/// Ids of subvolumes, and inode numbers, of everything that people made; the last ones are counted from the end.
pub const FIRST_FREE: u64 = 256;
pub const LAST_FREE: u64 = u64::MAX - 255;
pub const ROOT_ITEM: u8 = 132;
const ROOT_REF: u8 = 156;
const ROOT_ITEM_BYTES: usize = 239;
const REF_BYTES: usize = 18;

#[derive(Default)]
pub struct Roots {
    /// Tops of the trees that are of use here. A subvolume that is being deleted is not among them.
    pub trees: BTreeMap<u64, Pointer>,
    /// (parent, child) to (directory, name): the one name by which a subvolume is entered.
    pub entrances: HashMap<(u64, u64), (u64, Vec<u8>)>,
}

impl Roots {
    pub fn read(btrfs: &Btrfs, doubts: &mut Doubts) -> Result<Self> {
        let superblock = &btrfs.superblock;
        let (logical, level, generation) = (superblock.root, superblock.root_level, superblock.generation);
        let mut roots = Self::default();
        let mut whole = None;
        tree::walk(btrfs, Pointer { logical, level, generation, first: None }, |found| match found {
            Found::Item(key, item) if key.kind == ROOT_ITEM => match decode_root(key, item) {
                Ok(Some(pointer)) => _ = roots.trees.insert(key.objectid, pointer),
                Ok(None) => {}
                Err(error) => doubts.push(format!("{error}; the tree is left out")),
            },
            Found::Item(key, item) if key.kind == ROOT_REF => match decode_entrance(key, item) {
                Ok(entrance) => _ = roots.entrances.insert((key.objectid, key.offset), entrance),
                Err(error) => doubts.push(format!("{error}; a subvolume is left out")),
            },
            Found::Item(..) => {}
            Found::Lost { from: Some(_), error } => doubts.push(format!("{error}; the trees it leads to are left out")),
            Found::Lost { from: None, error } => whole = Some(error),
        });
        whole.map_or(Ok(roots), Err)
    }

    /// The top level first, then subvolumes and snapshots by id.
    pub fn subvolumes(&self) -> impl Iterator<Item = (u64, Pointer)> + '_ {
        let ours = |id: u64| id == TOP_LEVEL || (FIRST_FREE..=LAST_FREE).contains(&id);
        self.trees.iter().filter(move |(id, _)| ours(**id)).map(|(id, pointer)| (*id, *pointer))
    }
}

/// `None`: nobody refers to it any more.
fn decode_root(key: Key, item: &[u8]) -> Result<Option<Pointer>> {
    let corrupt = |why: String| Err(Error::corrupt("btrfs tree", key.objectid, why));
    if item.len() < ROOT_ITEM_BYTES {
        return corrupt(format!("a root of {} bytes", item.len()));
    }
    let (generation, logical, refs, level) = (le64(item, 160), le64(item, 176), le32(item, 216), item[238]);
    if level > MOST_LEVEL {
        return corrupt(format!("{level} levels"));
    }
    Ok((refs > 0).then_some(Pointer { logical, level, generation, first: None }))
}

fn decode_entrance(key: Key, item: &[u8]) -> Result<(u64, Vec<u8>)> {
    if item.len() < REF_BYTES || item.len() != REF_BYTES + usize::from(le16(item, 16)) {
        return Err(Error::corrupt("btrfs subvolume", key.offset, format!("a name of {} bytes", item.len())));
    }
    Ok((le64(item, 0), item[REF_BYTES..].to_vec()))
}
