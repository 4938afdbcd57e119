//! The signature repository's index.

use std::path::Path;
use std::sync::Arc;

use napi::bindgen_prelude::{AsyncTask, BigUint64Array, Buffer, Float64Array, Result, Uint8Array, Uint32Array};
use napi_derive::napi;

use super::{Job, job, thrown};
use crate::signatures::index::{self, Index};

use crate::signatures::row::{self, Hit};

/// Rows of the repository from those of a commit.
#[napi]
pub fn signature_rows(stripe: f64, records: Uint8Array, births: Option<BigUint64Array>) -> Buffer {
    row::rows(stripe as u64, &records, births.as_deref()).into()
}

/// Writes rows as a segment that no index uses yet.
#[napi]
pub fn write_segment(folder: String, number: u32, rows: Uint8Array) -> Result<f64> {
    index::write_segment(Path::new(&folder), number, &rows).map(|rows| rows as f64).map_err(thrown)
}

/// The rows of a batch's ids, in no order; `indexes` says which id each belongs to.
#[napi(object)]
pub struct Hits {
    pub indexes: Uint32Array,
    pub births: BigUint64Array,
    pub stripes: Float64Array,
    pub offsets: Uint32Array,
    pub lengths: Uint32Array,
}

impl Hits {
    fn of(hits: &[Hit]) -> Self {
        Self {
            indexes: hits.iter().map(|hit| hit.index).collect::<Vec<_>>().into(),
            births: hits.iter().map(|hit| hit.birth).collect::<Vec<_>>().into(),
            stripes: hits.iter().map(|hit| hit.stripe as f64).collect::<Vec<_>>().into(),
            offsets: hits.iter().map(|hit| hit.offset).collect::<Vec<_>>().into(),
            lengths: hits.iter().map(|hit| hit.length).collect::<Vec<_>>().into(),
        }
    }
}

/// The rows of a signature repository: the newest in memory, the others in segments, which are files `<number>.seg` of
/// one folder (docs/formats/segment.md). Rows come as bytes, 56 each.
#[napi]
pub struct SignatureIndex(Arc<Index>);

#[napi]
impl SignatureIndex {
    /// With no rows yet. The filters of all segments together take at most `filterBytes` of memory.
    #[napi(constructor)]
    pub fn new(folder: String, filter_bytes: f64) -> Self {
        Self(Arc::new(Index::new(Path::new(&folder), filter_bytes as u64)))
    }

    /// Holds these rows in memory too; returns how many are held there. Throws INVALID for a part of a row.
    #[napi]
    pub fn add(&self, rows: Uint8Array) -> Result<u32> {
        self.0.add(&rows).map(|count| count as u32).map_err(thrown)
    }

    /// Marks the rows in memory as those that the next `flush` writes; what is added from now on is not among them.
    #[napi]
    pub fn freeze(&self) {
        self.0.freeze();
    }

    /// Takes the mark back, after a `flush` that failed.
    #[napi]
    pub fn thaw(&self) {
        self.0.thaw();
    }

    /// Writes the marked rows as a segment, which is not asked before `useSegments` names it; returns how many. Throws
    /// IO.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn flush(&self, number: u32) -> AsyncTask<Job<f64>> {
        let index = self.0.clone();
        job(move || index.flush(number).map(|rows| rows as f64))
    }

    /// Writes the rows of segments in use as one, which is not asked before `useSegments` names it; returns how many.
    /// Throws INVALID where one of them is not in use, or after `stop`; IO; CORRUPT.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn merge(&self, numbers: Vec<u32>, into: u32) -> AsyncTask<Job<f64>> {
        let index = self.0.clone();
        job(move || index.merge(&numbers, into).map(|rows| rows as f64))
    }

    /// Asks exactly these segments from now on, and no longer the marked rows. Throws CORRUPT for a damaged one, IO for
    /// one that is absent.
    #[napi]
    pub fn use_segments(&self, numbers: Vec<u32>) -> Result<()> {
        self.0.use_segments(&numbers).map_err(thrown)
    }

    /// All rows of these ids, 32 bytes each. Throws CORRUPT for a damaged page, and IO.
    #[napi(ts_return_type = "Promise<Hits>")]
    pub fn find(&self, ids: Uint8Array) -> AsyncTask<Job<Hits>> {
        let index = self.0.clone();
        job(move || index.find(&ids).map(|hits| Hits::of(&hits)))
    }

    /// Has merges end soon by throwing INVALID, those that begin later too.
    #[napi]
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Makes this process the one that may make and remove segments; false where another one is. Throws IO.
    #[napi]
    pub fn lock(&self) -> Result<bool> {
        self.0.lock().map_err(thrown)
    }

    /// Lets another process make and remove segments.
    #[napi]
    pub fn unlock(&self) {
        self.0.unlock();
    }
}
