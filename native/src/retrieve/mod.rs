//! From a place on the disk to its verified bytes: whom to ask, what to fetch, what to keep.

pub mod disk_reader;
pub mod locations;
pub mod parts;
pub mod patience;
pub mod records;
pub mod routes;
pub mod sound;
pub mod window;
