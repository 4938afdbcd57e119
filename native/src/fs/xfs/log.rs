//! Whether the log is clean: its newest record says "unmounted". Every sector of the log starts with the number of
//! its round (cycle); the sectors of the newest round come first, those of the round before follow. The head is
//! where the number falls, found by halving as the kernel does, and the record that ends there decides.
//! Whatever is not just so is dirty: a wrong "clean" would hide changes, a wrong "dirty" only says too much. That
//! includes an external log, and a last record that wraps around the log's end.

use super::superblock::Superblock;
use crate::base::bytes::{be32, be64};
use crate::base::error::Result;
use crate::base::limits::{KIB, MIB};
use crate::disk::volume::Volume;

const SECTOR: usize = 512;
const MAGIC: u32 = 0xfeed_babe;
const UNMOUNT: u8 = 0x20;
/// A record is at most 256 KiB, with a header sector for each 32 KiB; an unmount record is much shorter.
const RECORD_BYTES: usize = 272 * KIB;
const HEADER_COVERS: u32 = 32 * KIB as u32;
/// Eight records may be on their way at once; none of them may have left a trace after the head.
const AHEAD_BYTES: usize = 2 * MIB;

pub fn is_clean(volume: Volume, superblock: &Superblock) -> bool {
    match superblock.log {
        Some((first, blocks)) => {
            let log = Log { volume, superblock, at: superblock.bytes(first), sectors: superblock.bytes(blocks) / 512 };
            log.is_clean().unwrap_or(false)
        }
        None => false,
    }
}

struct Log<'a> {
    volume: Volume<'a>,
    superblock: &'a Superblock,
    at: u64,
    sectors: u64,
}

impl Log<'_> {
    fn read(&self, sector: u64, count: u64) -> Result<Vec<u8>> {
        self.volume.read_vec(self.at + sector * SECTOR as u64, count as usize * SECTOR)
    }

    fn is_clean(&self) -> Result<bool> {
        if self.sectors < 2 {
            return Ok(false);
        }
        let newest = cycle(&self.read(0, 1)?);
        let head = self.head(newest)?;
        let ahead = self.read(head, (self.sectors - head).min((AHEAD_BYTES / SECTOR) as u64))?;
        if newest == 0 || ahead.chunks_exact(SECTOR).any(|sector| cycle(sector) >= newest) {
            return Ok(false);
        }
        let behind = head.min((RECORD_BYTES / SECTOR) as u64);
        let first = head - behind;
        let records = self.read(first, behind)?;
        let last = records.chunks_exact(SECTOR).rposition(|sector| be32(sector, 0) == MAGIC);
        let Some(last) = last else { return Ok(false) };
        Ok(self.is_unmount(&records[last * SECTOR..], newest, first + last as u64))
    }

    /// The first sector that is not of round `newest`; the end of the log if there is none.
    fn head(&self, newest: u32) -> Result<u64> {
        let (mut low, mut high) = (0, self.sectors);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if cycle(&self.read(middle, 1)?) == newest {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(high)
    }

    /// `record` goes from its header to the head.
    fn is_unmount(&self, record: &[u8], newest: u32, sector: u64) -> bool {
        let (h_cycle, h_version, h_len) = (be32(record, 4), be32(record, 8), be32(record, 12));
        let (h_lsn, h_num_logops, h_size) = (be64(record, 16), be32(record, 40), be32(record, 320));
        let headers = if h_version & 2 != 0 { h_size.div_ceil(HEADER_COVERS).max(1) as usize } else { 1 };
        let length = headers.checked_add(h_len.div_ceil(SECTOR as u32) as usize);
        let whole = length.is_some_and(|length| length * SECTOR == record.len()) && h_len > 0;
        let here = h_cycle == newest && h_lsn == u64::from(newest) << 32 | sector;
        if !whole || !here || h_num_logops != 1 || record[304..320] != self.superblock.uuid {
            return false;
        }
        // oh_tid u32 (its place holds the cycle), oh_len u32, oh_clientid u8, oh_flags u8.
        record[headers * SECTOR + 9] & UNMOUNT != 0
    }
}

/// In a record's header, the magic number comes first.
fn cycle(sector: &[u8]) -> u32 {
    match be32(sector, 0) {
        MAGIC => be32(sector, 4),
        cycle => cycle,
    }
}
