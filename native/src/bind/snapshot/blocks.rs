//! Blocks of a disk, and pages, on their way into packs.

use std::sync::{Arc, Mutex};

use napi::bindgen_prelude::{AsyncTask, BigUint64Array, Buffer, Result, Uint8Array};
use napi_derive::napi;

use super::super::keys::Vault;
use super::super::{Job, job, lock, thrown};
use crate::disk::volume::ReadAt;
use crate::map::cut::{Blocks, Cut};
use crate::snapshot::{batch, reuse};

/// Blocks of a disk, or of a copy of parts of it, in reading order; handed out as batches that are not read yet.
#[napi]
pub struct BlockSource {
    source: Arc<dyn ReadAt>,
    cut: Arc<Cut>,
    walk: Blocks,
    reuse: Option<Arc<Mutex<reuse::Reuse>>>,
}

impl BlockSource {
    pub(super) fn new(source: Arc<dyn ReadAt>, cut: Cut, reuse: Option<Arc<Mutex<reuse::Reuse>>>) -> Self {
        Self { source, cut: Arc::new(cut), walk: Blocks::default(), reuse }
    }
}

#[napi]
impl BlockSource {
    /// Bytes of all its blocks, from the start on.
    #[napi(getter)]
    pub fn total_bytes(&self) -> f64 {
        self.cut.total_bytes as f64
    }

    /// The next batch, not read yet; null at the end.
    #[napi]
    pub fn next(&mut self) -> Result<Option<Batch>> {
        let mut reuse = self.reuse.as_deref().map(lock);
        let batch = batch::Batch::of_blocks(&mut self.walk, &self.cut, reuse.as_deref_mut()).map_err(thrown)?;
        Ok(batch.map(|batch| Batch { inner: Arc::new(Mutex::new(batch)), source: Some(self.source.clone()) }))
    }
}

/// Some MiB of blocks or pages on their way into packs.
#[napi]
pub struct Batch {
    pub(super) inner: Arc<Mutex<batch::Batch>>,
    pub(super) source: Option<Arc<dyn ReadAt>>,
}

/// What one batch holds.
#[napi(object)]
pub struct BatchFacts {
    pub items: u32,
    pub plain_bytes: f64,
    pub zero_bytes: f64,
    pub fresh: u32,
    pub fresh_bytes: f64,
    /// Taken over from the last snapshot, not read.
    pub reused_blocks: u32,
    pub reused_bytes: f64,
    /// Blocks that were read to be sure, and are not what the last snapshot holds.
    pub surprises: u32,
}

#[napi]
impl Batch {
    /// Pages whose bytes the caller made, whatever they are: what an appliance in wrong hands stores.
    #[napi(factory)]
    pub fn of_pages(pages: Vec<Uint8Array>) -> Self {
        let batch = batch::Batch::of_pages(pages.into_iter().map(|page| page.to_vec()));
        Self { inner: Arc::new(Mutex::new(batch)), source: None }
    }

    /// Reads the blocks (pages are in memory already) and computes keys and signatures.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn prepare(&self, vault: &Vault) -> AsyncTask<Job<()>> {
        let (inner, source, vault) = (self.inner.clone(), self.source.clone(), vault.0.clone());
        job(move || {
            let mut batch = lock(&inner);
            match source {
                Some(source) => {
                    batch.read(source.as_ref())?;
                    batch.hash(vault.blocks.newest());
                    batch.expect_older(vault.blocks.older());
                }
                None => batch.hash(&vault.pages),
            }
            Ok(())
        })
    }

    /// Signatures of all items that are not zeros, 32 bytes each.
    #[napi]
    pub fn ids(&self) -> Buffer {
        let batch = lock(&self.inner);
        batch.items.iter().filter(|item| !item.zero).flat_map(|item| item.id).collect::<Vec<_>>().into()
    }

    /// Signatures, in an older domain (from 0, the newest of them first), of the blocks that are unknown: `births` as for
    /// `Packer.claim`. Empty for pages.
    #[napi(ts_return_type = "Promise<Buffer>")]
    pub fn older_ids(&self, vault: &Vault, domain: u32, births: BigUint64Array) -> AsyncTask<Job<Buffer>> {
        let (inner, pages, vault, births) =
            (self.inner.clone(), self.source.is_none(), vault.0.clone(), births.to_vec());
        job(move || {
            let older = vault.blocks.older().get(domain as usize).filter(|_| !pages);
            Ok(older.map_or_else(Vec::new, |older| lock(&inner).older_ids(older, &births)).into())
        })
    }

    /// `found`: the births of what `olderIds` gave last. Returns all births, for `Packer.claim`.
    #[napi]
    pub fn take_older(&self, births: BigUint64Array, found: BigUint64Array) -> Result<BigUint64Array> {
        lock(&self.inner).take_older(&births, &found).map(BigUint64Array::new).map_err(thrown)
    }

    /// Compresses and seals what was claimed as fresh. `level` is zstd's.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn seal(&self, vault: &Vault, level: i32) -> AsyncTask<Job<()>> {
        let (inner, vault, pages) = (self.inner.clone(), vault.0.clone(), self.source.is_none());
        job(move || {
            let domain = if pages { &vault.pages } else { vault.blocks.newest() };
            lock(&inner).seal(domain, level);
            Ok(())
        })
    }

    /// Counts, and sums in bytes, as far as they are known: zeros and surprises after `prepare`, fresh ones after
    /// `Packer.claim`.
    #[napi(getter)]
    pub fn facts(&self) -> BatchFacts {
        let batch = lock(&self.inner);
        let bytes = |wanted: fn(&batch::Item) -> bool| {
            batch.items.iter().filter(|item| wanted(item)).map(|item| item.length).sum::<usize>() as f64
        };
        BatchFacts {
            items: batch.items.len() as u32,
            plain_bytes: bytes(|_| true),
            zero_bytes: bytes(|item| item.zero),
            fresh: batch.items.iter().filter(|item| item.fresh).count() as u32,
            fresh_bytes: bytes(|item| item.fresh),
            reused_blocks: batch.reused_blocks as u32,
            reused_bytes: batch.reused.iter().map(|entry| u64::from(entry.length)).sum::<u64>() as f64,
            surprises: batch.surprises() as u32,
        }
    }
}
