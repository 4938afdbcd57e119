use super::Table;
use crate::error::Result;
use crate::volume::ReadAt;
pub fn read(_source: &dyn ReadAt) -> Result<Option<Table>> {
    Ok(None)
}
