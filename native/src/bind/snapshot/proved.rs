//! Which places of records an appliance knows to be right.

use std::path::Path;
use std::sync::{Arc, Mutex};

use napi::bindgen_prelude::{AsyncTask, BigUint64Array, Result, Uint8Array};
use napi_derive::napi;

use super::super::keys::Vault;
use super::super::names::Runs;
use super::super::{Job, job, lock, thrown};
use super::packs::Pack;
use crate::snapshot::proved;

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
