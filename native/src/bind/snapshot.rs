//! From the disk into stripes: scan, read, claim, seal, pack, encode.

use std::sync::{Arc, Mutex, MutexGuard};

use napi::bindgen_prelude::{AsyncTask, BigUint64Array, Buffer, Result, Uint8Array};
use napi_derive::napi;

use super::changed::{FileRecords, Reread, Reuse};
use super::keys::Vault;
use super::map::DiskFacts;
use super::{Job, fixed, job, thrown};
use crate::base::error::Error;
use crate::disk::sandbox;
use crate::disk::source::Source;
use crate::disk::volume::ReadAt;
use crate::formats::pack::Row;
use crate::formats::record::Type;
use crate::formats::shard::{self, Place};
use crate::fs::ByteRange;
use crate::map::cut::{Blocks, Cut};
use crate::map::scan::Scan;
use crate::snapshot::parent::ParentWriter;
use crate::snapshot::{batch, manifest, packer, reuse};
use crate::stripes::{erasure, stripe};

pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("no holder of this lock panics")
}

/// A disk whose tables were read.
#[napi]
pub struct DiskScan {
    pub(super) source: Arc<Source>,
    pub(super) facts: DiskFacts,
    pub(super) scan: Arc<Mutex<Scan>>,
}

/// Opens a block device or image file read-only and reads its tables. `everything`: nothing in use is left out.
/// `flushed`: where volumes begin whose tables are whole now, whatever their journals say.
#[napi(ts_return_type = "Promise<DiskScan>")]
pub fn scan_disk(path: String, everything: bool, flushed: Option<Vec<f64>>) -> AsyncTask<Job<DiskScan>> {
    job(move || {
        let source = Arc::new(Source::open(&path)?);
        let flushed: Vec<u64> = flushed.unwrap_or_default().into_iter().map(|start| start as u64).collect();
        let work = || Scan::of_flushed(source.as_ref(), everything, &flushed);
        let (scan, confinement) = sandbox::run(&[source.descriptor()], work)?;
        let facts = DiskFacts::of(&scan, confinement);
        Ok(DiskScan { source, facts, scan: Arc::new(Mutex::new(scan)) })
    })
}

#[napi]
impl DiskScan {
    #[napi(getter)]
    pub fn size_bytes(&self) -> f64 {
        self.source.length() as f64
    }

    /// Sorted, disjoint: start and length alternate.
    #[napi]
    pub fn allocated(&self) -> BigUint64Array {
        let ranges = lock(&self.scan).allocated();
        ranges.iter().flat_map(|range| [range.start, range.length]).collect::<Vec<_>>().into()
    }

    /// The blocks of the disk in reading order; those that `reuse` knows are not read.
    #[napi]
    pub fn reader(&self, reuse: Option<&Reuse>) -> BlockSource {
        BlockSource::new(self.source.clone(), lock(&self.scan).cut(), reuse.map(|reuse| reuse.0.clone()))
    }

    /// Lets go of the disk: nothing more is read from it.
    #[napi]
    pub fn close(&self) {
        self.source.close();
    }

    /// Lets go of the file maps; only `sizeBytes` is right after that.
    #[napi]
    pub fn release(&self) {
        drop(lock(&self.scan).take_maps());
    }
}

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
    inner: Arc<Mutex<batch::Batch>>,
    source: Option<Arc<dyn ReadAt>>,
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
    /// Reads the blocks (pages are in memory already) and computes keys and signatures.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn prepare(&self, vault: &Vault) -> AsyncTask<Job<()>> {
        let (inner, source, vault) = (self.inner.clone(), self.source.clone(), vault.0.clone());
        job(move || {
            let mut batch = lock(&inner);
            match source {
                Some(source) => {
                    batch.read(source.as_ref())?;
                    batch.hash(&vault.blocks);
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

    /// Compresses and seals what was claimed as fresh. `level` is zstd's.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn seal(&self, vault: &Vault, level: i32) -> AsyncTask<Job<()>> {
        let (inner, vault, pages) = (self.inner.clone(), vault.0.clone(), self.source.is_none());
        job(move || {
            let domain = if pages { &vault.pages } else { &vault.blocks };
            lock(&inner).seal(domain, level);
            Ok(())
        })
    }

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

/// Fills packs of k shards.
#[napi]
pub struct Packer {
    packer: packer::Packer,
    vault: Arc<super::keys::VaultKeys>,
}

#[napi]
impl Packer {
    #[napi(constructor)]
    pub fn new(vault: &Vault, k: u32) -> Self {
        Self { packer: packer::Packer::new(vault.0.trailer_key.clone(), k as usize), vault: vault.0.clone() }
    }

    /// Stripe numbers from the catalog, for the packs to come.
    #[napi]
    pub fn offer_stripes(&mut self, stripes: Vec<f64>) {
        self.packer.offer_stripes(stripes.into_iter().map(|stripe| stripe as u64));
    }

    #[napi(getter)]
    pub fn stripes_left(&self) -> u32 {
        self.packer.stripes_left() as u32
    }

    /// Marks what neither the catalog (`births`, in the order of `ids`) nor this run knows. In the order of batches.
    #[napi]
    pub fn claim(&mut self, batch: &Batch, births: BigUint64Array) -> Result<()> {
        self.packer.claim(&mut lock(&batch.inner), &births).map_err(thrown)
    }

    /// Puts a sealed batch into packs and its places into the manifest; returns the packs that became full.
    #[napi]
    pub fn append(&mut self, batch: &Batch, manifest: &mut Manifest) -> Result<Vec<Pack>> {
        let (vault, mut inner) = (self.vault.clone(), lock(&batch.inner));
        let full = match batch.source {
            Some(_) => {
                let full = self.packer.append(&mut inner, &vault.blocks, Type::Block).map_err(thrown)?;
                manifest.0.add_blocks(&inner).map_err(thrown)?;
                full
            }
            None => {
                let full = self.packer.append(&mut inner, &vault.pages, Type::Page).map_err(thrown)?;
                manifest.0.stored(&inner).map_err(thrown)?;
                full
            }
        };
        Ok(full.into_iter().map(Pack::from).collect())
    }

    /// Closes the open pack.
    #[napi]
    pub fn flush(&mut self) -> Option<Pack> {
        self.packer.flush().map(Pack::from)
    }

    /// The reference bitmap of all that was appended (docs/formats/references.md).
    #[napi]
    pub fn references(&self) -> Buffer {
        self.packer.references.encode().into()
    }
}

#[napi]
pub struct Manifest(manifest::Manifest);

#[napi]
impl Manifest {
    /// `folder` holds what spills.
    #[napi(constructor)]
    pub fn new(folder: String) -> Self {
        Self(manifest::Manifest::new(&folder))
    }

    /// What is appended from now on, of this set, counts instead of what was appended before.
    #[napi]
    pub fn begin_pass(&mut self, again: &Reread) {
        self.0.begin_pass(&again.ranges());
    }

    /// All that is appended from now on counts instead of what was appended before.
    #[napi]
    pub fn begin_full_pass(&mut self, scan: &DiskScan) {
        self.0.begin_pass(&lock(&scan.scan).allocated());
    }

    /// Keeps in `path` what the next snapshot need not read. `taken`: when the tables were read, seconds since 1970.
    #[napi]
    pub fn keep(&mut self, path: String, snapshot: Uint8Array, taken: f64, records: &FileRecords) -> Result<()> {
        let kept = ParentWriter::new(&path, fixed("snapshot", &snapshot)?, taken as i64, &records.0.0);
        // Where it fails, `finish_kept` says so.
        kept.into_iter().for_each(|kept| self.0.keep(kept));
        Ok(())
    }

    /// Once the snapshot is visible.
    #[napi]
    pub fn finish_kept(&mut self) -> bool {
        self.0.finish_kept()
    }

    /// All blocks were appended; `scan` says what is held. Takes its file maps.
    #[napi]
    pub fn complete(&mut self, scan: &DiskScan) {
        let mut scan = lock(&scan.scan);
        let held = scan.allocated();
        self.0.complete(scan.take_maps(), held);
    }

    /// The next pages to prepare, seal and append; null when only the root is missing.
    #[napi]
    pub fn next_pages(&mut self) -> Result<Option<Batch>> {
        let batch = self.0.next_pages().map_err(thrown)?;
        Ok(batch.map(|batch| Batch { inner: Arc::new(Mutex::new(batch)), source: None }))
    }

    /// What the source refused to give: start and length alternate; sorted, disjoint.
    #[napi]
    pub fn unreadable(&mut self) -> BigUint64Array {
        self.0.unreadable().iter().flat_map(|range| [range.start, range.length]).collect::<Vec<_>>().into()
    }

    /// At most `most` files of which bytes lie in these ranges (as `unreadable` gives them), `/<partition>/<path>`.
    /// Before the first of `next_pages`.
    #[napi]
    pub fn files_at(&self, ranges: BigUint64Array, most: u32) -> Vec<String> {
        let ranges: Vec<ByteRange> =
            ranges.as_chunks().0.iter().map(|&[start, length]| ByteRange { start, length }).collect();
        let files = self.0.files_at(&ranges, most as usize);
        files.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }

    /// The root page, with what `src/jobs` says about the snapshot.
    #[napi]
    pub fn root(&mut self, description: String) -> Batch {
        Batch { inner: Arc::new(Mutex::new(self.0.root(&description))), source: None }
    }

    /// After the root was appended: its birth number, and its key sealed under the manifest key.
    #[napi]
    pub fn sealed_root(&self, vault: &Vault) -> Result<SealedRoot> {
        let root = self.0.root_ref().ok_or_else(|| thrown(Error::invalid("root", "not stored yet")))?;
        Ok(SealedRoot { birth: root.birth.into(), key: vault.0.seal_root(&root).into() })
    }
}

#[napi(object)]
pub struct SealedRoot {
    pub birth: napi::bindgen_prelude::BigInt,
    pub key: Buffer,
}

/// A full pack, to be encoded into a stripe.
#[napi]
pub struct Pack {
    stripe: u64,
    length: u32,
    /// Until it is encoded.
    bytes: Vec<u8>,
    rows: Vec<Row>,
}

impl From<packer::Pack> for Pack {
    fn from(pack: packer::Pack) -> Self {
        Self { stripe: pack.stripe, length: pack.bytes.len() as u32, bytes: pack.bytes, rows: pack.rows }
    }
}

#[napi]
impl Pack {
    #[napi(getter)]
    pub fn stripe(&self) -> f64 {
        self.stripe as f64
    }

    #[napi(getter)]
    pub fn length_bytes(&self) -> u32 {
        self.length
    }

    /// Rows of id 32 | offset u32 LE | length u32 LE, by ordinal.
    #[napi]
    pub fn records(&self) -> Buffer {
        let mut rows = crate::base::bytes::Writer::default();
        for row in &self.rows {
            rows.raw(&row.id).u32(row.offset).u32(row.length);
        }
        rows.bytes.into()
    }

    /// The offset and length of the last record.
    #[napi]
    pub fn last_record(&self) -> Vec<u32> {
        self.rows.last().map(|row| vec![row.offset, row.length]).unwrap_or_default()
    }

    /// The k+m shards, decoded once and compared. `shards`: a 16-byte id for each. A pack is encoded once.
    #[napi(ts_return_type = "Promise<Stripe>")]
    pub fn encode(&mut self, vault: &Vault, k: u32, m: u32, shards: Uint8Array) -> Result<AsyncTask<Job<Stripe>>> {
        let scheme = erasure::Scheme::new(k, m).map_err(thrown)?;
        let ids: Vec<[u8; 16]> = shards.chunks(16).map(|id| fixed("shard id", id)).collect::<Result<_>>()?;
        let (bytes, vault) = (std::mem::take(&mut self.bytes), vault.0.clone());
        let place = Place {
            fleet: vault.fleet,
            stripe: self.stripe,
            index: 0,
            k: k as u8,
            m: m as u8,
            pack_bytes: bytes.len() as u32,
            root: [0; 32],
        };
        Ok(job(move || {
            let encoded = stripe::encode(bytes, scheme, &ids, &place, &vault.trailer_key)?;
            Ok(Stripe(Arc::new(Mutex::new(Some(Arc::new(encoded))))))
        }))
    }
}

/// The encoded shards of one pack.
#[napi]
pub struct Stripe(StripeSlot);

/// Emptied by `release`; who reads a shard meanwhile holds the stripe until he is done.
type StripeSlot = Arc<Mutex<Option<Arc<stripe::Stripe>>>>;

#[napi]
impl Stripe {
    #[napi]
    pub fn shard(&self, index: u32) -> StripeShard {
        StripeShard { slot: self.0.clone(), index: index as usize }
    }

    /// Hexadecimal.
    #[napi]
    pub fn root(&self, index: u32) -> Result<String> {
        let root = lock(&self.0).as_ref().and_then(|stripe| stripe.root(index as usize));
        root.map(|root| super::stripes::hex(&root)).ok_or_else(|| thrown(Error::invalid("shard", "no such index")))
    }

    /// Lets go of the memory; its shards are gone.
    #[napi]
    pub fn release(&self) {
        lock(&self.0).take();
    }
}

/// One shard of a stripe, which stays where the addon has it.
#[napi]
pub struct StripeShard {
    slot: StripeSlot,
    index: usize,
}

impl StripeShard {
    /// The stripe, and the number of the shard in it.
    pub(super) fn held(&self) -> Result<(Arc<stripe::Stripe>, usize)> {
        let held = lock(&self.slot).clone().filter(|stripe| stripe.file(self.index).is_some());
        held.map(|stripe| (stripe, self.index)).ok_or_else(|| thrown(Error::invalid("shard", "it is not there")))
    }
}

#[napi]
impl StripeShard {
    #[napi(getter)]
    pub fn length_bytes(&self) -> Result<u32> {
        let (stripe, index) = self.held()?;
        Ok(stripe.file(index).unwrap_or_default().iter().map(|part| part.len() as u32).sum())
    }

    /// A copy of its file.
    #[napi]
    pub fn bytes(&self) -> Result<Buffer> {
        let (stripe, index) = self.held()?;
        Ok(stripe.file(index).map(|parts| parts.concat()).unwrap_or_default().into())
    }
}

/// The length of the shard files of a pack: header and the k-th part of it.
#[napi]
pub fn shard_file_bytes(pack_bytes: u32, k: u32) -> u32 {
    (shard::BODY_OFFSET as u32) + pack_bytes.div_ceil(k.max(1))
}
