//! Shards and stripes.

use napi::bindgen_prelude::{AsyncTask, Uint8Array};
use napi_derive::napi;

use super::{Job, Result, job, thrown};
use crate::shard;

/// What a shard's clear header says. `shard` (16 bytes) and `root` (32) in hexadecimal.
#[napi(object)]
pub struct ShardFacts {
    pub shard: String,
    pub root: String,
    pub body_offset: u32,
    pub body_bytes: u32,
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn facts(header: shard::ClearHeader) -> ShardFacts {
    ShardFacts {
        shard: hex(&header.shard),
        root: hex(&header.root),
        body_offset: shard::BODY_OFFSET as u32,
        body_bytes: header.body_bytes as u32,
    }
}

/// Checks a whole shard file: header, slice table, root and every slice. Throws CORRUPT.
#[napi(ts_return_type = "Promise<ShardFacts>")]
pub fn inspect_shard(bytes: Uint8Array) -> AsyncTask<Job<ShardFacts>> {
    job(move || shard::inspect(&bytes).map(facts))
}

/// Checks the clear header in the first 4096 bytes of a shard file. Throws CORRUPT.
#[napi]
pub fn inspect_shard_header(prefix: Uint8Array) -> Result<ShardFacts> {
    shard::read_header(&prefix).map(facts).map_err(thrown)
}
