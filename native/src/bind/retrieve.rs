//! Reading the disk of a snapshot.

use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::{
    AsyncTask, Buffer, ClassInstance, Either, Float64Array, Null, Object, Result, Uint32Array,
};
use napi_derive::napi;

use super::body::Body;
use super::formats::{ManifestPage, wrong_kind};
use super::keys::Vault;
use super::wire::{DataClient, DataTarget, Settled, milliseconds, settle};
use super::{Job, decoded, hex, job, thrown};
use crate::formats::page::Page;
use crate::retrieve::disk_reader::Reader;
use crate::retrieve::records::Fetched;
use crate::retrieve::routes::{Layout, Lines, Patience};
use crate::retrieve::window::{self, BlockCache, Need};

/// A map page and where its blocks lie.
#[napi]
pub struct Window(pub(super) Arc<window::Window>);

/// A range of a pack, and the entries whose records lie in it.
#[napi(object)]
pub struct WindowRange {
    pub stripe: f64,
    pub start: u32,
    pub end: u32,
    pub entries: Vec<u32>,
}

/// Birth numbers of records (docs/formats/pack.md): the stripe that each was first stored in, and its place among that
/// stripe's records.
#[napi(object)]
pub struct Births {
    pub stripes: Float64Array,
    pub ordinals: Uint32Array,
}

impl Births {
    pub(super) fn of(births: impl Iterator<Item = u64> + Clone) -> Self {
        let stripes: Vec<f64> = births.clone().map(|birth| (birth >> 16) as f64).collect();
        let ordinals: Vec<u32> = births.map(|birth| (birth & 0xffff) as u32).collect();
        Self { stripes: stripes.into(), ordinals: ordinals.into() }
    }
}

#[napi]
impl ManifestPage {
    /// Of a map page: the birth numbers of its blocks.
    #[napi]
    pub fn births(&self) -> Result<Births> {
        let Page::Map(entries) = &*self.0 else { return Err(wrong_kind()) };
        Ok(Births::of(window::stored(entries).map(|block| block.birth)))
    }

    /// Of a map page: the signatures of its blocks, 32 bytes each.
    #[napi]
    pub fn block_ids(&self) -> Result<Buffer> {
        let Page::Map(entries) = &*self.0 else { return Err(wrong_kind()) };
        Ok(window::ids(entries).into())
    }

    /// Of a map page: where its first entry lies on the disk.
    #[napi]
    pub fn first_offset(&self) -> Result<f64> {
        let Page::Map(entries) = &*self.0 else { return Err(wrong_kind()) };
        Ok(entries.first().map_or(0.0, |entry| entry.disk as f64))
    }

    /// Of a map page: the page with its blocks' places, in the order of `births`. Throws CORRUPT for one that no
    /// pack can have.
    #[napi]
    pub fn window(&self, stripes: Float64Array, offsets: Uint32Array, lengths: Uint32Array) -> Result<Window> {
        let stripes: Vec<u64> = stripes.iter().map(|&stripe| stripe as u64).collect();
        let window = window::Window::new(self.0.clone(), &stripes, &offsets, &lengths);
        window.map(|window| Window(Arc::new(window))).map_err(thrown)
    }
}

#[napi]
impl Window {
    /// The ranges to fetch for some entries; records closer than `gap` share one.
    #[napi]
    pub fn ranges(&self, entries: Vec<u32>, gap: u32) -> Vec<WindowRange> {
        let range = |window::Range { stripe, start, end, entries }| {
            let stripe = stripe as f64;
            WindowRange { stripe, start, end, entries }
        };
        self.0.ranges(&entries, gap).into_iter().map(range).collect()
    }
}

/// Deadlines of `DataLines`: a span may take `leastMs` and as long as its bytes at `bytesPerMs`; a host that took longer is
/// not asked for `asideMs`.
#[napi(object)]
pub struct DataPatience {
    pub least_ms: u32,
    pub bytes_per_ms: u32,
    pub aside_ms: u32,
}

/// Which hosts have which parts of packs, for the addon to fetch them by itself.
#[napi]
pub struct DataLines(Arc<Lines>);

#[napi]
impl DataLines {
    #[napi(constructor)]
    pub fn new(client: &DataClient, patience: DataPatience) -> Self {
        let patience = Patience {
            least: milliseconds(patience.least_ms),
            bytes_per_ms: patience.bytes_per_ms.max(1),
            aside: milliseconds(patience.aside_ms),
        };
        Self(Arc::new(Lines::new(client.0.clone(), patience)))
    }

    /// How a host is reached; `timeoutMs` counts for nothing.
    #[napi]
    pub fn host(&self, target: DataTarget) -> Result<()> {
        self.0.learn_host(target.decode()?);
        Ok(())
    }

    /// The data shards of a stripe in their order, and the host of each, in hexadecimal; empty where a shard is damaged.
    #[napi]
    pub fn stripe(&self, stripe: f64, body_bytes: u32, shards: Vec<String>, hosts: Vec<String>) -> Result<()> {
        let one = |(shard, host): (String, String)| {
            if shard.is_empty() {
                return Ok(None);
            }
            Ok(Some((decoded("shard", &shard)?, decoded("host", &host)?)))
        };
        let shards = shards.into_iter().zip(hosts).map(one).collect::<Result<_>>()?;
        self.0.learn_stripe(stripe as u64, Layout { body_bytes, shards });
        Ok(())
    }

    #[napi]
    pub fn forget_stripes(&self) {
        self.0.forget_stripes();
    }

    /// A host that does not answer is not asked for a while.
    #[napi]
    pub fn avoid(&self, host: String) -> Result<()> {
        self.0.avoid(decoded("host", &host)?);
        Ok(())
    }
}

/// What is to be fetched before a read: entries whose blocks are absent; or the part that the source did not give.
#[napi(object)]
pub struct WindowNeed {
    pub entries: Vec<u32>,
    pub unreadable: Either<UnreadablePart, Null>,
}

#[napi(object)]
pub struct UnreadablePart {
    pub offset: f64,
    pub length: f64,
}

/// Of entries whose blocks were wanted: those that did not come, and which hosts did not answer for them, in hexadecimal.
#[napi(object)]
pub struct ReaderMissing {
    pub entries: Vec<u32>,
    pub silent: Vec<String>,
}

/// Reads the disk of a snapshot, and keeps the blocks that were used last.
#[napi]
pub struct DiskReader(pub(super) Arc<Reader>);

#[napi]
impl DiskReader {
    /// `bytes` of blocks are kept.
    #[napi(constructor)]
    pub fn new(lines: &DataLines, vault: &Vault, bytes: u32) -> Self {
        Self(Arc::new(Reader::new(lines.0.clone(), BlockCache::new(bytes as usize), vault.0.blocks.clone())))
    }

    /// A window by its number, for reads that the addon answers by itself; null: all of it is zeros.
    #[napi]
    pub fn learn(&self, number: u32, window: Option<&Window>) {
        self.0.learn(number.into(), window.map(|window| window.0.clone()));
    }

    #[napi]
    pub fn need(&self, window: &Window, offset: f64, length: f64) -> WindowNeed {
        match window.0.need(&self.0.cache, offset as u64, offset as u64 + length as u64) {
            Need::Blocks(entries) => WindowNeed { entries, unreadable: Either::B(Null) },
            Need::Unreadable(offset, length) => {
                let part = UnreadablePart { offset: offset as f64, length: length as f64 };
                WindowNeed { entries: vec![], unreadable: Either::A(part) }
            }
        }
    }

    /// Has the blocks of entries fetched and opened, and waits for those that are on the way already.
    #[napi(ts_return_type = "Promise<ReaderMissing>")]
    pub fn fetch<'env>(&self, env: &'env Env, window: &Window, entries: Vec<u32>) -> Result<Object<'env>> {
        let (settled, promise): (Settled<ReaderMissing>, _) = env.create_deferred()?;
        let (reader, of) = (self.0.clone(), window.0.clone());
        self.0.fetch(&window.0, &entries, false, move |entries| {
            let silent = reader.silent(&of, &entries).iter().map(|host| hex(host)).collect();
            settle(settled, ReaderMissing { entries, silent });
        });
        Ok(promise)
    }

    /// Opens the blocks of entries from what was fetched (as `FetchPlan.write`); returns the entries whose record did not
    /// verify. Uses the bodies up.
    #[napi(ts_return_type = "Promise<number[]>")]
    pub fn open(
        &self,
        window: &Window,
        entries: Vec<u32>,
        offsets: Vec<u32>,
        fetched: Vec<ClassInstance<Body>>,
    ) -> Result<AsyncTask<Job<Vec<u32>>>> {
        let (reader, window) = (self.0.clone(), window.0.clone());
        let bodies = fetched.iter().map(|body| body.spend()).collect::<Result<Vec<_>>>()?;
        Ok(job(move || {
            let fetched: Vec<Fetched> =
                offsets.iter().zip(&bodies).map(|(&offset, bytes)| Fetched { offset, bytes }).collect();
            Ok(window.open(&reader.cache, &reader.domain, &entries, &fetched))
        }))
    }

    /// A part of the disk within a window; null where a block is absent (again).
    #[napi]
    pub fn read(&self, window: &Window, offset: f64, length: u32) -> Result<Option<Body>> {
        let (start, end) = (offset as u64, offset as u64 + u64::from(length));
        window.0.read(&self.0.cache, start, end).map(|bytes| bytes.map(Body::from)).map_err(thrown)
    }
}
