//! imager's addon: what is hot, and what parses foreign bytes. TypeScript says what happens.

pub mod batch;
pub mod bytes;
pub mod carry;
pub mod compare;
pub mod copy;
pub mod cut;
pub mod disk;
pub mod erasure;
pub mod error;
pub mod exclude;
pub mod fetchplan;
pub mod fs;
#[cfg(feature = "node")]
pub mod fuse;
pub mod limits;
pub mod manifest;
pub mod names;
pub mod newest;
pub mod pack;
pub mod packer;
pub mod pages;
pub mod parent;
pub mod ranges;
pub mod recycle;
pub mod references;
pub mod reread;
pub mod reuse;
pub mod sandbox;
pub mod scan;
pub mod seal;
pub mod secret;
pub mod shard;
pub mod source;
pub mod spill;
pub mod strip;
pub mod stripe;
pub mod target;
pub mod unreadable;
pub mod volume;
pub mod volumes;
pub mod whose;

#[cfg(feature = "node")]
mod bind;
