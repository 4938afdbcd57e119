//! From a place on the disk to its verified bytes: whom to ask, what to fetch, what to keep.

pub mod disk_reader;
pub mod records;
pub mod routes;
pub mod window;
