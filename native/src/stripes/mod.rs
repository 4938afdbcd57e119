//! Packs as k data shards and m parity shards, and back.

pub mod erasure;
pub mod prove;
pub mod rebuild;
pub mod stored;
pub mod stripe;
