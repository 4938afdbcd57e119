//! From fetched records to the disk or file that a restore writes.

use std::sync::{Arc, RwLock};

use napi::bindgen_prelude::{AsyncTask, BigInt, Buffer, ClassInstance, Float64Array, Result, Uint8Array, Uint32Array};
use napi_derive::napi;

use super::body::Body;
use super::formats::{ManifestPage, wrong_kind};
use super::keys::Vault;
use super::retrieve::Births;
use super::{Job, job, thrown};
use crate::formats::page::Page;
use crate::restore::{attributes, plan, target};
use crate::retrieve::records::Fetched;

/// What stands at a restore for bytes that the source did not give.
#[napi]
pub fn unreadable_pattern(offset: f64, length: u32) -> Buffer {
    crate::disk::salvage::pattern(offset as u64, length as usize).into()
}

/// The disk or file that a restore writes.
#[napi]
pub struct Target(Arc<target::Target>);

#[napi]
impl Target {
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

    #[napi(ts_return_type = "Promise<void>")]
    pub fn sync(&self) -> AsyncTask<Job<()>> {
        let target = self.0.clone();
        job(move || target.sync())
    }
}

#[napi(object)]
pub struct WriteFacts {
    pub bytes: f64,
    /// Blocks whose record did not verify; nothing was written for them.
    pub bad: Vec<u32>,
}

/// What a restore fetches and where it goes.
#[napi]
pub struct FetchPlan(Arc<RwLock<plan::FetchPlan>>);

const UNPOISONED: &str = "no holder of this lock panics";

#[napi]
impl FetchPlan {
    #[napi(constructor)]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self(Arc::new(RwLock::new(plan::FetchPlan::default())))
    }

    /// Adds the entries of a map page.
    #[napi]
    pub fn add(&self, page: &ManifestPage) -> Result<()> {
        let Page::Map(entries) = &*page.0 else { return Err(wrong_kind()) };
        self.0.write().expect(UNPOISONED).add(entries);
        Ok(())
    }

    /// Has the target make room for all that will be written. After `keepDiffering`.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn reserve(&self, target: &Target) -> AsyncTask<Job<()>> {
        let (plan, target) = (self.0.clone(), target.0.clone());
        job(move || plan.read().expect(UNPOISONED).reserve(&target))
    }

    /// Fills what the source did not give with a marked pattern; returns its bytes.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn write_unreadable(&self, target: &Target) -> AsyncTask<Job<f64>> {
        let (plan, target) = (self.0.clone(), target.0.clone());
        job(move || Ok(plan.read().expect(UNPOISONED).write_unreadable(&target)? as f64))
    }

    /// Drops the places of the target that hold the right bytes already; returns how many bytes. Before `births`.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn keep_differing(&self, vault: &Vault, target: &Target) -> AsyncTask<Job<f64>> {
        let (plan, vault, target) = (self.0.clone(), vault.0.clone(), target.0.clone());
        job(move || Ok(plan.write().expect(UNPOISONED).keep_differing(&target, &vault.blocks)? as f64))
    }

    /// Makes zeros of `from .. to` where the snapshot holds nothing; returns the bytes that had to be written.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn clear(&self, target: &Target, from: f64, to: f64) -> AsyncTask<Job<f64>> {
        let (plan, target) = (self.0.clone(), target.0.clone());
        job(move || Ok(plan.read().expect(UNPOISONED).clear(&target, from as u64, to as u64)? as f64))
    }

    /// Reads back from the medium what was written; returns the bytes. Throws CORRUPT where they are not as they should.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn verify(&self, vault: &Vault, target: &Target) -> AsyncTask<Job<f64>> {
        let (plan, vault, target) = (self.0.clone(), vault.0.clone(), target.0.clone());
        job(move || Ok(plan.read().expect(UNPOISONED).verify(&target, &vault.blocks)? as f64))
    }

    /// The end of the last byte that the added pages say anything of.
    #[napi(getter)]
    pub fn end(&self) -> f64 {
        self.0.read().expect(UNPOISONED).end() as f64
    }

    #[napi(getter)]
    pub fn block_count(&self) -> u32 {
        self.0.read().expect(UNPOISONED).block_count() as u32
    }

    /// Birth numbers of the distinct blocks.
    #[napi]
    pub fn births(&self) -> Births {
        Births::of(self.0.read().expect(UNPOISONED).blocks.iter().map(|block| block.birth))
    }

    /// Their signatures, 32 bytes each.
    #[napi]
    pub fn ids(&self) -> Buffer {
        self.0.read().expect(UNPOISONED).ids().into()
    }

    /// Where each of `births` lies.
    #[napi]
    pub fn locate(&self, stripes: Float64Array, offsets: Uint32Array, lengths: Uint32Array) -> Result<()> {
        let stripes: Vec<u64> = stripes.iter().map(|&stripe| stripe as u64).collect();
        self.0.write().expect(UNPOISONED).locate(&stripes, &offsets, &lengths).map_err(thrown)
    }

    #[napi]
    pub fn stripes(&self) -> Vec<f64> {
        self.0.read().expect(UNPOISONED).stripes().into_iter().map(|stripe| stripe as f64).collect()
    }

    /// Ranges of a stripe's pack to fetch: start and end alternate. Records closer than `gap` share one.
    #[napi]
    pub fn ranges(&self, stripe: f64, gap: u32) -> Vec<u32> {
        self.0
            .read()
            .expect(UNPOISONED)
            .ranges(stripe as u64, gap)
            .into_iter()
            .flat_map(|(start, end)| [start, end])
            .collect()
    }

    /// Opens the records of a stripe from what was fetched (`offsets[i]`, ascending, is where `fetched[i]` begins in the
    /// pack), verifies and writes their blocks; `only`: the blocks of a second try. Uses the bodies up.
    #[napi(ts_return_type = "Promise<WriteFacts>")]
    pub fn write(
        &self,
        stripe: f64,
        offsets: Vec<u32>,
        fetched: Vec<ClassInstance<Body>>,
        only: Option<Vec<u32>>,
        vault: &Vault,
        target: &Target,
    ) -> Result<AsyncTask<Job<WriteFacts>>> {
        let (plan, vault, target) = (self.0.clone(), vault.0.clone(), target.0.clone());
        let bodies = fetched.iter().map(|body| body.spend()).collect::<Result<Vec<_>>>()?;
        Ok(job(move || {
            let fetched: Vec<Fetched> =
                offsets.iter().zip(&bodies).map(|(&offset, bytes)| Fetched { offset, bytes }).collect();
            let plan = plan.read().expect(UNPOISONED);
            let written = plan.write(stripe as u64, &fetched, only.as_deref(), &vault.blocks, &target)?;
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
