//! GUID partition tables (UEFI specification, chapter 5.3). A header counts only when its own CRC, its position and
//! the CRC of its entry array all hold; the backup at the end of the disk stands in for a bad primary.
//!
//! ```text
//! header   0 signature "EFI PART"   8 Revision   12 HeaderSize   16 HeaderCRC32   24 MyLBA   32 AlternateLBA
//!         56 DiskGUID   72 PartitionEntryLBA   80 NumberOfPartitionEntries   84 SizeOfPartitionEntry
//!         88 PartitionEntryArrayCRC32
//! entry    0 PartitionTypeGUID   16 UniquePartitionGUID   32 StartingLBA   40 EndingLBA (inclusive)
//!         48 Attributes   56 PartitionName (36 UTF-16 units)
//! ```

use super::mbr;
use super::table::{Claims, Partition, Table, TableKind};
use crate::base::bytes::{le32, le64};
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::disk::volume::ReadAt;

const SIGNATURE: &[u8; 8] = b"EFI PART";
const HEADER_BYTES: usize = 92;
/// Smaller ones first: a disk of 4096-byte sectors has no header at byte 512.
const SECTOR_BYTES: [u32; 2] = [512, 4096];
const ENTRY_BYTES_LEAST: u32 = 128;
const ENTRY_BYTES_MOST: u32 = 4096;
const NAME_AT: usize = 56;
const NAME_BYTES: usize = 72;

/// A header whose checksum and whose array's checksum hold.
struct Header {
    sector_bytes: u64,
    lba: u64,
    alternate: u64,
    id: String,
    entries_at: u64,
    entry_bytes: usize,
    entries: Vec<u8>,
}

/// `None` when the disk does not claim to have a GPT. A protective MBR without any usable header gives a table
/// without partitions and a doubt, so that the whole disk is read raw.
pub fn read(source: &dyn ReadAt) -> Result<Option<Table>> {
    let Some(first) = mbr::first_sector(source)? else { return Ok(None) };
    let claim = mbr::protective(&first);
    // Without a protective MBR a header is a leftover when the first sector says something else about the disk.
    if claim == mbr::Protective::Contradicted {
        return Ok(None);
    }
    let mut doubts = Vec::new();
    let mut header = find(source, HeaderCopy::Primary, &mut doubts)?;
    if header.is_none() && claim == mbr::Protective::No {
        return Ok(None);
    }
    if header.is_none() {
        header = find(source, HeaderCopy::Backup, &mut doubts)?;
        if header.is_some() {
            doubts.push("the primary GPT header is not usable, its backup at the end of the disk was read".into());
        }
    } else if claim == mbr::Protective::No {
        doubts.push("the GPT has no protective MBR".into());
    }
    match header {
        Some(header) => {
            doubts.extend(other_copy(source, &header)?);
            let mut table = table(source, &header, doubts);
            for index in mbr::strangers(&first, header.sector_bytes, &table.partitions) {
                table.doubts.push(format!("entry {index} of the hybrid MBR is no partition of the GPT, which counts"));
            }
            Ok(Some(table))
        }
        None if claim == mbr::Protective::Hybrid => Ok(None),
        None => {
            doubts.push("the protective MBR announces a GPT, and neither of its headers is usable".into());
            let kind = TableKind::Gpt;
            Ok(Some(Table { kind, id: String::new(), sector_bytes: 512, partitions: vec![], doubts }))
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum HeaderCopy {
    Primary,
    Backup,
}

/// The first usable header of either sector size; what looks like one and is not usable becomes a doubt.
fn find(source: &dyn ReadAt, copy: HeaderCopy, doubts: &mut Vec<String>) -> Result<Option<Header>> {
    for sector_bytes in SECTOR_BYTES {
        let sectors = source.length() / u64::from(sector_bytes);
        if sectors < 3 {
            continue;
        }
        let lba = if copy == HeaderCopy::Primary { 1 } else { sectors - 1 };
        match header(source, lba, sector_bytes) {
            Ok(Some(header)) => return Ok(Some(header)),
            Ok(None) => {}
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(error) => doubts.push(error.to_string()),
        }
    }
    Ok(None)
}

/// Why the backup does not confirm a good primary header. A bad primary was doubted before.
fn other_copy(source: &dyn ReadAt, primary: &Header) -> Result<Option<String>> {
    if primary.lba != 1 {
        return Ok(None);
    }
    let sectors = source.length() / primary.sector_bytes;
    if primary.alternate >= sectors {
        return Ok(Some("the backup of the GPT lies past the end of the disk".into()));
    }
    match header(source, primary.alternate, primary.sector_bytes as u32) {
        Ok(Some(backup)) if backup.entries == primary.entries && backup.id == primary.id => Ok(None),
        Ok(Some(_)) => Ok(Some("the backup of the GPT says something else than the primary one, which counts".into())),
        Ok(None) => Ok(Some("there is no backup of the GPT".into())),
        Err(error @ Error::Io { .. }) => Err(error),
        Err(error) => Ok(Some(format!("the backup of the GPT is not usable: {error}"))),
    }
}

/// `Ok(None)` without the signature, `Corrupt` with one that cannot be believed.
fn header(source: &dyn ReadAt, lba: u64, sector_bytes: u32) -> Result<Option<Header>> {
    let at = lba * u64::from(sector_bytes);
    let mut sector = vec![0; sector_bytes as usize];
    source.read_at(at, &mut sector)?;
    if sector[..8] != *SIGNATURE {
        return Ok(None);
    }
    let header_size = le32(&sector, 12) as usize;
    let header_crc = le32(&sector, 16);
    let my_lba = le64(&sector, 24);
    let alternate_lba = le64(&sector, 32);
    let partition_entry_lba = le64(&sector, 72);
    let number_of_entries = le32(&sector, 80);
    let size_of_entry = le32(&sector, 84);
    let array_crc = le32(&sector, 88);

    let corrupt = |why: String| Err(Error::corrupt("GPT header", at, why));
    if !(HEADER_BYTES..=sector.len()).contains(&header_size) {
        return corrupt(format!("HeaderSize is {header_size}"));
    }
    sector[16..20].fill(0);
    if crc32fast::hash(&sector[..header_size]) != header_crc {
        return corrupt("its checksum does not match".into());
    }
    if my_lba != lba {
        return corrupt(format!("MyLBA is {my_lba}, it lies at {lba}"));
    }
    if number_of_entries as usize > limits::PARTITIONS {
        return corrupt(format!("{number_of_entries} entries, at most {} are read", limits::PARTITIONS));
    }
    let entry_sizes = ENTRY_BYTES_LEAST..=ENTRY_BYTES_MOST;
    if !entry_sizes.contains(&size_of_entry) || !size_of_entry.is_power_of_two() {
        return corrupt(format!("SizeOfPartitionEntry is {size_of_entry}"));
    }
    let array_bytes = number_of_entries as usize * size_of_entry as usize;
    let entries_at = partition_entry_lba.checked_mul(u64::from(sector_bytes));
    let Some(entries_at) = entries_at.filter(|&at| {
        partition_entry_lba >= 2 && at.checked_add(array_bytes as u64).is_some_and(|end| end <= source.length())
    }) else {
        return corrupt(format!("the entry array at sector {partition_entry_lba} is outside the disk"));
    };
    let mut entries = vec![0; array_bytes];
    source.read_at(entries_at, &mut entries)?;
    if crc32fast::hash(&entries) != array_crc {
        return corrupt("the checksum of its entry array does not match".into());
    }
    Ok(Some(Header {
        sector_bytes: u64::from(sector_bytes),
        lba,
        alternate: alternate_lba,
        id: guid(&sector[56..72]),
        entries_at,
        entry_bytes: size_of_entry as usize,
        entries,
    }))
}

fn table(source: &dyn ReadAt, header: &Header, doubts: Vec<String>) -> Table {
    let sector = header.sector_bytes;
    let array_bytes = header.entries.len() as u64;
    let mut claims = Claims::new(source.length(), doubts);
    // Both copies of the table are no partition's: a file system could call their bytes free.
    claims.reserve(0, 2 * sector);
    claims.reserve(2 * sector, array_bytes);
    claims.reserve(header.entries_at, array_bytes);
    claims.reserve(header.lba * sector, sector);
    if let Some(at) = header.alternate.checked_mul(sector).filter(|&at| at < source.length()) {
        claims.reserve(at, sector);
        claims.reserve(at.saturating_sub(array_bytes), array_bytes.min(at));
    }
    for (number, entry) in header.entries.chunks_exact(header.entry_bytes).enumerate() {
        if entry[..16] == [0; 16] {
            continue;
        }
        let index = number as u32 + 1;
        let starting_lba = le64(entry, 32);
        let ending_lba = le64(entry, 40);
        let bounds =
            starting_lba.checked_mul(sector).zip(ending_lba.checked_add(1).and_then(|e| e.checked_mul(sector)));
        let Some((start, end)) = bounds.filter(|(start, end)| start < end) else {
            claims.doubts.push(format!("partition {index} ends before it starts, it was left out"));
            continue;
        };
        let (kind, name) = (guid(&entry[..16]), name(&entry[NAME_AT..NAME_AT + NAME_BYTES]));
        claims.claim(Partition { index, start, length: end - start, kind, name });
    }
    let (partitions, doubts) = (claims.partitions, claims.doubts);
    Table { kind: TableKind::Gpt, id: header.id.clone(), sector_bytes: sector as u32, partitions, doubts }
}

/// The usual text form: the first three fields are little-endian.
fn guid(bytes: &[u8]) -> String {
    let hex = |order: &[usize]| order.iter().map(|&at| format!("{:02X}", bytes[at])).collect::<String>();
    [hex(&[3, 2, 1, 0]), hex(&[5, 4]), hex(&[7, 6]), hex(&[8, 9]), hex(&[10, 11, 12, 13, 14, 15])].join("-")
}

fn name(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    String::from_utf16_lossy(&units.take_while(|&unit| unit != 0).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_table(source: &dyn ReadAt) -> Result<Table> {
        crate::disk::read_table(source, &|_| false)
    }

    const LINUX: [u8; 16] = [
        0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4, //
    ];

    /// A disk of `sectors` with a protective MBR and both tables; `spans` are inclusive sector pairs.
    fn disk(sector: usize, sectors: usize, spans: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = vec![0; sector * sectors];
        bytes[446 + 4] = 0xee;
        bytes[446 + 8] = 1;
        bytes[446 + 12..446 + 16].copy_from_slice(&(sectors as u32 - 1).to_le_bytes());
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        let mut array = vec![0; 128 * 128];
        for (entry, (first, last)) in array.chunks_exact_mut(128).zip(spans) {
            entry[..16].copy_from_slice(&LINUX);
            entry[32..40].copy_from_slice(&first.to_le_bytes());
            entry[40..48].copy_from_slice(&last.to_le_bytes());
            for (at, unit) in "Größe".encode_utf16().enumerate() {
                entry[56 + 2 * at..58 + 2 * at].copy_from_slice(&unit.to_le_bytes());
            }
        }
        let array_sectors = array.len() / sector;
        let last = sectors - 1;
        for (lba, other, array_lba) in [(1, last, 2), (last, 1, last - array_sectors)] {
            bytes[array_lba * sector..][..array.len()].copy_from_slice(&array);
            let header = &mut bytes[lba * sector..][..HEADER_BYTES];
            header[..8].copy_from_slice(SIGNATURE);
            header[10] = 1;
            header[12] = HEADER_BYTES as u8;
            header[24..32].copy_from_slice(&(lba as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(other as u64).to_le_bytes());
            header[72..80].copy_from_slice(&(array_lba as u64).to_le_bytes());
            header[80..84].copy_from_slice(&128u32.to_le_bytes());
            header[84..88].copy_from_slice(&128u32.to_le_bytes());
            header[88..92].copy_from_slice(&crc32fast::hash(&array).to_le_bytes());
            seal(&mut bytes, lba * sector);
        }
        bytes
    }

    fn seal(bytes: &mut [u8], at: usize) {
        bytes[at + 16..at + 20].fill(0);
        let crc = crc32fast::hash(&bytes[at..at + HEADER_BYTES]);
        bytes[at + 16..at + 20].copy_from_slice(&crc.to_le_bytes());
    }

    #[test]
    fn both_sector_sizes_are_read() {
        for sector in [512usize, 4096] {
            let table = read_table(&disk(sector, 400, &[(100, 199), (200, 299)])).unwrap();
            assert_eq!((table.kind, table.sector_bytes as usize), (TableKind::Gpt, sector));
            assert_eq!(table.doubts, Vec::<String>::new());
            let second = &table.partitions[1];
            assert_eq!((second.index, second.start, second.length), (2, 200 * sector as u64, 100 * sector as u64));
            assert_eq!(second.kind, "0FC63DAF-8483-4772-8E79-3D69D8477DE4");
            assert_eq!(second.name, "Größe");
        }
    }

    #[test]
    fn the_backup_stands_in_for_a_bad_primary() {
        let mut zeroed = disk(512, 400, &[(100, 199)]);
        zeroed[512..1024].fill(0);
        let mut array = disk(512, 400, &[(100, 199)]);
        array[1024 + 32] ^= 1;
        let mut count = disk(512, 400, &[(100, 199)]);
        count[512 + 80..512 + 84].fill(0xff);
        seal(&mut count, 512);
        for bytes in [zeroed, array, count] {
            let table = read_table(&bytes).unwrap();
            assert_eq!(table.partitions.len(), 1);
            assert!(!table.doubts.is_empty());
        }
    }

    #[test]
    fn a_backup_that_does_not_confirm_is_doubted() {
        let good = || disk(512, 400, &[(100, 199)]);
        let mut gone = good();
        gone[399 * 512..].fill(0);
        let mut damaged = good();
        damaged[399 * 512 + 60] ^= 1;
        let mut other = disk(512, 400, &[(100, 198)]);
        other[..34 * 512].copy_from_slice(&good()[..34 * 512]);
        let mut grown = good();
        grown.resize(500 * 512, 0);
        for (bytes, doubts) in [(good(), 0), (gone, 1), (damaged, 1), (other, 1), (grown, 0)] {
            let table = read_table(&bytes).unwrap();
            assert_eq!((table.partitions[0].length, table.doubts.len()), (100 * 512, doubts), "{:?}", table.doubts);
        }
    }

    #[test]
    fn of_a_hybrid_mbr_the_gpt_counts() {
        let mut bytes = disk(512, 400, &[(100, 199), (200, 299)]);
        let put = |bytes: &mut Vec<u8>, slot: usize, first: u32, sectors: u32| {
            let entry = &mut bytes[446 + 16 * slot..][..16];
            entry[4] = 0x83;
            entry[8..12].copy_from_slice(&first.to_le_bytes());
            entry[12..16].copy_from_slice(&sectors.to_le_bytes());
        };
        put(&mut bytes, 1, 100, 100);
        let same = bytes.clone();
        put(&mut bytes, 2, 210, 90);
        for (bytes, doubts) in [(same, 0), (bytes, 1)] {
            let table = read_table(&bytes).unwrap();
            assert_eq!((table.kind, table.partitions.len(), table.doubts.len()), (TableKind::Gpt, 2, doubts));
        }
    }

    #[test]
    fn two_bad_headers_leave_the_disk_raw() {
        let mut bytes = disk(512, 400, &[(100, 199)]);
        for lba in [1, 399] {
            bytes[lba * 512 + 80..lba * 512 + 84].fill(0xff);
            seal(&mut bytes, lba * 512);
        }
        let table = read_table(&bytes).unwrap();
        assert_eq!((table.kind, table.partitions.len()), (TableKind::Gpt, 0));
        assert_eq!(table.doubts.len(), 3);
    }

    #[test]
    fn overlapping_and_outlying_partitions_are_left_out_or_clipped() {
        let spans = [(100, 199), (150, 250), (1, 50), (300, 200), (u64::MAX - 1, u64::MAX), (500, 600), (250, 350)];
        let table = read_table(&disk(512, 400, &spans)).unwrap();
        assert_eq!(table.partitions.iter().map(|p| p.index).collect::<Vec<_>>(), [1, 7]);
        assert_eq!(table.doubts.len(), 5);

        let clipped = read_table(&disk(4096, 400, &[(100, 199)])[..4096 * 150].to_vec()).unwrap();
        assert_eq!((clipped.partitions[0].length, clipped.doubts.len()), (50 * 4096, 2));
    }

    #[test]
    fn a_leftover_header_below_a_real_mbr_is_not_a_table() {
        let mut bytes = disk(512, 400, &[(100, 199)]);
        bytes[446 + 4] = 0x83;
        bytes[446 + 8] = 10;
        bytes[446 + 12..446 + 16].copy_from_slice(&20u32.to_le_bytes());
        let table = read_table(&bytes).unwrap();
        assert_eq!((table.kind, table.partitions.len()), (TableKind::Mbr, 1));
    }
}
