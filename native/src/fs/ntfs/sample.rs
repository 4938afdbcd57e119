//! Test only: small NTFS volumes made by hand, so that each hostile edit is a named one.

use super::boot::BOOT_BYTES;

pub const CLUSTER: usize = 1024;
pub const RECORD: usize = 1024;
pub const MFT_LCN: usize = 4;
pub const RECORDS: usize = 48;
pub const CLUSTERS: usize = 256;

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

pub fn resident(kind: u32, name: &str, value: &[u8]) -> Vec<u8> {
    let mut raw = vec![0u8; 24];
    raw[0..4].copy_from_slice(&kind.to_le_bytes());
    raw[9] = name.encode_utf16().count() as u8;
    raw[0x0A] = 24;
    raw[0x10..0x14].copy_from_slice(&(value.len() as u32).to_le_bytes());
    raw.extend(utf16(name));
    pad(&mut raw);
    let value_offset = raw.len() as u16;
    raw[0x14..0x16].copy_from_slice(&value_offset.to_le_bytes());
    raw.extend(value);
    pad(&mut raw);
    let length = raw.len() as u32;
    raw[4..8].copy_from_slice(&length.to_le_bytes());
    raw
}

/// `lowest_vcn`, clusters of this segment, data size (initialized size is the same), mapping pairs.
pub fn non_resident(kind: u32, name: &str, vcns: (u64, u64), data_size: u64, pairs: &[u8]) -> Vec<u8> {
    let mut raw = vec![0u8; 64];
    raw[0..4].copy_from_slice(&kind.to_le_bytes());
    raw[8] = 1;
    raw[9] = name.encode_utf16().count() as u8;
    raw[0x0A] = 64;
    raw[0x10..0x18].copy_from_slice(&vcns.0.to_le_bytes());
    raw[0x18..0x20].copy_from_slice(&(vcns.0 + vcns.1).wrapping_sub(1).to_le_bytes());
    raw[0x28..0x30].copy_from_slice(&(vcns.1 * CLUSTER as u64).to_le_bytes());
    raw[0x30..0x38].copy_from_slice(&data_size.to_le_bytes());
    raw[0x38..0x40].copy_from_slice(&data_size.to_le_bytes());
    raw.extend(utf16(name));
    pad(&mut raw);
    let pairs_offset = raw.len() as u16;
    raw[0x20..0x22].copy_from_slice(&pairs_offset.to_le_bytes());
    raw.extend(pairs);
    raw.push(0);
    pad(&mut raw);
    let length = raw.len() as u32;
    raw[4..8].copy_from_slice(&length.to_le_bytes());
    raw
}

/// With fixups in place. Attribute instances are their positions.
pub fn record(flags: u16, sequence: u16, usn: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut raw = vec![0u8; 0x38];
    raw[..4].copy_from_slice(b"FILE");
    raw[4] = 0x30;
    raw[6] = (RECORD / 512 + 1) as u8;
    raw[0x10..0x12].copy_from_slice(&sequence.to_le_bytes());
    raw[0x14] = 0x38;
    raw[0x16..0x18].copy_from_slice(&flags.to_le_bytes());
    for (instance, attribute) in attributes.iter().enumerate() {
        let at = raw.len();
        raw.extend(attribute);
        raw[at + 0x0E] = instance as u8;
    }
    raw.extend(0xFFFF_FFFFu32.to_le_bytes());
    pad(&mut raw);
    let in_use = raw.len() as u32;
    raw[0x18..0x1C].copy_from_slice(&in_use.to_le_bytes());
    assert!(raw.len() <= RECORD, "the sample does not fit in its record");
    raw.resize(RECORD, 0);
    seal(&mut raw, usn);
    raw
}

/// Writes the fixups of an open record.
pub fn seal(raw: &mut [u8], usn: u16) {
    raw[0x30..0x32].copy_from_slice(&usn.to_le_bytes());
    for sector in 1..=RECORD / 512 {
        raw.copy_within(sector * 512 - 2..sector * 512, 0x30 + sector * 2);
        raw[sector * 512 - 2..sector * 512].copy_from_slice(&usn.to_le_bytes());
    }
}

pub fn standard_information(attributes: u32) -> Vec<u8> {
    let mut value = [0u8; 48];
    value[8..16].copy_from_slice(&116_444_736_015_000_000i64.to_le_bytes());
    value[32..36].copy_from_slice(&attributes.to_le_bytes());
    resident(0x10, "", &value)
}

pub fn file_name(parent: u64, sequence: u16, namespace: u8, name: &str) -> Vec<u8> {
    let mut value = vec![0u8; 66];
    value[..8].copy_from_slice(&(parent | u64::from(sequence) << 48).to_le_bytes());
    value[64] = name.encode_utf16().count() as u8;
    value[65] = namespace;
    value.extend(utf16(name));
    resident(0x30, "", &value)
}

/// A volume of 256 clusters of 1 KiB: $MFT of 48 records at cluster 4, $Bitmap at cluster 100, root, "hello" (record
/// 30, resident), "data" (31, clusters 120 to 123, size 4000), folder "d" (32) with "inner" (33). Sequences are 1.
pub fn volume() -> Vec<u8> {
    let mut disk = vec![0u8; CLUSTERS * CLUSTER + 512];
    disk[3..11].copy_from_slice(b"NTFS    ");
    disk[0x0B..0x0D].copy_from_slice(&512u16.to_le_bytes());
    disk[0x0D] = (CLUSTER / 512) as u8;
    disk[0x28..0x30].copy_from_slice(&((CLUSTERS * CLUSTER / 512) as u64).to_le_bytes());
    disk[0x30] = MFT_LCN as u8;
    disk[0x38] = 200;
    disk[0x40] = (-10i8) as u8;
    disk[0x48..0x50].copy_from_slice(&0x0123_4567_89AB_CDEFu64.to_le_bytes());
    disk[BOOT_BYTES - 2..BOOT_BYTES].copy_from_slice(&[0x55, 0xAA]);

    let mft = (RECORDS * RECORD) as u64;
    put(&mut disk, 0, &[standard_information(6), non_resident(0x80, "", (0, 48), mft, &[0x11, 48, MFT_LCN as u8])]);
    let label = resident(0x60, "", &utf16("Sample"));
    put(&mut disk, 3, &[standard_information(6), label, resident(0x70, "", &[0, 0, 0, 0, 0, 0, 0, 0, 3, 1, 1, 0])]);
    put(&mut disk, 6, &[standard_information(6), non_resident(0x80, "", (0, 1), 32, &[0x11, 1, 100])]);
    put_flags(&mut disk, 5, 3, &[standard_information(6), file_name(5, 1, 3, ".")]);
    put_flags(&mut disk, 11, 3, &[standard_information(6), file_name(5, 1, 3, "$Extend")]);
    put(&mut disk, 24, &[standard_information(6), file_name(11, 1, 3, "$Quota")]);
    put(&mut disk, 30, &[standard_information(32), file_name(5, 1, 3, "hello"), resident(0x80, "", b"hello, world")]);
    let runs = non_resident(0x80, "", (0, 4), 4000, &[0x11, 4, 120]);
    put(&mut disk, 31, &[standard_information(32), file_name(5, 1, 3, "data"), runs]);
    put_flags(&mut disk, 32, 3, &[standard_information(32), file_name(5, 1, 0, "d")]);
    put(&mut disk, 33, &[standard_information(32), file_name(32, 1, 0, "inner"), resident(0x80, "", b"")]);

    let bits = 100 * CLUSTER;
    for cluster in (0..8).chain(MFT_LCN..MFT_LCN + 48).chain([100, 200]).chain(120..124) {
        disk[bits + cluster / 8] |= 1 << (cluster % 8);
    }
    disk
}

pub fn put(disk: &mut [u8], number: usize, attributes: &[Vec<u8>]) {
    put_flags(disk, number, 1, attributes);
}

pub fn put_flags(disk: &mut [u8], number: usize, flags: u16, attributes: &[Vec<u8>]) {
    let at = MFT_LCN * CLUSTER + number * RECORD;
    disk[at..at + RECORD].copy_from_slice(&record(flags, 1, 3, attributes));
}

/// Makes record `number` an extension of record `base`.
pub fn extend(disk: &mut [u8], number: usize, base: u64) {
    let at = MFT_LCN * CLUSTER + number * RECORD;
    disk[at + 0x20..at + 0x28].copy_from_slice(&(base | 1 << 48).to_le_bytes());
}

/// One entry of an attribute list.
pub fn list_entry(kind: u32, lowest_vcn: u64, record: u64, instance: u16) -> Vec<u8> {
    let mut entry = vec![0u8; 32];
    entry[..4].copy_from_slice(&kind.to_le_bytes());
    entry[4] = 32;
    entry[7] = 26;
    entry[8..16].copy_from_slice(&lowest_vcn.to_le_bytes());
    entry[16..24].copy_from_slice(&(record | 1 << 48).to_le_bytes());
    entry[24..26].copy_from_slice(&instance.to_le_bytes());
    entry
}
