//! A disk with its volumes and files: scanned, cut into blocks, and asked whose a byte is.

pub mod cut;
pub mod exclude;
pub mod owners;
pub mod picture;
pub mod pieces;
pub mod scan;
pub mod volumes;
