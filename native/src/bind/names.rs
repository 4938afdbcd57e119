//! Names of runs, stripes and shards.

use std::sync::{Arc, Mutex};

use napi::bindgen_prelude::{BigUint64Array, Buffer, Result, Uint8Array};
use napi_derive::napi;

use super::{fixed, hex, lock, thrown};
use crate::formats::names::{self, Renumbering, RunName};

/// Runs by their names (writer 32, run 8) and by the numbers that stand for them in stripes and births: a stripe is run
/// number * 2^24 + its number in the run, a birth stripe * 2^16 + ordinal.
#[napi]
pub struct Runs(pub(super) Arc<Mutex<names::Runs>>);

fn named(name: &[u8]) -> Result<RunName> {
    fixed("name of a run", name).map(|name| RunName::of(&name))
}

#[napi]
impl Runs {
    /// One that knows no run yet.
    #[napi(constructor)]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// The number of a run, a new one where it has none; from 1. Throws UNSUPPORTED at the 2^24th.
    #[napi]
    pub fn number(&self, name: Uint8Array) -> Result<u32> {
        lock(&self.0).number(&named(&name)?).map_err(thrown)
    }

    /// Its number; null where it has none.
    #[napi]
    pub fn find(&self, name: Uint8Array) -> Result<Option<u32>> {
        Ok(lock(&self.0).find(&named(&name)?))
    }

    /// The name of a run (40 bytes); null where the number was not given.
    #[napi]
    pub fn name(&self, number: u32) -> Option<Buffer> {
        lock(&self.0).name(number.into()).map(|name| name.bytes().to_vec().into())
    }

    /// How many there are.
    #[napi(getter)]
    pub fn count(&self) -> u32 {
        lock(&self.0).names().len() as u32
    }

    /// Births as `from` numbers them by the numbers here, where runs that are new get one. Throws CORRUPT.
    #[napi]
    pub fn translate(&self, births: BigUint64Array, from: &Runs) -> Result<BigUint64Array> {
        if Arc::ptr_eq(&self.0, &from.0) {
            return Ok(births);
        }
        let (from, mut to) = (lock(&from.0), lock(&self.0));
        let mut renumbering = Renumbering::new(&from, &mut to);
        let here: crate::base::error::Result<Vec<u64>> = births.iter().map(|&birth| renumbering.birth(birth)).collect();
        here.map(BigUint64Array::from).map_err(thrown)
    }
}

/// The id of a shard, in hexadecimal: of the run `name` (40 bytes), the stripe's number in it, the index in the stripe.
#[napi]
pub fn shard_id(name: Uint8Array, number: u32, index: u8) -> Result<String> {
    Ok(hex(&named(&name)?.shard_id(number, index)))
}
