//! Which superblock counts: the primary one, or a backup ("Sparse Superblocks") where that is damaged.

use super::superblock::{LOG_BLOCK_SIZE_MOST, SUPERBLOCK_BYTES, Superblock};
use crate::base::bytes::le16;
use crate::base::error::{Error, Result};
use crate::disk::volume::Volume;

/// Where groups 1 and 3 begin, which hold a backup whatever the features, with groups as large as `mke2fs` makes them.
fn backup_offsets() -> impl Iterator<Item = (u16, u64)> {
    (0..=LOG_BLOCK_SIZE_MOST).flat_map(|log| {
        let block_bytes = 1024u64 << log;
        let first = u64::from(log == 0);
        [1u16, 3].map(|group| (group, (first + u64::from(group) * 8 * block_bytes) * block_bytes))
    })
}

/// The primary one, else a backup.
pub fn read(volume: Volume) -> Result<Superblock> {
    match Superblock::read(volume) {
        Err(error @ Error::Corrupt { .. }) => match find(volume) {
            // Nothing in it says whether the journal waits to be replayed.
            Some(found) => Ok(Superblock { dirty: true, stands_in: Some(error.to_string()), ..found }),
            None => Err(error),
        },
        other => other,
    }
}

/// The first backup that makes sense where it lies; with a volume of anything else there is none.
pub fn find(volume: Volume) -> Option<Superblock> {
    backup_offsets().find_map(|(group, at)| {
        let raw = volume.read_vec(at, SUPERBLOCK_BYTES).ok()?;
        let found = Superblock::decode(&raw, volume.length).ok()?;
        let own =
            le16(&raw, 0x5a) == group && found.group_first_block(group.into()) * u64::from(found.block_bytes) == at;
        own.then_some(found)
    })
}
