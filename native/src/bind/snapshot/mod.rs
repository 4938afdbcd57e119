//! From the disk into stripes: read, claim, seal, pack, encode.

pub(super) mod blocks;
pub(super) mod changed;
pub(super) mod packs;
mod proved;
