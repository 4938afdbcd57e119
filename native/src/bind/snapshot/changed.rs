//! What moved while it was read, for TypeScript.

use std::sync::{Arc, Mutex};

use napi::bindgen_prelude::{AsyncTask, BigUint64Array, Result, Uint8Array};
use napi_derive::napi;

use super::super::map::DiskScan;
use super::super::names::Runs;
use super::super::{Job, job, lock, thrown};
use super::blocks::BlockSource;
use crate::base::error::Error;
use crate::base::ranges::{ByteRange, coalesce, without};
use crate::disk::source::Source;
use crate::map::cut;
use crate::map::scan::Scan;
use crate::snapshot::copy::Copy;
use crate::snapshot::parent::Parent;
use crate::snapshot::{changed, reuse};

/// What each file's record said.
#[napi]
pub struct FileRecords(pub(super) Arc<changed::Records>);

/// What the last snapshot of a disk holds of it.
#[napi]
pub struct Reuse(pub(super) Arc<Mutex<reuse::Reuse>>);

/// What is to be read again, and a copy of some of it.
#[napi]
pub struct Reread {
    source: Arc<Source>,
    scan: Arc<Mutex<Scan>>,
    again: changed::Reread,
    copy: Arc<Mutex<Option<Copy>>>,
    ended: Option<Arc<Copy>>,
    copied: Vec<ByteRange>,
}

#[napi]
impl DiskScan {
    /// The blocks of the disk in reading order; those that `reuse` knows are not read.
    #[napi]
    pub fn reader(&self, reuse: Option<&Reuse>) -> BlockSource {
        BlockSource::new(self.source.clone(), lock(&self.scan).cut(), reuse.map(|reuse| reuse.0.clone()))
    }

    /// `taken`: when the tables were read, in seconds since 1970 by this host's clock.
    #[napi(ts_return_type = "Promise<FileRecords>")]
    pub fn records(&self, taken: f64) -> AsyncTask<Job<FileRecords>> {
        let scan = self.scan.clone();
        job(move || Ok(FileRecords(Arc::new(changed::Records::of(&lock(&scan), taken as i64)))))
    }

    /// What of this scan `snapshot` (16 bytes) holds, as it was kept in `path`; null where that is of another snapshot, or
    /// nothing was kept. `run`: the number of this snapshot of the disk. `runs` learns the
    /// runs that it names. Throws CORRUPT.
    #[napi(ts_return_type = "Promise<Reuse | null>")]
    pub fn reuse(&self, path: String, snapshot: Uint8Array, run: f64, runs: &Runs) -> AsyncTask<Job<Option<Reuse>>> {
        let (scan, snapshot, runs) = (self.scan.clone(), snapshot.to_vec(), runs.0.clone());
        job(move || {
            let Some(mut parent) = Parent::open(&path, runs)?.filter(|parent| *snapshot == parent.snapshot) else {
                return Ok(None);
            };
            let (scan, before) = (lock(&scan), changed::Records(std::mem::take(&mut parent.files)));
            let again = changed::reread(&before, &scan);
            let unchanged = without(&without(&scan.allocated(), &again.tables), &again.files);
            Ok(Some(Reuse(Arc::new(Mutex::new(reuse::Reuse::new(parent, unchanged, run as u64))))))
        })
    }

    /// What of this scan may differ from what was read after `before`. `folder` takes the copy of it.
    #[napi(ts_return_type = "Promise<Reread>")]
    pub fn reread(&self, before: &FileRecords, folder: String) -> AsyncTask<Job<Reread>> {
        let (source, scan, before) = (self.source.clone(), self.scan.clone(), before.0.clone());
        job(move || {
            let again = changed::reread(&before, &lock(&scan));
            let ranges = again.tables.iter().chain(&again.files).copied();
            let copy = Copy::new(&folder, lock(&scan).size, ranges)?;
            Ok(Reread { source, scan, again, copy: Arc::new(Mutex::new(Some(copy))), ended: None, copied: vec![] })
        })
    }
}

impl Reread {
    pub(super) fn ranges(&self) -> Vec<ByteRange> {
        coalesce(self.again.tables.iter().chain(&self.again.files).copied().collect())
    }

    fn left(&self) -> Vec<ByteRange> {
        without(&self.ranges(), &self.copied)
    }
}

#[napi]
impl Reread {
    /// Copies some MiB more, tables first; false when nothing is left.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn step(&self) -> AsyncTask<Job<bool>> {
        let (copy, source) = (self.copy.clone(), self.source.clone());
        job(move || lock(&copy).as_mut().map_or(Err(used()), |copy| copy.step(source.as_ref())))
    }

    /// Bytes in the copy so far; 0 once it has ended.
    #[napi(getter)]
    pub fn copied_bytes(&self) -> f64 {
        lock(&self.copy).as_ref().map_or(0, Copy::written) as f64
    }

    /// Undoes the last step.
    #[napi]
    pub fn drop_last(&self) -> Result<()> {
        lock(&self.copy).as_mut().map(Copy::drop_last).ok_or_else(|| thrown(used()))
    }

    /// Ends the copy: its blocks.
    #[napi]
    pub fn copied(&mut self) -> Result<BlockSource> {
        let copy = Arc::new(lock(&self.copy).take().ok_or_else(|| thrown(used()))?.finish());
        self.copied = copy.copied();
        self.ended = Some(copy.clone());
        let cut = cut::cut(&self.copied, &lock(&self.scan).volumes);
        Ok(BlockSource::new(copy, cut, None))
    }

    /// Gives the space of the copy back.
    #[napi]
    pub fn release(&self) {
        lock(&self.copy).as_ref().into_iter().for_each(Copy::release);
        self.ended.iter().for_each(|copy| copy.release());
    }

    /// After `copied`: the blocks of what was not, from the disk.
    #[napi]
    pub fn rest(&self) -> BlockSource {
        let cut = cut::cut(&self.left(), &lock(&self.scan).volumes);
        BlockSource::new(self.source.clone(), cut, None)
    }

    /// After `copied`: bytes that were not, but belong to no file.
    #[napi(getter)]
    pub fn tables_left(&self) -> f64 {
        without(&self.again.tables, &self.copied).iter().map(|range| range.length).sum::<u64>() as f64
    }

    /// After `copied`: what was not. Start and length alternate.
    #[napi]
    pub fn ranges_left(&self) -> BigUint64Array {
        self.left().iter().flat_map(|range| [range.start, range.length]).collect::<Vec<_>>().into()
    }
}

fn used() -> Error {
    Error::invalid("copy", "it has ended")
}
