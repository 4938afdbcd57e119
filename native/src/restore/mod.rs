//! Verified blocks onto a disk, into files: planned, compared, gathered, written.

pub mod attributes;
pub mod compare;
pub mod gather;
pub mod plan;
pub mod target;
