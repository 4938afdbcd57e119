//! imager's addon: what is hot, and what parses foreign bytes. TypeScript says what happens.
//!
//! Rooms in the order of the data's way: a file imports its own room or an earlier one (`test/architecture.test.ts`).

pub mod base;
pub mod disk;
pub mod fs;
pub mod formats;
pub mod map;
pub mod stripes;
pub mod snapshot;
pub mod wire;
pub mod signatures;
pub mod retrieve;
pub mod restore;
#[cfg(feature = "fuse")]
pub mod mount;

#[cfg(feature = "node")]
mod bind;
#[cfg(test)]
#[path = "../tests/skips/mod.rs"]
mod skips;
