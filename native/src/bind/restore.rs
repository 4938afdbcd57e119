//! From fetched records to the disk or file that a restore writes.

use std::sync::Arc;

use napi::bindgen_prelude::{AsyncTask, BigInt, BigUint64Array, Buffer, ClassInstance, Result, Uint8Array};
use napi_derive::napi;

use super::body::Body;
use super::formats::{ManifestPage, wrong_kind};
use super::keys::Vault;
use super::retrieve::{PackRange, PlacedRecords, RecordLocations, SoughtRecords};
use super::{Job, job, thrown};
use crate::base::error::Error;
use crate::disk::salvage;
use crate::formats::page::Page;
use crate::restore::compare::Differing;
use crate::restore::{attributes, plan, target};
use crate::retrieve::records::{Fetched, Location};

/// What stands at a restore for bytes that the source did not give.
#[napi]
pub fn unreadable_pattern(offset: f64, length: u32) -> Buffer {
    salvage::pattern(offset as u64, length as usize, salvage::UNREADABLE).into()
}

/// The disk or file that a restore writes.
#[napi]
pub struct Target(Arc<target::Target>);

#[napi]
impl Target {
    /// Opens a block device of at least `length` bytes, or a file, which is created where it is absent. Throws IO, also
    /// for a device that is in use.
    #[napi(factory)]
    pub fn open(path: String, length: f64) -> Result<Self> {
        target::Target::open(&path, length as u64).map(|target| Self(Arc::new(target))).map_err(thrown)
    }

    /// Makes every byte read as zero.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn blank(&self) -> AsyncTask<Job<()>> {
        let target = self.0.clone();
        job(move || target.blank())
    }

    /// Makes the size of a file right, and keeps what it holds.
    #[napi]
    pub fn resize(&self) -> Result<()> {
        self.0.resize().map_err(thrown)
    }

    /// Makes durable what was written. Throws IO.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn sync(&self) -> AsyncTask<Job<()>> {
        let target = self.0.clone();
        job(move || target.sync())
    }
}

/// What a step of a restore wrote, in bytes.
#[napi(object)]
pub struct WriteFacts {
    pub bytes: f64,
    /// Blocks whose record did not verify; nothing was written for them.
    pub bad: Vec<u32>,
}

fn used_up() -> Error {
    Error::invalid("plan", "this step of it was taken already")
}

/// What a restore fetches and where it goes, in four steps; each is used up by the next one. First: map pages are collected.
#[napi]
pub struct PlanCollected(Option<plan::Collected>);

#[napi]
impl PlanCollected {
    /// A plan of nothing yet.
    #[napi(constructor)]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self(Some(plan::Collected::default()))
    }

    /// Adds the entries of a map page.
    #[napi]
    pub fn add(&mut self, page: &ManifestPage) -> Result<()> {
        let Page::Map(entries) = &*page.0 else { return Err(wrong_kind()) };
        self.0.as_mut().ok_or_else(|| thrown(used_up()))?.add(entries);
        Ok(())
    }

    /// The end of the last byte that the added pages say anything of.
    #[napi(getter)]
    pub fn end(&self) -> f64 {
        self.0.as_ref().map_or(0, plan::Collected::end) as f64
    }

    /// Distinct blocks.
    #[napi(getter)]
    pub fn block_count(&self) -> u32 {
        self.0.as_ref().map_or(0, plan::Collected::block_count) as u32
    }

    /// Birth numbers of the distinct blocks.
    #[napi]
    pub fn births(&self) -> Result<BigUint64Array> {
        Ok(self.0.as_ref().ok_or_else(|| thrown(used_up()))?.births().into())
    }

    /// Their signatures, 32 bytes each.
    #[napi]
    pub fn ids(&self) -> Result<Buffer> {
        Ok(self.0.as_ref().ok_or_else(|| thrown(used_up()))?.ids().into())
    }

    /// All of it is written, whatever the target holds.
    #[napi]
    pub fn all(&mut self) -> Result<PlanSelected> {
        let collected = self.0.take().ok_or_else(|| thrown(used_up()))?;
        Ok(PlanSelected(Some(Arc::new(collected.all()))))
    }

    /// Reads the target past the page cache and leaves out what holds the right bytes already.
    #[napi(ts_return_type = "Promise<PlanDiffering>")]
    pub fn differing(&mut self, vault: &Vault, target: &Target) -> Result<AsyncTask<Job<PlanDiffering>>> {
        let collected = self.0.take().ok_or_else(|| thrown(used_up()))?;
        let (vault, target) = (vault.0.clone(), target.0.clone());
        Ok(job(move || {
            let Differing { selected, same, other } = collected.differing(&target, &vault.blocks)?;
            let selected = PlanSelected(Some(Arc::new(selected)));
            Ok(PlanDiffering { selected, same_bytes: same as f64, other_bytes: other as f64 })
        }))
    }

    /// Reads all of it back, past the page cache, once it is written; returns the bytes that blocks fill. Throws CORRUPT
    /// where they are not as they should, or what should be zeros is none.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn verify(&mut self, vault: &Vault, target: &Target) -> Result<AsyncTask<Job<f64>>> {
        let collected = self.0.take().ok_or_else(|| thrown(used_up()))?;
        let (vault, target) = (vault.0.clone(), target.0.clone());
        Ok(job(move || Ok(collected.verify(&target, &vault.blocks)? as f64)))
    }
}

/// What differs on a target, how many bytes do not, and how many are neither right nor zeros.
#[napi(object, object_from_js = false)]
pub struct PlanDiffering {
    pub selected: PlanSelected,
    pub same_bytes: f64,
    pub other_bytes: f64,
}

/// Second step: what is written.
#[napi]
pub struct PlanSelected(Option<Arc<plan::Selected>>);

#[napi]
impl PlanSelected {
    /// Makes zeros of `from .. to` where the snapshot holds nothing; returns the bytes that had to be written.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn clear(&self, target: &Target, from: f64, to: f64) -> Result<AsyncTask<Job<f64>>> {
        let (plan, target) = (self.0.clone().ok_or_else(|| thrown(used_up()))?, target.0.clone());
        Ok(job(move || Ok(plan.clear(&target, from as u64, to as u64)? as f64)))
    }

    /// Has the target make room for all that will be written. Throws TARGET_FULL.
    #[napi(ts_return_type = "Promise<PlanReserved>")]
    pub fn reserve(&mut self, target: &Target) -> Result<AsyncTask<Job<PlanReserved>>> {
        let plan = self.0.take().and_then(Arc::into_inner).ok_or_else(|| thrown(used_up()))?;
        let target = target.0.clone();
        Ok(job(move || Ok(PlanReserved(Some(Arc::new(plan.reserve(&target)?))))))
    }
}

/// Third step: the target has room for it.
#[napi]
pub struct PlanReserved(Option<Arc<plan::Reserved>>);

#[napi]
impl PlanReserved {
    fn held(&self) -> Result<&Arc<plan::Reserved>> {
        self.0.as_ref().ok_or_else(|| thrown(used_up()))
    }

    /// Fills what the snapshot does not hold with a marked pattern; returns the bytes of it that were left out on purpose.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn write_missing(&self, target: &Target) -> Result<AsyncTask<Job<f64>>> {
        let (plan, target) = (self.held()?.clone(), target.0.clone());
        Ok(job(move || Ok(plan.write_missing(&target)? as f64)))
    }

    /// Birth numbers of the distinct blocks.
    #[napi]
    pub fn births(&self) -> Result<BigUint64Array> {
        Ok(self.held()?.births().into())
    }

    /// Their signatures, 32 bytes each.
    #[napi]
    pub fn ids(&self) -> Result<Buffer> {
        Ok(self.held()?.ids().into())
    }

    /// Where each of `births` lies. Throws CORRUPT for what the catalog does not know.
    #[napi]
    pub fn locate(&mut self, locations: RecordLocations) -> Result<PlanLocated> {
        let plan = self.0.take().and_then(Arc::into_inner).ok_or_else(|| thrown(used_up()))?;
        let plan = plan.locate(&locations.decode()).map_err(thrown)?;
        Ok(PlanLocated(Arc::new(plan)))
    }
}

/// Last step: what is fetched from where.
#[napi]
pub struct PlanLocated(Arc<plan::Located>);

#[napi]
impl PlanLocated {
    /// Distinct, ascending.
    #[napi]
    pub fn stripes(&self) -> Vec<f64> {
        self.0.stripes().into_iter().map(|stripe| stripe as f64).collect()
    }

    /// The ranges of a stripe's pack to fetch; their members are blocks.
    #[napi]
    pub fn ranges(&self, stripe: f64) -> Vec<PackRange> {
        self.0.ranges(stripe as u64).iter().map(PackRange::of).collect()
    }

    /// Where some blocks were planned to be read.
    #[napi]
    pub fn placed(&self, blocks: Vec<u32>) -> PlacedRecords {
        let (members, at): (Vec<u32>, Vec<Location>) = self.0.placed(&blocks).unzip();
        PlacedRecords { members, at: RecordLocations::of(&at) }
    }

    /// What some blocks are.
    #[napi]
    pub fn sought(&self, blocks: Vec<u32>) -> SoughtRecords {
        SoughtRecords::of(self.0.sought(&blocks))
    }

    /// Pieces of the target that a stripe fills, by which it is known again: at most three, as start and length in turn.
    #[napi]
    pub fn landmarks(&self, stripe: f64) -> Vec<f64> {
        let pieces = self.0.landmarks(stripe as u64);
        pieces.into_iter().flat_map(|(start, length)| [start as f64, length.into()]).collect()
    }

    /// Opens the records of a stripe from what was fetched (`offsets[i]`, ascending, is where `fetched[i]` begins in the
    /// pack), verifies and writes their blocks; `again`: the blocks of a further try, each at its place. Uses the bodies up.
    #[napi(ts_return_type = "Promise<WriteFacts>")]
    pub fn write(
        &self,
        stripe: f64,
        offsets: Vec<u32>,
        fetched: Vec<ClassInstance<Body>>,
        again: Option<PlacedRecords>,
        vault: &Vault,
        target: &Target,
    ) -> Result<AsyncTask<Job<WriteFacts>>> {
        let (plan, vault, target) = (self.0.clone(), vault.0.clone(), target.0.clone());
        let again = again.map(|again| again.decode());
        let bodies = fetched.iter().map(|body| body.spend()).collect::<Result<Vec<_>>>()?;
        Ok(job(move || {
            let fetched = Fetched::each(&offsets, &bodies);
            let written = plan.write(stripe as u64, &fetched, again.as_deref(), &vault.blocks, &target)?;
            Ok(WriteFacts { bytes: written.bytes as f64, bad: written.bad })
        }))
    }
}

/// Sets an extended attribute of the name itself, also where it is a symbolic link.
#[napi]
pub fn set_xattr(path: Uint8Array, name: Uint8Array, value: Uint8Array) -> Result<()> {
    attributes::set_xattr(&path, &name, &value).map_err(thrown)
}

/// Sets the modification time of the name itself.
#[napi]
pub fn set_modified(path: Uint8Array, seconds: i64, nanoseconds: u32) -> Result<()> {
    attributes::set_modified(&path, seconds, nanoseconds).map_err(thrown)
}

/// Makes a FIFO or device node; `mode` holds the bits of its type. The name must be free.
#[napi]
pub fn make_node(path: Uint8Array, mode: u32, device: BigInt) -> Result<()> {
    attributes::make_node(&path, mode, device.get_u64().1).map_err(thrown)
}
