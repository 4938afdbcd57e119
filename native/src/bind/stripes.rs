//! Shards and stripes.

use std::path::Path;

use napi::bindgen_prelude::{AsyncTask, Buffer, ClassInstance, Result, Uint8Array};
use napi_derive::napi;

use super::body::Body;
use super::keys::Secret;
use super::names::Runs;
use super::{Job, decoded, fixed, hex, job, lock, thrown};
use crate::base::bytes::Writer;
use crate::base::error::Error;
use crate::formats::names::RunName;
use crate::formats::{pack, shard};
use crate::stripes::{erasure, prove, rebuild, stored};

/// What a shard's header says. `shard` (16 bytes) and `root` (32) in hexadecimal.
#[napi(object)]
pub struct ShardFacts {
    pub shard: String,
    pub index: u8,
    pub root: String,
    pub body_offset: u32,
    pub body_bytes: u32,
    pub stripe: StripeFacts,
}

/// A stripe as its writer signed it: the name of its run (40 bytes), its number in that, and what it is. `fleet` (16 bytes),
/// `writer`, `trailer` (BLAKE3 of the pack's trailer) and the root of each shard (32) in hexadecimal.
#[napi(object)]
pub struct StripeFacts {
    pub fleet: String,
    pub writer: String,
    pub run: Buffer,
    pub number: u32,
    pub k: u8,
    pub m: u8,
    pub pack_bytes: u32,
    pub trailer: String,
    pub roots: Vec<String>,
    /// BLAKE3 of what its writer signed.
    pub identity: String,
}

pub fn facts(header: shard::Header) -> ShardFacts {
    let stripe = &header.stripe;
    ShardFacts {
        shard: hex(&header.id()),
        index: header.index,
        root: hex(&header.root),
        body_offset: shard::BODY_OFFSET as u32,
        body_bytes: header.body_bytes as u32,
        stripe: StripeFacts {
            fleet: hex(&stripe.fleet),
            writer: hex(&stripe.run.writer),
            run: stripe.run.bytes().to_vec().into(),
            number: stripe.number,
            k: stripe.k,
            m: stripe.m,
            pack_bytes: stripe.pack_bytes,
            trailer: hex(&stripe.trailer),
            roots: stripe.roots.iter().map(|root| hex(root)).collect(),
            identity: hex(&stripe.identity()),
        },
    }
}

/// Checks a whole shard file: header, its writer's signature, slice table, root and every slice. Throws CORRUPT, FORGED.
#[napi(ts_return_type = "Promise<ShardFacts>")]
pub fn inspect_shard(bytes: Uint8Array) -> AsyncTask<Job<ShardFacts>> {
    job(move || shard::inspect(&bytes).map(facts))
}

/// The same of a file, as the disk has it. Throws IO too.
#[napi(ts_return_type = "Promise<ShardFacts>")]
pub fn inspect_shard_file(path: String) -> AsyncTask<Job<ShardFacts>> {
    job(move || stored::inspect(Path::new(&path)).map(facts))
}

/// The id of a shard in the folder of a peer's store that is of another stripe than this one under the same name; null where there
/// is none.
#[napi(ts_return_type = "Promise<string | null>")]
pub fn find_other_stripe(folder: String, stripe: StripeFacts) -> Result<AsyncTask<Job<Option<String>>>> {
    let run = RunName::of(&fixed("name of a run", &stripe.run)?);
    let identity = decoded("identity of a stripe", &stripe.identity)?;
    Ok(job(move || Ok(stored::find_other(Path::new(&folder), &run, stripe.number, &identity).map(|id| hex(&id)))))
}

/// Proves ranges of the shards in the folder of a peer's store: rows of shard 16 | start u32 | end u32, LE. The answers are rows of
/// what u8 (0 proved, 1 no such shard, 2 no such range, 3 not readable) | digest 32. Throws CORRUPT where a row is cut off.
#[napi(ts_return_type = "Promise<Buffer>")]
pub fn prove_ranges(folder: String, nonce: Uint8Array, ranges: Uint8Array) -> Result<AsyncTask<Job<Buffer>>> {
    let nonce = fixed("nonce", &nonce)?;
    Ok(job(move || prove::prove(Path::new(&folder), &nonce, &ranges).map(Buffer::from)))
}

/// Checks the header in the first 4096 bytes of a shard file. Throws CORRUPT, FORGED.
#[napi]
pub fn inspect_shard_header(prefix: Uint8Array) -> Result<ShardFacts> {
    shard::read_header(&prefix).map(facts).map_err(thrown)
}

/// Where the trailer of a pack begins, from its first 16 bytes.
#[napi]
pub fn trailer_offset(pack_header: Uint8Array) -> Result<u32> {
    pack::read_header(&pack_header).map(|(offset, _)| offset as u32).map_err(thrown)
}

/// Rows of birth u64 LE | id 32 | offset u32 LE | length u32 LE of the trailer of a stripe's pack, births by the numbers of
/// `runs`. Throws FORGED where another key or another stripe has it.
#[napi]
pub fn read_trailer(
    bytes: Uint8Array,
    offset: u32,
    stripe: StripeFacts,
    runs: &Runs,
    trailer_key: &Secret,
) -> Result<Buffer> {
    if hex(blake3::hash(&bytes).as_bytes()) != stripe.trailer {
        return Err(thrown(Error::Forged { what: "a pack trailer that its writer did not sign" }));
    }
    let run = RunName::of(&fixed("name of a run", &stripe.run)?);
    let rows = pack::read_trailer(&bytes, offset as usize, (&run, stripe.number), &mut lock(&runs.0), &trailer_key.0);
    let rows = rows.map_err(thrown)?;
    let mut writer = Writer::default();
    for row in rows {
        writer.u64(row.birth).raw(&row.id).u32(row.offset).u32(row.length);
    }
    Ok(writer.bytes.into())
}

/// The file of a shard from the whole files of at least k others of its stripe, as their writer signed it. Uses them up. Throws
/// CORRUPT, FORGED, and what they are refused for.
#[napi(ts_return_type = "Promise<Body>")]
pub fn rebuild_shard(files: Vec<ClassInstance<Body>>, index: u8) -> Result<AsyncTask<Job<Body>>> {
    let files = files.iter().map(|body| body.spend()).collect::<Result<Vec<_>>>()?;
    Ok(job(move || rebuild::rebuild(&files, index).map(Body::from)))
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
