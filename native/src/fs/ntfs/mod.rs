use super::VolumeMap;
use crate::error::{Error, Result};
use crate::volume::Volume;
pub fn detect(_volume: Volume) -> Result<bool> {
    Ok(false)
}
pub fn map(_volume: Volume) -> Result<VolumeMap> {
    Err(Error::unsupported("to come"))
}
