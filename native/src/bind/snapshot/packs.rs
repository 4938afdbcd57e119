//! From batches into packs, manifest and stripes.

use std::sync::{Arc, Mutex};

use napi::bindgen_prelude::{AsyncTask, BigUint64Array, Buffer, Result, Uint8Array};
use napi_derive::napi;

use super::super::keys::{Secret, Vault};
use super::super::map::DiskScan;
use super::super::names::Runs;
use super::super::{Job, fixed, hex, job, lock, thrown};
use super::blocks::Batch;
use super::changed::{FileRecords, Reread};
use crate::base::error::Error;
use crate::base::ranges::ByteRange;
use crate::formats::descriptor::Descriptor;
use crate::formats::names::{RunName, number_of};
use crate::formats::pack::Row;
use crate::formats::record::Type;
use crate::formats::{pack, shard};
use crate::snapshot::parent::ParentWriter;
use crate::snapshot::{manifest, packer};
use crate::stripes::{erasure, stripe};

/// Fills packs of k shards.
#[napi]
pub struct Packer {
    packer: packer::Packer,
    vault: Arc<crate::formats::vault::Vault>,
}

#[napi]
impl Packer {
    /// `k`: data shards of each stripe. `run`: which of `runs` it fills stripes of.
    #[napi(constructor)]
    pub fn new(vault: &Vault, k: u32, runs: &Runs, run: u32) -> Self {
        let packer = packer::Packer::new(vault.0.trailer_key.clone(), k as usize, runs.0.clone(), run);
        Self { packer, vault: vault.0.clone() }
    }

    /// Marks what neither the catalog (`births`, in the order of `ids`) nor this run knows. In the order of batches.
    #[napi]
    pub fn claim(&mut self, batch: &Batch, births: BigUint64Array) -> Result<()> {
        self.packer.claim(&mut lock(&batch.inner), &births).map_err(thrown)
    }

    /// Puts a sealed batch into packs and where its items lie into the manifest; returns the packs that became full.
    #[napi]
    pub fn append(&mut self, batch: &Batch, manifest: &mut Manifest) -> Result<Vec<Pack>> {
        let (vault, mut inner) = (self.vault.clone(), lock(&batch.inner));
        let full = match batch.source {
            Some(_) => {
                let full = self.packer.append(&mut inner, vault.blocks.newest(), Type::Block).map_err(thrown)?;
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
    pub fn flush(&mut self) -> Result<Option<Pack>> {
        self.packer.flush().map(|pack| pack.map(Pack::from)).map_err(thrown)
    }

    /// The reference bitmap of all that was appended (docs/formats/references.md).
    #[napi]
    pub fn references(&self) -> Result<Buffer> {
        self.packer.references().map(Buffer::from).map_err(thrown)
    }
}

/// The manifest of one snapshot while it is made: where each block lies, then the pages that say so.
#[napi]
pub struct Manifest(manifest::Manifest);

#[napi]
impl Manifest {
    /// `folder` holds what spills; `runs` has the names of all births.
    #[napi(constructor)]
    pub fn new(folder: String, runs: &Runs) -> Self {
        Self(manifest::Manifest::new(&folder, runs.0.clone()))
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
    pub fn root(&mut self, description: String) -> Result<Batch> {
        let batch = self.0.root(&description).map_err(thrown)?;
        Ok(Batch { inner: Arc::new(Mutex::new(batch)), source: None })
    }

    /// After the root was appended: its birth, and its key sealed under the manifest key.
    #[napi]
    pub fn sealed_root(&self, vault: &Vault, runs: &Runs) -> Result<SealedRoot> {
        let root = self.0.root_ref().ok_or_else(|| thrown(Error::invalid("root", "not stored yet")))?;
        let key = vault.0.seal_root(&root, &lock(&runs.0)).map_err(thrown)?;
        Ok(SealedRoot { birth: root.birth.into(), key: key.into() })
    }
}

/// What a head needs to name the root page: its birth number, and its key, sealed.
#[napi(object)]
pub struct SealedRoot {
    pub birth: napi::bindgen_prelude::BigInt,
    pub key: Buffer,
}

/// A full pack, to be encoded into a stripe.
#[napi]
pub struct Pack {
    stripe: u64,
    run: RunName,
    length: u32,
    /// Until it is encoded.
    bytes: Vec<u8>,
    rows: Vec<Row>,
}

impl From<packer::Pack> for Pack {
    fn from(pack: packer::Pack) -> Self {
        Self { stripe: pack.stripe, run: pack.run, length: pack.bytes.len() as u32, bytes: pack.bytes, rows: pack.rows }
    }
}

impl Pack {
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }
}

#[napi]
impl Pack {
    /// The number of the stripe that it becomes.
    #[napi(getter)]
    pub fn stripe(&self) -> f64 {
        self.stripe as f64
    }

    /// Bytes of the pack, trailer included.
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

    /// The k+m shards, decoded once and compared, their stripe signed by its `writer`. A pack is encoded once.
    #[napi(ts_return_type = "Promise<Stripe>")]
    pub fn encode(&mut self, vault: &Vault, writer: &Secret, k: u32, m: u32) -> Result<AsyncTask<Job<Stripe>>> {
        let scheme = erasure::Scheme::new(k, m).map_err(thrown)?;
        let (bytes, writer, fleet) = (std::mem::take(&mut self.bytes), writer.0.clone(), vault.0.fleet);
        let (run, number) = (self.run, number_of(self.stripe));
        Ok(job(move || {
            let (trailer, _) = pack::read_header(&bytes)?;
            let trailer = *blake3::hash(&bytes[trailer..]).as_bytes();
            let template = Descriptor { fleet, run, number, k: 0, m: 0, pack_bytes: 0, trailer, roots: vec![] };
            let encoded = stripe::encode(bytes, scheme, &template, &writer)?;
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
    /// The shard at an index below k+m; one that is not there shows when it is used.
    #[napi]
    pub fn shard(&self, index: u32) -> StripeShard {
        StripeShard { slot: self.0.clone(), index: index as usize }
    }

    /// Hexadecimal.
    #[napi]
    pub fn root(&self, index: u32) -> Result<String> {
        let root = lock(&self.0).as_ref().and_then(|stripe| stripe.root(index as usize));
        root.map(|root| hex(&root)).ok_or_else(|| thrown(Error::invalid("shard", "no such index")))
    }

    /// What two stripes of one name differ in: BLAKE3 of what its writer signs, hexadecimal.
    #[napi]
    pub fn identity(&self) -> Result<String> {
        let identity = lock(&self.0).as_ref().map(|stripe| stripe.identity());
        identity.map(|identity| hex(&identity)).ok_or_else(|| thrown(Error::invalid("stripe", "it was released")))
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
    pub(in crate::bind) fn held(&self) -> Result<(Arc<stripe::Stripe>, usize)> {
        let held = lock(&self.slot).clone().filter(|stripe| stripe.file(self.index).is_some());
        held.map(|stripe| (stripe, self.index)).ok_or_else(|| thrown(Error::invalid("shard", "it is not there")))
    }
}

#[napi]
impl StripeShard {
    /// Bytes of its file. Throws INVALID where there is no such shard, or its stripe was released.
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
