//! Names in folders, for a restore of files.

use napi::bindgen_prelude::{BigInt, Result, Uint8Array};
use napi_derive::napi;

use super::thrown;
use crate::restore::attributes;

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
