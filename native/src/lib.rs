//! imager's addon: what is hot, and what parses foreign bytes. TypeScript says what happens.

pub mod bytes;
pub mod disk;
pub mod error;
pub mod fs;
pub mod limits;
pub mod volume;
