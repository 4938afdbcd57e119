//! Shards and stripes.

use napi::bindgen_prelude::{AsyncTask, Buffer, ClassInstance, Result, Uint8Array};
use napi_derive::napi;

use super::body::Body;
use super::keys::Secret;
use super::{Job, hex, job, thrown};
use crate::base::bytes::Writer;
use crate::formats::{pack, shard};
use crate::stripes::erasure;

/// What a shard's clear header says. `shard` (16 bytes) and `root` (32) in hexadecimal.
#[napi(object)]
pub struct ShardFacts {
    pub shard: String,
    pub root: String,
    pub body_offset: u32,
    pub body_bytes: u32,
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

/// Where a shard belongs, as only the fleet can read it. Ids in hexadecimal.
#[napi(object)]
pub struct ShardSealedHeader {
    pub fleet: String,
    pub stripe: f64,
    pub index: u8,
    pub k: u8,
    pub m: u8,
    pub pack_bytes: u32,
}

/// Opens the sealed header in the first 4096 bytes of a shard file; null where another trailer key sealed it.
#[napi]
pub fn read_sealed_header(prefix: Uint8Array, trailer_key: &Secret) -> Result<Option<ShardSealedHeader>> {
    let header = shard::read_header(&prefix).map_err(thrown)?;
    if header.key_id() != Some(trailer_key.0.id()) {
        return Ok(None);
    }
    let sealed = header.open_sealed_header(&trailer_key.0).map_err(thrown)?;
    Ok(Some(ShardSealedHeader {
        fleet: hex(&sealed.fleet),
        stripe: sealed.stripe as f64,
        index: sealed.index,
        k: sealed.k,
        m: sealed.m,
        pack_bytes: sealed.pack_bytes,
    }))
}

/// Where the trailer of a pack begins, from its first 16 bytes.
#[napi]
pub fn trailer_offset(pack_header: Uint8Array) -> Result<u32> {
    pack::read_header(&pack_header).map(|(offset, _)| offset as u32).map_err(thrown)
}

/// Rows of birth u64 LE | id 32 | offset u32 LE | length u32 LE of a pack's trailer.
#[napi]
pub fn read_trailer(bytes: Uint8Array, offset: u32, stripe: f64, trailer_key: &Secret) -> Result<Buffer> {
    let rows = pack::read_trailer(&bytes, offset as usize, stripe as u64, &trailer_key.0).map_err(thrown)?;
    let mut writer = Writer::default();
    for row in rows {
        writer.u64(row.birth).raw(&row.id).u32(row.offset).u32(row.length);
    }
    Ok(writer.bytes.into())
}

/// Rebuilds one range of a shard from the same range of any k others. Uses them up.
#[napi(ts_return_type = "Promise<Body>")]
pub fn recover_body(
    k: u32,
    m: u32,
    shards: Vec<Option<ClassInstance<Body>>>,
    wanted: u32,
) -> Result<AsyncTask<Job<Body>>> {
    let scheme = erasure::Scheme::new(k, m).map_err(thrown)?;
    let spent = |body: &Option<ClassInstance<Body>>| body.as_ref().map(|body| body.spend()).transpose();
    let bodies = shards.iter().map(spent).collect::<Result<Vec<_>>>()?;
    Ok(job(move || {
        let shards: Vec<Option<&[u8]>> = bodies.iter().map(Option::as_deref).collect();
        let mut rebuilt = erasure::recover(scheme, &shards, &[wanted as usize])?;
        Ok(rebuilt.pop().unwrap_or_default().into())
    }))
}
