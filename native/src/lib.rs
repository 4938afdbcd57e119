//! imager's addon: what is hot, and what parses foreign bytes. TypeScript says what happens.

pub mod bytes;
pub mod disk;
pub mod erasure;
pub mod error;
pub mod fs;
pub mod limits;
pub mod pack;
pub mod seal;
pub mod secret;
pub mod shard;
pub mod volume;

#[cfg(feature = "node")]
mod bind;
