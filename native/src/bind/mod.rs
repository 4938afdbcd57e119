//! The Node boundary: functions that convert, call, convert back. Nothing else names napi.
//!
//! Long work runs as a `Job` on libuv's pool, off the event loop; its inputs and outputs move, they are not copied.

mod body;
mod formats;
mod keys;
mod listing;
mod map;
mod mount;
mod names;
mod restore;
mod retrieve;
mod signatures;
mod snapshot;
mod stripes;
mod wire;

use std::sync::{Mutex, MutexGuard};

use napi::bindgen_prelude::{AsyncTask, Result, ToNapiValue, TypeName};
use napi::{Env, Task};

use crate::base::error::Error;

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("no holder of this lock panics")
}

/// `CODE: sentence`, which `src/native.ts` turns into an ImagerError.
fn thrown(error: Error) -> napi::Error {
    napi::Error::from_reason(format!("{}: {error}", error.code()))
}

fn fixed<const N: usize>(what: &'static str, bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| thrown(Error::invalid(what, format!("{} bytes, not {N}", bytes.len()))))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As many bytes as are written in hexadecimal.
fn decoded<const N: usize>(what: &'static str, digits: &str) -> Result<[u8; N]> {
    let byte = |at: usize| digits.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..digits.len() / 2).map(byte).collect();
    fixed(what, &bytes.unwrap_or_default())
}

/// glibc raises its threshold for mapped memory to the size of what was freed last, and from then on keeps shards in its
/// arenas: a fixed one gives each back as it goes (a snapshot's peak: 503 MB without this, 296 MB with it).
#[napi_derive::module_init]
fn start() {
    // SAFETY: a plain call that sets a parameter of the allocator; refused, it changes nothing.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20)
    };
}

/// A function that runs once, elsewhere.
pub struct Job<T>(Option<Box<dyn FnOnce() -> crate::base::error::Result<T> + Send>>);

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
    work: impl FnOnce() -> crate::base::error::Result<T> + Send + 'static,
) -> AsyncTask<Job<T>> {
    AsyncTask::new(Job(Some(Box::new(work))))
}
