//! Large bytes that pass through JavaScript without lying in its heap.

use std::sync::Mutex;

use napi::bindgen_prelude::{Buffer, Result, Uint8Array};
use napi_derive::napi;

use super::thrown;
use crate::base::error::Error;
use crate::base::pool::{self, Recycled};

/// What was fetched, outside of JavaScript's heap. It is used once; then its memory goes round.
#[napi]
pub struct Body(Mutex<Option<Recycled>>);

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Mutex::new(Some(Recycled(bytes))))
    }
}

#[napi]
impl Body {
    /// A copy, of what came another way.
    #[napi(constructor)]
    pub fn new(bytes: Uint8Array) -> Self {
        // From the pool, to which it goes back: else each copy would leave the pool one buffer larger.
        let mut copy = pool::take(bytes.len());
        copy.extend_from_slice(&bytes);
        copy.into()
    }

    /// Bytes; 0 once they were taken or used.
    #[napi(getter)]
    pub fn length(&self) -> u32 {
        self.0.lock().expect("no holder of this lock panics").as_ref().map_or(0, |bytes| bytes.len() as u32)
    }

    /// The bytes for JavaScript; none are left here.
    #[napi]
    pub fn take(&self) -> Result<Buffer> {
        Ok(std::mem::take(&mut self.spend()?.0).into())
    }

    pub(super) fn spend(&self) -> Result<Recycled> {
        let bytes = self.0.lock().expect("no holder of this lock panics").take();
        bytes.ok_or_else(|| thrown(Error::invalid("body", "it was used already")))
    }
}
