//! Reading a part of the disk.

use std::sync::Arc;

use napi::bindgen_prelude::{AsyncTask, BigUint64Array, Buffer, ClassInstance, Either, Null, Result, Uint32Array};
use napi_derive::napi;

use super::body::Body;
use super::keys::Vault;
use super::retrieve::{ManifestPage, wrong_kind};
use super::{Job, job, thrown};
use crate::fetched::Fetched;
use crate::pages::Page;
use crate::window::{self, Need};

/// The opened blocks that were used last, at most so many bytes of them.
#[napi]
pub struct BlockCache(Arc<window::BlockCache>);

#[napi]
impl BlockCache {
    #[napi(constructor)]
    pub fn new(bytes: u32) -> Self {
        Self(Arc::new(window::BlockCache::new(bytes as usize)))
    }
}

/// A map page and where its blocks lie.
#[napi]
pub struct Window(Arc<window::Window>);

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

/// A range of a pack, and the entries whose records lie in it.
#[napi(object)]
pub struct WindowRange {
    pub stripe: f64,
    pub start: u32,
    pub end: u32,
    pub entries: Vec<u32>,
}

#[napi]
impl ManifestPage {
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

    /// Of a map page: the page with its blocks' places, in the order of `blockIds`. Throws CORRUPT for one that no
    /// pack can have.
    #[napi]
    pub fn window(&self, stripes: BigUint64Array, offsets: Uint32Array, lengths: Uint32Array) -> Result<Window> {
        let window = window::Window::new(self.0.clone(), &stripes, &offsets, &lengths);
        window.map(|window| Window(Arc::new(window))).map_err(thrown)
    }
}

#[napi]
impl Window {
    #[napi]
    pub fn need(&self, cache: &BlockCache, offset: f64, length: f64) -> WindowNeed {
        match self.0.need(&cache.0, offset as u64, offset as u64 + length as u64) {
            Need::Blocks(entries) => WindowNeed { entries, unreadable: Either::B(Null) },
            Need::Unreadable(offset, length) => {
                let part = UnreadablePart { offset: offset as f64, length: length as f64 };
                WindowNeed { entries: vec![], unreadable: Either::A(part) }
            }
        }
    }

    /// The ranges to fetch for some entries; records closer than `gap` share one.
    #[napi]
    pub fn ranges(&self, entries: Vec<u32>, gap: u32) -> Vec<WindowRange> {
        let range = |window::Range { stripe, start, end, entries }| {
            let stripe = stripe as f64;
            WindowRange { stripe, start, end, entries }
        };
        self.0.ranges(&entries, gap).into_iter().map(range).collect()
    }

    /// Opens the blocks of entries from what was fetched (as `FetchPlan.write`) into the cache; returns the entries whose
    /// record did not verify. Uses the bodies up.
    #[napi(ts_return_type = "Promise<number[]>")]
    pub fn open(
        &self,
        cache: &BlockCache,
        vault: &Vault,
        entries: Vec<u32>,
        offsets: Vec<u32>,
        fetched: Vec<ClassInstance<Body>>,
    ) -> Result<AsyncTask<Job<Vec<u32>>>> {
        let (window, cache, vault) = (self.0.clone(), cache.0.clone(), vault.0.clone());
        let bodies = fetched.iter().map(|body| body.spend()).collect::<Result<Vec<_>>>()?;
        Ok(job(move || {
            let fetched: Vec<Fetched> =
                offsets.iter().zip(&bodies).map(|(&offset, bytes)| Fetched { offset, bytes }).collect();
            Ok(window.open(&cache, &vault.blocks, &entries, &fetched))
        }))
    }

    /// A part of the disk within the page's stretch; null where a block is absent (again).
    #[napi]
    pub fn read(&self, cache: &BlockCache, offset: f64, length: u32) -> Result<Option<Body>> {
        let (start, end) = (offset as u64, offset as u64 + u64::from(length));
        self.0.read(&cache.0, start, end).map(|bytes| bytes.map(Body::from)).map_err(thrown)
    }
}
