//! Which places of records an appliance knows to be right, and how it finds out of others.

use std::path::Path;
use std::sync::{Arc, Mutex};

use napi::bindgen_prelude::{AsyncTask, BigUint64Array, Buffer, ClassInstance, Result, Uint8Array, Uint32Array};
use napi_derive::napi;

use super::super::body::Body;
use super::super::keys::Vault;
use super::super::names::Runs;
use super::super::retrieve::PlacedRecords;
use super::super::{Job, fixed, job, lock, thrown};
use super::blocks::Batch;
use super::packs::Pack;
use crate::base::error::{self, Error};
use crate::formats::record::Domain;
use crate::formats::vault;
use crate::retrieve::records::{Fetched, record};
use crate::snapshot::{proof, proved};

/// Where records of a batch are said to lie: which of the items that are not zeros, its place in its pack, and how many bytes of
/// that each shard holds.
#[napi(object)]
pub struct RecordPlaces {
    pub nths: Uint32Array,
    pub offsets: Uint32Array,
    pub lengths: Uint32Array,
    pub bodies: Uint32Array,
}

impl RecordPlaces {
    fn decode(&self) -> Vec<proof::Place> {
        let each = self.nths.iter().zip(&*self.offsets).zip(&*self.lengths).zip(&*self.bodies);
        let place = |(((&nth, &offset), &length), &body)| proof::Place { nth, offset, length, body };
        each.map(place).collect()
    }
}

/// What the holder of a part of a record answers, if it has it: which item, the index of the shard, the range of its file.
#[napi(object)]
pub struct ExpectedProof {
    pub nth: u32,
    pub index: u32,
    pub start: u32,
    pub end: u32,
    pub digest: Buffer,
}

#[napi]
impl Batch {
    /// Seals what lies at these places, at whichever of zstd's `levels` gives the lengths, and says what its holders answer to
    /// `nonce`; nothing of those that come out longer or shorter. `older`: as for `olderIds`; null: as of now. After `prepare`, before
    /// `seal`.
    #[napi(ts_return_type = "Promise<ExpectedProof[]>")]
    pub fn expect(
        &self,
        vault: &Vault,
        nonce: Uint8Array,
        places: RecordPlaces,
        levels: Vec<i32>,
        older: Option<u32>,
    ) -> Result<AsyncTask<Job<Vec<ExpectedProof>>>> {
        let (inner, vault, pages) = (self.inner.clone(), vault.0.clone(), self.source.is_none());
        let (nonce, places) = (fixed("nonce", &nonce)?, places.decode());
        Ok(job(move || {
            let domain = domain(&vault, pages, older)?;
            let expected = lock(&inner).expect(domain, &nonce, &places, &levels);
            let proof = |proof::Expected { nth, index, start, end, digest }| {
                let digest = digest.to_vec().into();
                ExpectedProof { nth, index, start, end, digest }
            };
            Ok(expected.into_iter().map(proof).collect())
        }))
    }

    /// Of items that are not zeros, those whose record in what was `fetched` of a pack (as `DiskReader.open`) does not open to
    /// their bytes. `older` as above. Uses the bodies up.
    #[napi(ts_return_type = "Promise<number[]>")]
    pub fn differ(
        &self,
        vault: &Vault,
        placed: PlacedRecords,
        offsets: Vec<u32>,
        fetched: Vec<ClassInstance<Body>>,
        older: Option<u32>,
    ) -> Result<AsyncTask<Job<Vec<u32>>>> {
        let (inner, vault, pages) = (self.inner.clone(), vault.0.clone(), self.source.is_none());
        let placed = placed.decode();
        let bodies = fetched.iter().map(|body| body.spend()).collect::<Result<Vec<_>>>()?;
        Ok(job(move || {
            let domain = domain(&vault, pages, older)?;
            let (batch, fetched) = (lock(&inner), Fetched::each(&offsets, &bodies));
            let opens = |nth, at| record(&fetched, at).is_some_and(|record| batch.opens(domain, nth, &record));
            Ok(placed.into_iter().filter(|&(nth, at)| !opens(nth, at)).map(|(nth, _)| nth).collect())
        }))
    }
}

fn domain(vault: &vault::Vault, pages: bool, older: Option<u32>) -> error::Result<&Domain> {
    match older {
        _ if pages => Ok(&vault.pages),
        None => Ok(vault.blocks.newest()),
        Some(at) => {
            vault.blocks.older().get(at as usize).ok_or_else(|| Error::invalid("domain", "there is no such older one"))
        }
    }
}

/// The places of records that this appliance stored, or proved once (docs/formats/proved.md).
#[napi]
pub struct ProvedPlaces(Arc<Mutex<proved::Proved>>);

#[napi]
impl ProvedPlaces {
    /// As the file at `path` has them; none where it is not whole, or another appliance's.
    #[napi(constructor)]
    pub fn new(path: String, vault: &Vault) -> Self {
        Self(Arc::new(Mutex::new(proved::Proved::open(Path::new(&path), &vault.0.trailer_key))))
    }

    /// Of records by id (32 bytes each) and birth, those that have a birth which is not known to be right, by their positions.
    /// Throws INVALID for a birth of no run of `runs`.
    #[napi]
    pub fn unknown(&self, runs: &Runs, ids: Uint8Array, births: BigUint64Array) -> Result<Vec<u32>> {
        let (places, runs) = (lock(&self.0), lock(&runs.0));
        let mut unknown = Vec::new();
        for (nth, (id, &birth)) in ids.as_chunks().0.iter().zip(&*births).enumerate() {
            if birth != 0 && !places.knows(&runs, birth, id).map_err(thrown)? {
                unknown.push(nth as u32);
            }
        }
        Ok(unknown)
    }

    /// Of the records as `unknown` has them, those at `nths` are right.
    #[napi]
    pub fn learn(&self, runs: &Runs, ids: Uint8Array, births: BigUint64Array, nths: Vec<u32>) -> Result<()> {
        let (mut places, runs) = (lock(&self.0), lock(&runs.0));
        for nth in nths {
            if let (Some(id), Some(&birth)) = (ids.as_chunks().0.get(nth as usize), births.get(nth as usize)) {
                places.learn(&runs, birth, id).map_err(thrown)?;
            }
        }
        Ok(())
    }

    /// All records of a pack that this appliance stored.
    #[napi]
    pub fn learn_pack(&self, runs: &Runs, pack: &Pack) -> Result<()> {
        let (mut places, runs) = (lock(&self.0), lock(&runs.0));
        pack.rows().iter().try_for_each(|row| places.learn(&runs, row.birth, &row.id)).map_err(thrown)
    }

    /// Writes them down for the next run. Throws IO.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn save(&self) -> AsyncTask<Job<()>> {
        let places = self.0.clone();
        job(move || lock(&places).save())
    }
}
