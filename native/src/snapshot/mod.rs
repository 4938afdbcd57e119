//! From blocks into packs: what is read, what is taken over from the last snapshot, and the manifest of it.

pub mod batch;
pub mod changed;
pub mod copy;
pub mod manifest;
pub mod newest;
pub mod packer;
pub mod parent;
pub mod proof;
pub mod proved;
pub mod reuse;
pub mod spill;
