//! The boot sector: sizes, and where the $MFT lies. Everything else of an NTFS volume is found through it.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0x03 | 8 | oem_id | "NTFS    " |
//! | 0x0B | 2 | bytes_per_sector | 512 to 4096 |
//! | 0x0D | 1 | sectors_per_cluster | a power of two; over 0x80: 2^(256 - value) |
//! | 0x0E | 7 | reserved | FAT's fields, zero here (0x15 is the media byte) |
//! | 0x28 | 8 | number_of_sectors | without the backup boot sector that follows |
//! | 0x30 | 8 | mft_lcn | first cluster of $MFT |
//! | 0x38 | 8 | mftmirr_lcn | first cluster of $MFTMirr |
//! | 0x40 | 1 | clusters_per_mft_record | signed; below zero: 2^-value bytes |
//! | 0x48 | 8 | volume_serial_number | |

use crate::base::bytes::{le16, le64};
use crate::base::error::{Error, Result};

pub const BOOT_BYTES: usize = 512;
const WHAT: &str = "NTFS boot sector";

#[derive(Clone, Debug)]
pub struct Boot {
    pub cluster_bytes: u64,
    /// Whole clusters of the volume. `clusters * cluster_bytes` lies inside the volume.
    pub clusters: u64,
    pub record_bytes: usize,
    pub mft_lcn: u64,
    pub mftmirr_lcn: u64,
    pub volume_serial_number: u64,
}

/// The magic and the sizes, nothing that depends on the volume's length.
pub fn looks_like(sector: &[u8; BOOT_BYTES]) -> bool {
    // FAT's own fields: a FAT volume with a forged OEM id has them.
    let fat_fields = sector[0x0E..0x15].iter().chain(&sector[0x16..0x18]).chain(&sector[0x20..0x24]);
    &sector[3..11] == b"NTFS    " && fat_fields.into_iter().all(|&byte| byte == 0) && cluster_bytes(sector).is_ok()
}

pub fn decode(sector: &[u8; BOOT_BYTES], volume_bytes: u64) -> Result<Boot> {
    let number_of_sectors = le64(sector, 0x28);
    let mft_lcn = le64(sector, 0x30);
    let mftmirr_lcn = le64(sector, 0x38);
    let clusters_per_mft_record = sector[0x40] as i8;

    if !looks_like(sector) {
        return Err(Error::corrupt(WHAT, 3, "no NTFS signature, or impossible sector and cluster sizes"));
    }
    let cluster_bytes = cluster_bytes(sector)?;
    let bytes = number_of_sectors.checked_mul(u64::from(le16(sector, 0x0B)));
    let Some(bytes) = bytes.filter(|&bytes| bytes <= volume_bytes) else {
        let why = format!("{number_of_sectors} sectors do not fit in a volume of {volume_bytes} bytes");
        return Err(Error::corrupt(WHAT, 0x28, why));
    };
    let clusters = bytes / cluster_bytes;
    if mft_lcn >= clusters {
        return Err(Error::corrupt(WHAT, 0x30, format!("$MFT at cluster {mft_lcn} of {clusters}")));
    }
    let record_bytes = record_bytes(clusters_per_mft_record, cluster_bytes)?;
    let volume_serial_number = le64(sector, 0x48);
    Ok(Boot { cluster_bytes, clusters, record_bytes, mft_lcn, mftmirr_lcn, volume_serial_number })
}

fn cluster_bytes(sector: &[u8; BOOT_BYTES]) -> Result<u64> {
    let bytes_per_sector = u64::from(le16(sector, 0x0B));
    let sectors_per_cluster = sector[0x0D];
    if !bytes_per_sector.is_power_of_two() || !(512..=4096).contains(&bytes_per_sector) {
        return Err(Error::corrupt(WHAT, 0x0B, format!("a sector of {bytes_per_sector} bytes")));
    }
    let sectors = match sectors_per_cluster {
        0..=0x80 => u64::from(sectors_per_cluster),
        // The largest cluster is 2 MiB: 2^12 sectors of 512 bytes.
        0xF4..=0xFF => 1u64 << (256 - u32::from(sectors_per_cluster)),
        _ => 0,
    };
    let bytes = sectors * bytes_per_sector;
    if !sectors.is_power_of_two() || bytes > 2 << 20 {
        return Err(Error::corrupt(WHAT, 0x0D, format!("a cluster of {sectors_per_cluster:#x} sectors")));
    }
    Ok(bytes)
}

fn record_bytes(clusters_per_mft_record: i8, cluster_bytes: u64) -> Result<usize> {
    let bytes = match clusters_per_mft_record {
        1.. => clusters_per_mft_record as u64 * cluster_bytes,
        -12..=-10 => 1u64 << -clusters_per_mft_record,
        _ => 0,
    };
    // A power of two, so that a 1 MiB read holds whole records.
    if !bytes.is_power_of_two() || !(1024..=4096).contains(&bytes) {
        let why = format!("an MFT record of {clusters_per_mft_record} clusters (negative: a power of two of bytes)");
        return Err(Error::corrupt(WHAT, 0x40, why));
    }
    Ok(bytes as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> [u8; BOOT_BYTES] {
        let mut sector = [0u8; BOOT_BYTES];
        sector[3..11].copy_from_slice(b"NTFS    ");
        sector[0x0B..0x0D].copy_from_slice(&512u16.to_le_bytes());
        sector[0x0D] = 8;
        sector[0x28..0x30].copy_from_slice(&2047u64.to_le_bytes());
        sector[0x30] = 4;
        sector[0x40] = -10i8 as u8;
        sector
    }

    #[test]
    fn sizes_are_read_in_both_encodings() {
        let mut sector = good();
        let boot = decode(&sector, 1 << 20).unwrap();
        assert_eq!((boot.cluster_bytes, boot.record_bytes, boot.clusters), (4096, 1024, 255));
        sector[0x40] = 1;
        assert_eq!(decode(&sector, 1 << 20).unwrap().record_bytes, 4096);
        sector[0x0D] = 0xF4;
        assert!(decode(&sector, 1 << 20).is_err(), "one cluster of 2 MiB cannot be a record");
        sector[0x40] = -12i8 as u8;
        sector[0x28..0x30].copy_from_slice(&(5 * 4096u64).to_le_bytes());
        assert_eq!(decode(&sector, 10 << 20).unwrap().cluster_bytes, 2 << 20);
    }

    #[test]
    fn nonsense_is_refused() {
        let edits: [(usize, u8); 9] = [
            (3, b'X'),
            (0x0B, 1),
            (0x0C, 0x20),
            (0x0D, 0),
            (0x0D, 3),
            (0x0D, 0xF3),
            (0x10, 2),
            (0x40, 0),
            (0x40, 0x80),
        ];
        for (at, byte) in edits {
            let mut sector = good();
            sector[at] = byte;
            assert!(decode(&sector, 1 << 20).is_err(), "byte {at:#x} = {byte:#x}");
        }
        assert!(decode(&good(), 2047 * 512 - 1).is_err());
        let mut sector = good();
        sector[0x28..0x30].fill(0xff);
        assert!(decode(&sector, u64::MAX).is_err());
        let mut sector = good();
        sector[0x30..0x32].copy_from_slice(&300u16.to_le_bytes());
        assert!(decode(&sector, 1 << 20).is_err());
    }
}
