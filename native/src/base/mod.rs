//! What every room needs and no room is about: errors, caps, bytes, sets of ranges, keys, large buffers, direct I/O.

pub mod bytes;
pub mod clock;
pub mod device;
pub mod direct;
pub mod error;
pub mod limits;
pub mod lru;
pub mod memory;
pub mod pool;
pub mod ranges;
pub mod secret;
#[cfg(test)]
pub mod xorshift;
