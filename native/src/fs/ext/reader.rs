//! What every reader of a structure needs, and the way from an inode's number to its bytes.

use super::group::Group;
use super::superblock::Superblock;
use crate::base::error::{Error, Result};
use crate::disk::volume::Volume;
use crate::fs::budget::Budget;
use crate::fs::in_use::InUse;

/// What every reader of a structure needs.
pub struct Ext<'a> {
    pub volume: Volume<'a>,
    pub superblock: Superblock,
    pub groups: Vec<Group>,
    pub budget: Budget,
    pub in_use: InUse<'a>,
}

impl Ext<'_> {
    /// One inode's bytes and where they lie, for an inode that another one names.
    pub fn read_inode(&self, number: u32) -> Result<(Vec<u8>, u64)> {
        let index = number.wrapping_sub(1);
        let (group, index) = (index / self.superblock.inodes_per_group, index % self.superblock.inodes_per_group);
        let group = self.groups.get(group as usize).filter(|group| group.trusted && index < group.inodes);
        let Some(group) = group else {
            return Err(Error::corrupt("inode", u64::from(number), "its table does not hold it"));
        };
        let inode_bytes = usize::from(self.superblock.inode_bytes);
        let at = self.superblock.bytes(group.inode_table) + u64::from(index) * inode_bytes as u64;
        Ok((self.volume.read_vec(at, inode_bytes)?, at))
    }
}
