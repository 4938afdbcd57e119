//! Walking a tree from its smallest key to its largest, without recursion: a child's level is one below its parent's,
//! so that the way down ends, and the volume's budget of nodes ends the rest.

use super::key::{Key, Pointer};
use super::node::Node;
use super::reader::Btrfs;
use crate::base::error::Error;

/// What a walk meets.
pub enum Found<'a> {
    Item(Key, &'a [u8]),
    /// A node that cannot be read, with everything below it. `from` is its first key; `None` for the whole tree.
    Lost {
        from: Option<Key>,
        error: Error,
    },
}

/// Keys come strictly ascending; a node that would break this is lost.
pub fn walk(btrfs: &Btrfs, top: Pointer, mut visit: impl FnMut(Found)) {
    let mut waiting = vec![top];
    let mut last: Option<Key> = None;
    while let Some(pointer) = waiting.pop() {
        let node = match Node::read(btrfs, &pointer) {
            Ok(node) => node,
            Err(error) => {
                visit(Found::Lost { from: pointer.first, error });
                continue;
            }
        };
        if last.is_some_and(|last| pointer.first.is_none_or(|first| first <= last)) {
            let error = Error::corrupt("btrfs node", pointer.logical, "its keys lie before those of its neighbour");
            visit(Found::Lost { from: pointer.first, error });
            continue;
        }
        btrfs.saw(pointer.logical, btrfs.superblock.node_bytes.into());
        if pointer.level > 0 {
            waiting.extend(node.pointers(pointer.level).rev());
            continue;
        }
        for (key, item) in node.items() {
            visit(Found::Item(key, item));
            last = Some(key);
        }
    }
}
