//! The boot sector of FAT12, FAT16 and FAT32 with its BIOS parameter block.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0x0B | 2 | BPB_BytsPerSec | 512 to 4096 |
//! | 0x0D | 1 | BPB_SecPerClus | a power of two |
//! | 0x0E | 2 | BPB_RsvdSecCnt | sectors before the first FAT |
//! | 0x10 | 1 | BPB_NumFATs | 1 or 2 |
//! | 0x11 | 2 | BPB_RootEntCnt | entries of the fixed root; 0 on FAT32 |
//! | 0x13, 0x20 | 2, 4 | BPB_TotSec16, BPB_TotSec32 | sectors, the first that is not 0 |
//! | 0x15 | 1 | BPB_Media | F0, F8 to FF |
//! | 0x16, 0x24 | 2, 4 | BPB_FATSz16, BPB_FATSz32 | sectors of one FAT; the second on FAT32 alone |
//! | 0x28 | 2 | BPB_ExtFlags | FAT32: bit 7: only the FAT of bits 0 to 3 is kept |
//! | 0x2C | 4 | BPB_RootClus | FAT32: first cluster of the root |
//! | 0x24 or 0x40 | 31 | drive, flags (bit 0 dirty), 0x29, serial, label | |
//!
//! Microsoft's specification tells FAT12 from FAT16 by the number of clusters, and so is it done here. FAT32 has
//! another layout of the block, known by BPB_FATSz16 = 0: small FAT32 volumes exist (`mkfs.fat -F 32`), and Linux and
//! dosfstools read them by this field (mtools takes them for FAT12 or FAT16, and reads nonsense).

use super::table::Width;
use crate::base::bytes::{le16, le32};
use crate::base::error::{Error, Result};
use crate::fs::recognise::{BITLOCKER_TO_GO, BITLOCKER_TO_GO_AT};

pub const BOOT_BYTES: usize = 512;
const WHAT: &str = "FAT boot sector";
const FIRST_FAT16: u64 = 4085;
const FIRST_FAT32: u64 = 65525;
/// FAT32 keeps 28 bits, and the last values mean something else.
const MOST_CLUSTERS: u64 = 0x0FFF_FFF5;

#[derive(Clone, Debug)]
pub struct Boot {
    pub width: Width,
    pub cluster_bytes: u32,
    /// Clusters 2 to `clusters + 1` exist, and the FAT has an entry for each.
    pub clusters: u32,
    pub fat_at: u64,
    pub fat_bytes: u64,
    /// Copies that are kept alike, 1 or 2, from `fat_at` on.
    pub fats: u64,
    /// Byte offset and length; empty on FAT32.
    pub root_region: (u64, u64),
    pub root_cluster: u32,
    pub heap_at: u64,
    pub dirty: bool,
    pub label: [u8; 11],
    pub serial: u32,
}

/// Whether every field of the block is one that a FAT volume can have.
pub fn looks_like(sector: &[u8; BOOT_BYTES]) -> bool {
    let bytes_per_sector = le16(sector, 0x0B);
    let sector_fits = bytes_per_sector.is_power_of_two() && (512..=4096).contains(&bytes_per_sector);
    sector[510..] == [0x55, 0xAA]
        && matches!(sector[0], 0xEB | 0xE9)
        && sector_fits
        && sector[0x0D].is_power_of_two()
        && le16(sector, 0x0E) != 0
        && matches!(sector[0x10], 1..=2)
        && matches!(sector[0x15], 0xF0 | 0xF8..)
        && (le16(sector, 0x16) != 0 || le32(sector, 0x24) != 0)
        && sector[BITLOCKER_TO_GO_AT as usize..][..16] != BITLOCKER_TO_GO
}

pub fn decode(sector: &[u8; BOOT_BYTES], volume_bytes: u64) -> Result<Boot> {
    if !looks_like(sector) {
        return Err(Error::corrupt(WHAT, 0, "no parameter block of FAT"));
    }
    let sector_bytes = u64::from(le16(sector, 0x0B));
    let cluster_sectors = u64::from(sector[0x0D]);
    let reserved = u64::from(le16(sector, 0x0E));
    let copies = u64::from(sector[0x10]);
    let root_entries = u64::from(le16(sector, 0x11));
    let sectors = match le16(sector, 0x13) {
        0 => u64::from(le32(sector, 0x20)),
        few => u64::from(few),
    };
    let large = le16(sector, 0x16) == 0;
    let fat_sectors = if large { u64::from(le32(sector, 0x24)) } else { u64::from(le16(sector, 0x16)) };
    let extended = if large { 0x40 } else { 0x24 };

    if sectors * sector_bytes > volume_bytes {
        let why = format!("{sectors} sectors do not fit in a volume of {volume_bytes} bytes");
        return Err(Error::corrupt(WHAT, 0x20, why));
    }
    if large && root_entries != 0 {
        return Err(Error::corrupt(WHAT, 0x11, "FAT32 with a fixed root directory"));
    }
    let root_at = reserved + copies * fat_sectors;
    let heap_sector = root_at + (root_entries * 32).div_ceil(sector_bytes);
    if heap_sector >= sectors {
        return Err(Error::corrupt(WHAT, 0x20, format!("{sectors} sectors leave no room for clusters")));
    }
    let clusters = (sectors - heap_sector) / cluster_sectors;
    let width = match clusters {
        _ if large => Width::Fat32,
        ..FIRST_FAT16 => Width::Fat12,
        FIRST_FAT16..FIRST_FAT32 => Width::Fat16,
        _ => return Err(Error::corrupt(WHAT, 0x16, format!("a FAT16 volume of {clusters} clusters"))),
    };
    let clusters = clusters.min(width.entries(fat_sectors * sector_bytes).saturating_sub(2)).min(MOST_CLUSTERS);
    if clusters == 0 {
        return Err(Error::corrupt(WHAT, 0x24, "no room for a cluster"));
    }
    // Only one of the copies is kept: as if it were alone.
    let ext_flags = if large { le16(sector, 0x28) } else { 0 };
    let alone = ext_flags & 0x80 != 0;
    let active = if alone { u64::from(ext_flags & 0xF) } else { 0 };
    if active >= copies {
        return Err(Error::corrupt(WHAT, 0x28, format!("FAT {active} of {copies}")));
    }
    let has_serial = matches!(sector[extended + 2], 0x28 | 0x29);
    let label: [u8; 11] = sector[extended + 7..][..11].try_into().expect("eleven bytes");
    Ok(Boot {
        width,
        cluster_bytes: (cluster_sectors * sector_bytes) as u32,
        clusters: clusters as u32,
        fat_at: (reserved + active * fat_sectors) * sector_bytes,
        fat_bytes: fat_sectors * sector_bytes,
        fats: if alone { 1 } else { copies },
        root_region: (root_at * sector_bytes, root_entries * 32),
        root_cluster: if large { le32(sector, 0x2C) } else { 0 },
        heap_at: heap_sector * sector_bytes,
        dirty: sector[extended + 1] & 1 != 0,
        label: if sector[extended + 2] == 0x29 { label } else { [b' '; 11] },
        serial: if has_serial { le32(sector, extended + 3) } else { 0 },
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// 2,880 sectors of 512 bytes: a floppy disk.
    pub fn floppy() -> [u8; BOOT_BYTES] {
        let mut sector = [0u8; BOOT_BYTES];
        sector[..3].copy_from_slice(&[0xEB, 0x3C, 0x90]);
        sector[0x0C] = 2;
        sector[0x0D] = 1;
        sector[0x0E] = 1;
        sector[0x10] = 2;
        sector[0x11] = 224;
        sector[0x13..0x15].copy_from_slice(&2880u16.to_le_bytes());
        sector[0x15] = 0xF0;
        sector[0x16] = 9;
        sector[0x26] = 0x29;
        sector[0x27..0x2B].copy_from_slice(&0x1234_ABCDu32.to_le_bytes());
        sector[0x2B..0x36].copy_from_slice(b"FLOPPY     ");
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        sector
    }

    fn sized(sectors: u32, fat_sectors: u16) -> Result<Boot> {
        let mut sector = floppy();
        sector[0x13..0x15].fill(0);
        sector[0x20..0x24].copy_from_slice(&sectors.to_le_bytes());
        sector[0x16..0x18].copy_from_slice(&fat_sectors.to_le_bytes());
        decode(&sector, 1 << 40)
    }

    #[test]
    fn a_floppy_is_fat12() {
        let boot = decode(&floppy(), 1_474_560).unwrap();
        assert_eq!((boot.width, boot.clusters, boot.cluster_bytes), (Width::Fat12, 2847, 512));
        assert_eq!((boot.root_region, boot.heap_at, boot.serial), ((19 * 512, 7168), 33 * 512, 0x1234_ABCD));
        assert!(decode(&floppy(), 1_474_559).is_err(), "longer than the volume");
    }

    #[test]
    fn the_number_of_clusters_decides() {
        let before = |fat: u32| 1 + 2 * fat + 14;
        assert_eq!(sized(before(12) + 4084, 12).unwrap().width, Width::Fat12);
        assert_eq!(sized(before(16) + 4085, 16).unwrap().width, Width::Fat16);
        assert_eq!(sized(before(256) + 65524, 256).unwrap().width, Width::Fat16);
        assert!(sized(before(512) + 65525, 512).is_err());
        assert_eq!(sized(before(2) + 4000, 2).unwrap().clusters, 1024 * 2 / 3 - 2, "no more than the FAT holds");
    }

    #[test]
    fn nonsense_is_refused() {
        let edits: [(usize, u8); 10] = [
            (0, 0),
            (0x0B, 1),
            (0x0C, 0x20),
            (0x0D, 0),
            (0x0D, 3),
            (0x0E, 0),
            (0x10, 0),
            (0x10, 9),
            (0x15, 1),
            (511, 0),
        ];
        for (at, byte) in edits {
            let mut sector = floppy();
            sector[at] = byte;
            assert!(!looks_like(&sector) && decode(&sector, 1 << 40).is_err(), "byte {at:#x} = {byte:#x}");
        }
        let mut sector = floppy();
        sector[BITLOCKER_TO_GO_AT as usize..][..16].copy_from_slice(&BITLOCKER_TO_GO);
        assert!(!looks_like(&sector));
    }
}
