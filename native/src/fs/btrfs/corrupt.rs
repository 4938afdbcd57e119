//! How what a compressed extent holds is refused, whatever it was compressed with.

use crate::base::error::Error;

pub fn corrupt(why: impl Into<String>) -> Error {
    Error::corrupt("btrfs compressed extent", 0, why)
}
