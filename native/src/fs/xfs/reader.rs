//! What every reader of a structure needs.

use super::superblock::Superblock;
use crate::disk::volume::Volume;
use crate::fs::budget::Budget;
use crate::fs::in_use::InUse;

pub struct Xfs<'a> {
    pub volume: Volume<'a>,
    pub superblock: Superblock,
    pub budget: Budget,
    pub in_use: InUse<'a>,
}

impl Xfs<'_> {
    /// Superblock, AGF, AGI and AGFL of each group, and the log are in use whatever the trees say.
    pub fn claim_headers(&self) {
        let superblock = &self.superblock;
        let blocks = (4 * u32::from(superblock.sector_bytes)).div_ceil(superblock.block_bytes);
        for group in 0..superblock.ag_count {
            let count = blocks.min(superblock.ag_length(group));
            self.in_use.claim(superblock.ag_first(group), u64::from(count));
        }
        if let Some((first, count)) = superblock.log {
            self.in_use.claim(first, count);
        }
    }
}
