//! Records back to back, and at the end a sealed list of them (docs/formats/pack.md), so that the signature repository
//! can be rebuilt from stripes alone while peers see no block boundaries.
//!
//! ```text
//! offset size field
//! 0      4    magic "IMPK"
//! 4      2    version 1
//! 6      2    feature bits, none known
//! 8      4    offset of the trailer T
//! 12     4    length of the pack
//! 16     ..   records
//! T      16   id of the trailer key C_a
//! T+16   ..   record of the trailer: count of domains u8, their ids (16 each), runs (names.rs), then a row a record:
//!             birth u64 | type u8 | domain u8 | id 32 | offset u32 | length u32
//! ```

use crate::base::bytes::{Cursor, Writer};
use crate::base::error::{Error, Result};
use crate::base::limits::{BLOCK_BYTES, PACK_RECORDS, PAGE_BYTES};
use crate::base::pool;
use crate::base::secret::Secret;
use crate::formats::names::{RUN_BYTES, Renumbering, RunName, Runs};
use crate::formats::record::{self, Context, RECORD_OVERHEAD, Type};

pub const MAGIC: &[u8; 4] = b"IMPK";
pub const HEADER_BYTES: usize = 16;
const ROW_BYTES: usize = 50;
/// What the trailer of a pack with this many records may take, at most.
pub const fn trailer_bound(records: usize) -> usize {
    16 + RECORD_OVERHEAD + 1 + 16 * 255 + 2 + RUN_BYTES + records * ROW_BYTES
}
/// A record of a pack, as its trailer lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where the record was first stored; permanent.
    pub birth: u64,
    pub kind: u8,
    pub domain: [u8; 16],
    pub id: [u8; 32],
    pub offset: u32,
    pub length: u32,
}

/// An empty pack: room for its header. It will not grow past `capacity`.
pub fn start(capacity: usize) -> Vec<u8> {
    let mut bytes = pool::take(capacity);
    bytes.resize(HEADER_BYTES, 0);
    bytes
}

/// Appends the trailer and fills the header. `bytes` holds room for the header and the records of `rows`.
/// Throws `Invalid` where the run of the stripe, `Corrupt` where that of a birth is not known.
pub fn finish(bytes: &mut Vec<u8>, rows: &[Row], stripe: u64, runs: &Runs, trailer_key: &Secret) -> Result<()> {
    assert!(rows.len() <= PACK_RECORDS, "an ordinal has 16 bits");
    let mut domains: Vec<[u8; 16]> = rows.iter().map(|row| row.domain).collect();
    domains.sort_unstable();
    domains.dedup();
    let mut plain = Writer::default();
    plain.u8(u8::try_from(domains.len()).expect("an appliance writes to a handful of domains"));
    domains.iter().for_each(|domain| {
        plain.raw(domain);
    });
    let mut table = Runs::default();
    let mut births = Renumbering::new(runs, &mut table);
    let numbered: Vec<u64> = rows.iter().map(|row| births.birth(row.birth)).collect::<Result<_>>()?;
    table.write(&mut plain);
    for (row, birth) in rows.iter().zip(numbered) {
        let domain = domains.binary_search(&row.domain).expect("collected above");
        plain.u64(birth).u8(row.kind).u8(domain as u8).raw(&row.id).u32(row.offset).u32(row.length);
    }
    let trailer = bytes.len();
    let key_id = trailer_key.id();
    bytes.extend_from_slice(&key_id);
    let (run, number) = runs.stripe(stripe)?;
    let context = Context { kind: Type::Trailer, domain: &key_id, id: &run.stripe_id(number) };
    record::seal(trailer_key.bytes(), context, &plain.bytes, 1, bytes);
    let mut header = Writer::default();
    header.raw(MAGIC).u16(1).u16(0).u32(trailer as u32).u32(bytes.len() as u32);
    bytes[..HEADER_BYTES].copy_from_slice(&header.bytes);
    Ok(())
}

/// Where the trailer of a pack lies, from its first `HEADER_BYTES`: (offset, pack length).
pub fn read_header(bytes: &[u8]) -> Result<(usize, usize)> {
    let mut cursor = Cursor::new("pack", bytes);
    if cursor.bytes(4)? != MAGIC {
        return Err(cursor.corrupt("this is no pack"));
    }
    let (version, features) = (cursor.u16()?, cursor.u16()?);
    if version != 1 || features != 0 {
        return Err(Error::unsupported(format!("pack version {version}, features {features:#x}")));
    }
    let (trailer, length) = (cursor.u32()? as usize, cursor.u32()? as usize);
    if trailer < HEADER_BYTES || trailer >= length {
        return Err(cursor.corrupt(format!("trailer at {trailer} of {length} bytes")));
    }
    Ok((trailer, length))
}

/// The rows of a trailer (`bytes` from its offset to the pack's end) of stripe `number` of `run`. `runs` learns the runs that
/// it names.
pub fn read_trailer(
    bytes: &[u8],
    trailer_offset: usize,
    (run, number): (&RunName, u32),
    runs: &mut Runs,
    trailer_key: &Secret,
) -> Result<Vec<Row>> {
    let key_id = trailer_key.id();
    let record = match bytes.split_at_checked(16) {
        Some((id, record)) if id == key_id => record,
        _ => return Err(Error::Forged { what: "a pack trailer sealed under another key" }),
    };
    let context = Context { kind: Type::Trailer, domain: &key_id, id: &run.stripe_id(number) };
    let plain = record::open(trailer_key.bytes(), context, record, PAGE_BYTES)?;
    let mut cursor = Cursor::new("pack trailer", &plain);
    let count = cursor.u8()?;
    let domains = (0..count).map(|_| cursor.array()).collect::<Result<Vec<[u8; 16]>>>()?;
    let table = Runs::read(&mut cursor)?;
    let mut births = Renumbering::new(&table, runs);
    let mut rows = Vec::with_capacity(cursor.remaining() / ROW_BYTES);
    while cursor.remaining() > 0 {
        let (birth, kind, domain) = (births.birth(cursor.u64()?)?, cursor.u8()?, cursor.u8()?);
        let domain = *domains.get(usize::from(domain)).ok_or_else(|| cursor.corrupt("a domain that is not listed"))?;
        let row = Row { birth, kind, domain, id: cursor.array()?, offset: cursor.u32()?, length: cursor.u32()? };
        let inside = row.offset as usize >= HEADER_BYTES
            && (row.offset as usize).checked_add(row.length as usize).is_some_and(|end| end <= trailer_offset);
        if !inside || rows.len() == PACK_RECORDS {
            return Err(cursor.corrupt("a record outside the pack"));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// The longest record that a pack can hold.
pub const RECORD_CAP: usize = if PAGE_BYTES > BLOCK_BYTES { PAGE_BYTES } else { BLOCK_BYTES } + RECORD_OVERHEAD;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_return_and_are_bound_to_stripe_and_key() {
        let key = Secret::new([1; 32]);
        let (mut runs, mut read) = (Runs::default(), Runs::default());
        let run = RunName { writer: [4; 32], run: [5; 8] };
        assert_eq!(runs.number(&run).unwrap(), 1);
        assert_eq!(read.number(&run).unwrap(), 1);
        let mut pack = start(1000);
        pack.extend_from_slice(&[1; 300]);
        let rows: Vec<Row> = (0..3u8)
            .map(|i| Row {
                birth: 1 << 40 | 5 << 16 | u64::from(i),
                kind: 1 + i % 2,
                domain: [i % 2; 16],
                id: [i; 32],
                offset: 16 + 100 * u32::from(i),
                length: 100,
            })
            .collect();
        finish(&mut pack, &rows, 1 << 24 | 5, &runs, &key).unwrap();
        let mut open = |bytes: &[u8], at: usize, number: u32, key: &Secret| {
            read_trailer(bytes, at, (&run, number), &mut read, key)
        };
        assert!(pack.len() - 316 <= trailer_bound(3));
        let (trailer, length) = read_header(&pack).unwrap();
        assert_eq!((trailer, length), (316, pack.len()));
        assert_eq!(open(&pack[trailer..], trailer, 5, &key).unwrap(), rows);
        assert!(open(&pack[trailer..], trailer, 6, &key).is_err());
        assert!(open(&pack[trailer..], trailer, 5, &Secret::new([2; 32])).is_err());
        assert!(open(&pack[trailer..], 200, 5, &key).is_err(), "a record past the trailer");
        // The length is the stripe's to say; the header's is for people who look at bytes.
        for at in 0..12 {
            let mut changed = pack.clone();
            changed[at] ^= 0x80;
            let outcome = read_header(&changed)
                .and_then(|(trailer, _)| open(changed.get(trailer..).unwrap_or_default(), trailer, 5, &key));
            assert!(outcome.is_err(), "byte {at}");
        }
    }
}
