//! The signature repository's own store: which block lies where, sorted, in files that never change.

pub mod filter;
pub mod index;
pub mod row;
pub mod segment;
