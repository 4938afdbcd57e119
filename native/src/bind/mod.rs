//! The Node boundary: functions that convert, call, convert back. Nothing else names napi.
//!
//! Long work runs as a `Job` on libuv's pool, off the event loop; its inputs and outputs move, they are not copied.

mod fuse;
mod keys;
mod names;
mod retrieve;
mod scan;
mod shards;
mod snapshot;

use napi::bindgen_prelude::{AsyncTask, Result, ToNapiValue, TypeName};
use napi::{Env, Task};

use crate::error::Error;

/// `CODE: sentence`, which `src/native.ts` turns into an ImagerError.
fn thrown(error: Error) -> napi::Error {
    napi::Error::from_reason(format!("{}: {error}", error.code()))
}

fn fixed<const N: usize>(what: &'static str, bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| thrown(Error::invalid(what, format!("{} bytes, not {N}", bytes.len()))))
}

/// A function that runs once, elsewhere.
pub struct Job<T>(Option<Box<dyn FnOnce() -> crate::error::Result<T> + Send>>);

impl<T: Send + 'static + ToNapiValue + TypeName> Task for Job<T> {
    type Output = T;
    type JsValue = T;

    fn compute(&mut self) -> Result<T> {
        let work = self.0.take().expect("libuv runs a job once");
        work().map_err(thrown)
    }

    fn resolve(&mut self, _env: Env, output: T) -> Result<T> {
        Ok(output)
    }
}

fn job<T: Send + 'static + ToNapiValue + TypeName>(
    work: impl FnOnce() -> crate::error::Result<T> + Send + 'static,
) -> AsyncTask<Job<T>> {
    AsyncTask::new(Job(Some(Box::new(work))))
}
