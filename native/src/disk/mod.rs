//! Partition tables. The sectors outside partitions are part of the image too; the caller takes the complement.

#![forbid(unsafe_code)]

pub mod gpt;
pub mod lvm;
pub mod mbr;
pub mod salvage;
pub mod sandbox;
pub mod source;
pub mod table;
pub mod volume;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::error::Result;
use crate::disk::table::{Known, Table, without_table};
use crate::disk::volume::ReadAt;

/// Reads the table of a disk: GPT (primary, else backup; 512- and 4096-byte sectors), else MBR with logical
/// partitions, else none. Broken tables degrade to fewer partitions with a doubt, never to an error: what is not
/// in a partition is read raw. Bad sectors count as zeros. Only other I/O fails.
///
/// `known` tells small from large sectors by what lies where a table of either would have its partitions.
pub fn read_table(source: &dyn ReadAt, known: Known) -> Result<Table> {
    let salvaged = Salvaged { source, refused: AtomicBool::new(false) };
    let mut table = read_any(&salvaged, known)?;
    if salvaged.refused.into_inner() {
        table.doubts.push("sectors where partition tables lie cannot be read".into());
    }
    Ok(table)
}

struct Salvaged<'a> {
    source: &'a dyn ReadAt,
    refused: AtomicBool,
}

impl ReadAt for Salvaged<'_> {
    fn length(&self) -> u64 {
        self.source.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let refused = salvage::read(self.source, offset, buffer)?;
        self.refused.fetch_or(!refused.is_empty(), Ordering::Relaxed);
        Ok(())
    }
}

fn read_any(source: &dyn ReadAt, known: Known) -> Result<Table> {
    if let Some(table) = gpt::read(source)? {
        return Ok(table);
    }
    if let Some(table) = mbr::read(source, known)? {
        return Ok(table);
    }
    Ok(without_table(source, vec![]))
}
