//! Keys of items, and pointers to nodes.

use crate::base::bytes::le64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub objectid: u64,
    pub kind: u8,
    pub offset: u64,
}

impl Key {
    /// `bytes` holds at least 17 from `at`.
    pub fn decode(bytes: &[u8], at: usize) -> Self {
        Self { objectid: le64(bytes, at), kind: bytes[at + 8], offset: le64(bytes, at + 9) }
    }
}

/// What a node's parent says about it.
#[derive(Clone, Copy, Debug)]
pub struct Pointer {
    pub logical: u64,
    pub level: u8,
    pub generation: u64,
    /// Unknown for the top of a tree.
    pub first: Option<Key>,
}
