//! The boot region of exFAT: eleven sectors and a twelfth with their checksum, and the same again behind them.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 3 | 8 | FileSystemName | "EXFAT   " |
//! | 11 | 53 | MustBeZero | where FAT has its parameter block |
//! | 72 | 8 | VolumeLength | sectors |
//! | 80 | 4, 4 | FatOffset, FatLength | sectors |
//! | 88 | 4, 4 | ClusterHeapOffset, ClusterCount | sectors, clusters |
//! | 96 | 4 | FirstClusterOfRootDirectory | |
//! | 100 | 4 | VolumeSerialNumber | |
//! | 104 | 2 | FileSystemRevision | major in the upper byte, 1 |
//! | 106 | 2 | VolumeFlags | 1: the second FAT is active, 2: dirty, 4: media failures |
//! | 108 | 1, 1 | BytesPerSectorShift, SectorsPerClusterShift | 9 to 12; together at most 25 |
//! | 110 | 1 | NumberOfFats | 1 or 2 |

use crate::base::bytes::{le16, le32, le64};
use crate::base::error::{Error, Result};
use crate::disk::volume::Volume;
use crate::fs::shared::Doubts;

const WHAT: &str = "exFAT boot sector";
const SECTOR_BYTES: usize = 512;
const REGION_SECTORS: u64 = 12;
const MOST_CLUSTERS: u64 = 0xFFFF_FFF5;

#[derive(Debug)]
pub struct Boot {
    pub cluster_bytes: u32,
    pub clusters: u32,
    pub fat_at: u64,
    pub fat_bytes: u64,
    pub heap_at: u64,
    pub root_cluster: u32,
    pub serial: u32,
    pub second_fat: bool,
    pub dirty: bool,
}

pub fn detect(volume: Volume) -> Result<bool> {
    if volume.length < SECTOR_BYTES as u64 {
        return Ok(false);
    }
    let mut sector = [0; SECTOR_BYTES];
    volume.read(0, &mut sector)?;
    Ok(&sector[3..11] == b"EXFAT   " && sector[11..64].iter().all(|&byte| byte == 0))
}

/// The main region, or the backup where the main one is damaged.
pub fn read(volume: Volume, doubts: &mut Doubts) -> Result<Boot> {
    let main = read_region(volume, 0, None);
    let Err(error) = main else { return main };
    // The damaged field may be the sector's size itself.
    for shift in 9..=12 {
        if let Ok(boot) = read_region(volume, REGION_SECTORS << shift, Some(shift)) {
            doubts.push(format!("{error}; the backup boot region was taken"));
            return Ok(boot);
        }
    }
    Err(error)
}

fn read_region(volume: Volume, at: u64, expected: Option<u8>) -> Result<Boot> {
    let mut sector = [0; SECTOR_BYTES];
    volume.read(at, &mut sector)?;
    let shift = sector[108];
    if !(9..=12).contains(&shift) || expected.is_some_and(|expected| expected != shift) {
        return Err(Error::corrupt(WHAT, at + 108, format!("a sector of 2^{shift} bytes")));
    }
    let boot = decode(&sector, at, volume.length)?;
    let region = volume.read_vec(at, (REGION_SECTORS as usize) << shift)?;
    let (sectors, last) = region.split_at((REGION_SECTORS as usize - 1) << shift);
    let sum = checksum(sectors);
    if last.chunks_exact(4).any(|stored| le32(stored, 0) != sum) {
        return Err(Error::corrupt(WHAT, at, "the checksum of the boot region is wrong"));
    }
    Ok(boot)
}

/// Of eleven sectors, without VolumeFlags and PercentInUse, which change.
pub fn checksum(sectors: &[u8]) -> u32 {
    let counted = sectors.iter().enumerate().filter(|(at, _)| !matches!(at, 106 | 107 | 112));
    counted.fold(0u32, |sum, (_, &byte)| sum.rotate_right(1).wrapping_add(u32::from(byte)))
}

fn decode(sector: &[u8; SECTOR_BYTES], at: u64, volume_bytes: u64) -> Result<Boot> {
    let volume_length = le64(sector, 72);
    let fat_offset = u64::from(le32(sector, 80));
    let fat_length = u64::from(le32(sector, 84));
    let cluster_heap_offset = u64::from(le32(sector, 88));
    let cluster_count = u64::from(le32(sector, 92));
    let root_cluster = le32(sector, 96);
    let revision = le16(sector, 104);
    let volume_flags = le16(sector, 106);
    let (sector_shift, cluster_shift) = (sector[108], sector[109]);
    let number_of_fats = u64::from(sector[110]);

    let corrupt = |field: u64, why: String| Err(Error::corrupt(WHAT, at + field, why));
    if &sector[3..11] != b"EXFAT   " || sector[510..] != [0x55, 0xAA] {
        return corrupt(3, "no exFAT signature".into());
    }
    if revision >> 8 != 1 {
        return Err(Error::unsupported(format!("exFAT revision {}", revision >> 8)));
    }
    if cluster_shift > 25 - sector_shift {
        return corrupt(109, format!("a cluster of 2^{cluster_shift} sectors"));
    }
    if !(1..=2).contains(&number_of_fats) {
        return corrupt(110, format!("{number_of_fats} FATs"));
    }
    if volume_length > volume_bytes >> sector_shift {
        return corrupt(72, format!("{volume_length} sectors do not fit in a volume of {volume_bytes} bytes"));
    }
    if fat_offset < 2 * REGION_SECTORS || fat_offset + fat_length * number_of_fats > cluster_heap_offset {
        return corrupt(80, format!("{fat_length} sectors of FAT at {fat_offset} before {cluster_heap_offset}"));
    }
    if cluster_heap_offset + (cluster_count << cluster_shift) > volume_length || cluster_count > MOST_CLUSTERS {
        return corrupt(92, format!("{cluster_count} clusters do not fit in {volume_length} sectors"));
    }
    if cluster_count == 0 || (cluster_count + 2) * 4 > fat_length << sector_shift {
        return corrupt(84, format!("{fat_length} sectors of FAT for {cluster_count} clusters"));
    }
    Ok(Boot {
        cluster_bytes: 1 << (sector_shift + cluster_shift),
        clusters: cluster_count as u32,
        fat_at: fat_offset << sector_shift,
        fat_bytes: fat_length << sector_shift,
        heap_at: cluster_heap_offset << sector_shift,
        root_cluster,
        serial: le32(sector, 100),
        second_fat: volume_flags & 1 != 0 && number_of_fats == 2,
        dirty: volume_flags & 2 != 0,
    })
}
