//! What is stored and sent, byte by byte: a file for each page of `docs/formats` that the addon reads or writes.

pub mod descriptor;
pub mod domains;
pub mod file_record;
pub mod frame;
pub mod names;
pub mod pack;
pub mod page;
pub mod record;
pub mod references;
pub mod root_key;
pub mod shard;
pub mod vault;
