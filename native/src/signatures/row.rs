//! A row of the signature repository: which block lies where (docs/formats/segment.md).

pub const ID_BYTES: usize = 32;
pub const ROW_BYTES: usize = 56;
pub type Id = [u8; ID_BYTES];
pub type Row = [u8; ROW_BYTES];

/// Of `commit`: id | offset u32 LE | length u32 LE.
const RECORD_BYTES: usize = 40;
/// The first bytes of an id as a number: ids are hashes, so this says where among sorted ones it lies.
pub fn prefix(id: &[u8]) -> u64 {
    u64::from_be_bytes(id[..8].try_into().expect("an id has 32 bytes"))
}

/// Rows as the log and segments have them. Birth numbers are `stripe << 16 | row number` where none are given.
pub fn rows(stripe: u64, records: &[u8], births: Option<&[u64]>) -> Vec<u8> {
    let records = records.as_chunks::<RECORD_BYTES>().0;
    let mut bytes = Vec::with_capacity(records.len() * ROW_BYTES);
    for (ordinal, record) in records.iter().enumerate() {
        let birth = births.and_then(|births| births.get(ordinal).copied()).unwrap_or(stripe << 16 | ordinal as u64);
        bytes.extend(&record[..ID_BYTES]);
        bytes.extend(birth.to_be_bytes());
        bytes.extend(stripe.to_be_bytes());
        bytes.extend(record[ID_BYTES..ID_BYTES + 4].iter().rev());
        bytes.extend(record[ID_BYTES + 4..].iter().rev());
    }
    bytes
}

/// What is behind an id, with the id's number in the batch.
#[derive(Debug, PartialEq, Eq)]
pub struct Hit {
    pub index: u32,
    pub birth: u64,
    pub stripe: u64,
    pub offset: u32,
    pub length: u32,
}

impl Hit {
    pub fn of((index, row): &(u32, Row)) -> Self {
        let long = |at: usize| u64::from_be_bytes(row[at..at + 8].try_into().expect("a row is 56 bytes"));
        let last = long(48);
        Self { index: *index, birth: long(32), stripe: long(40), offset: (last >> 32) as u32, length: last as u32 }
    }
}
