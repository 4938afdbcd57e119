//! One shard of a stripe as a peer stores it (docs/formats/shard.md). The clear part lets a peer scrub and prove what
//! it holds without any key; the sealed part lets the fleet find out where the shard belongs without any catalog.
//!
//! ```text
//! offset size field
//! 0      4    magic "IMSH"
//! 4      2    version 1
//! 6      2    feature bits, none known
//! 8      16   shard id, random
//! 24     4    body length B
//! 28     4    length of the sealed header H
//! 32     32   root = BLAKE3(bytes 0..28 | slice table)
//! 64     32   BLAKE3 of the sealed header
//! 96     32*n slice table: BLAKE3 of each 64 KiB of the body
//! ..     H    sealed header: key id (16) | record of {fleet 16, stripe u64, index u8, k u8, m u8, pack bytes u32, root 32}
//! ..          zeros
//! 4096   B    body
//! ```

use crate::base::bytes::{Cursor, Writer};
use crate::base::error::{Error, Result};
use crate::base::limits::{SHARD_BYTES, SLICE_BYTES};
use crate::base::secret::Secret;
use crate::formats::record::{self, Context, Type};

pub const MAGIC: &[u8; 4] = b"IMSH";
/// Where the body begins: the longest slice table and sealed header fit before it, and it is a page boundary.
pub const BODY_OFFSET: usize = 4096;
const TABLE_OFFSET: usize = 96;
const SEALED_CAP: usize = 512;

pub const HEADER_KEY: &str = "imager v1 shard header";

/// What the clear header says, its own consistency checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClearHeader {
    pub shard: [u8; 16],
    pub root: [u8; 32],
    pub body_bytes: usize,
    slices: Vec<[u8; 32]>,
    sealed: Vec<u8>,
}

/// What the sealed header says: where a shard belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedHeader {
    pub fleet: [u8; 16],
    pub stripe: u64,
    pub index: u8,
    pub k: u8,
    pub m: u8,
    pub pack_bytes: u32,
    pub root: [u8; 32],
}

fn root(head: &[u8], table: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(head).update(table).finalize().as_bytes()
}

fn context<'a>(key_id: &'a [u8; 16], padded: &'a [u8; 32]) -> Context<'a> {
    Context { kind: Type::ShardHeader, domain: key_id, id: padded }
}

fn padded(shard: &[u8; 16]) -> [u8; 32] {
    let mut id = [0; 32];
    id[..16].copy_from_slice(shard);
    id
}

/// The slice table of a body.
pub fn table(body: &[u8]) -> Vec<[u8; 32]> {
    body.chunks(SLICE_BYTES).map(|slice| *blake3::hash(slice).as_bytes()).collect()
}

/// What stands before a body of so many bytes with this slice table, `BODY_OFFSET` bytes; and its root,
/// which is put into the sealed header too. `trailer_key` is C_a.
pub fn header(
    body_bytes: usize,
    table: &[[u8; 32]],
    shard: [u8; 16],
    mut sealed_header: SealedHeader,
    trailer_key: &Secret,
) -> (Vec<u8>, [u8; 32]) {
    assert!(body_bytes <= SHARD_BYTES, "a shard is cut to size before it has a header");
    assert_eq!(table.len(), body_bytes.div_ceil(SLICE_BYTES), "a hash for each slice");
    let mut writer = Writer::default();
    writer.raw(MAGIC).u16(1).u16(0).raw(&shard).u32(body_bytes as u32);
    let table = table.as_flattened();
    sealed_header.root = root(&writer.bytes, table);

    let mut plain = Writer::default();
    plain
        .raw(&sealed_header.fleet)
        .u64(sealed_header.stripe)
        .u8(sealed_header.index)
        .u8(sealed_header.k)
        .u8(sealed_header.m);
    plain.u32(sealed_header.pack_bytes).raw(&sealed_header.root);
    let key_id = trailer_key.id();
    let mut sealed = key_id.to_vec();
    let key = trailer_key.derive(HEADER_KEY, &[]);
    record::seal(key.bytes(), context(&key_id, &padded(&shard)), &plain.bytes, 1, &mut sealed);
    writer
        .u32(sealed.len() as u32)
        .raw(&sealed_header.root)
        .raw(blake3::hash(&sealed).as_bytes())
        .raw(table)
        .raw(&sealed);
    writer.bytes.resize(BODY_OFFSET, 0);
    (writer.bytes, sealed_header.root)
}

/// Puts the header into the first `BODY_OFFSET` bytes of `file`, whose body is in place already; returns the root.
pub fn finish(file: &mut [u8], shard: [u8; 16], sealed_header: SealedHeader, trailer_key: &Secret) -> [u8; 32] {
    let (head, body) = file.split_at_mut(BODY_OFFSET);
    let (bytes, root) = header(body.len(), &table(body), shard, sealed_header, trailer_key);
    head.copy_from_slice(&bytes);
    root
}

/// Reads the clear header from the first `BODY_OFFSET` bytes (or more) of a shard.
pub fn read_header(bytes: &[u8]) -> Result<ClearHeader> {
    let mut cursor = Cursor::new("shard", bytes.get(..BODY_OFFSET).unwrap_or(bytes));
    if cursor.bytes(4)? != MAGIC {
        return Err(cursor.corrupt("this is no shard"));
    }
    let (version, features) = (cursor.u16()?, cursor.u16()?);
    if version != 1 || features != 0 {
        return Err(Error::unsupported(format!("shard version {version}, features {features:#x}")));
    }
    let shard = cursor.array()?;
    let body_bytes = cursor.u32()? as usize;
    let sealed_bytes = cursor.u32()? as usize;
    if body_bytes > SHARD_BYTES || sealed_bytes > SEALED_CAP {
        return Err(cursor.corrupt(format!("body of {body_bytes} bytes, sealed header of {sealed_bytes}")));
    }
    let (stated, sealed_hash): ([u8; 32], [u8; 32]) = (cursor.array()?, cursor.array()?);
    assert_eq!(cursor.position(), TABLE_OFFSET, "the layout above");
    let table = cursor.bytes(body_bytes.div_ceil(SLICE_BYTES) * 32)?;
    let sealed = cursor.bytes(sealed_bytes)?.to_vec();
    if root(&bytes[..28], table) != stated {
        return Err(cursor.corrupt("the slice table does not belong to the root"));
    }
    if *blake3::hash(&sealed).as_bytes() != sealed_hash {
        return Err(cursor.corrupt("the sealed header is damaged"));
    }
    let slices = table.chunks_exact(32).map(|hash| hash.try_into().expect("32 bytes")).collect();
    Ok(ClearHeader { shard, root: stated, body_bytes, slices, sealed })
}

/// The header of a file of `file_bytes`, from its beginning.
pub fn read_header_of(bytes: &[u8], file_bytes: usize) -> Result<ClearHeader> {
    let header = read_header(bytes)?;
    if file_bytes.checked_sub(BODY_OFFSET) == Some(header.body_bytes) {
        return Ok(header);
    }
    Err(Error::corrupt("shard", file_bytes as u64, format!("{} bytes of body expected", header.body_bytes)))
}

/// Checks a whole shard file: header, root and every slice.
pub fn inspect(file: &[u8]) -> Result<ClearHeader> {
    let header = read_header_of(file, file.len())?;
    for (index, slice) in file[BODY_OFFSET..].chunks(SLICE_BYTES).enumerate() {
        header.check_slice(index, slice)?;
    }
    Ok(header)
}

impl ClearHeader {
    /// Whether a slice of the body is the one that the table names.
    pub fn check_slice(&self, index: usize, slice: &[u8]) -> Result<()> {
        if self.slices.get(index) == Some(blake3::hash(slice).as_bytes()) {
            return Ok(());
        }
        let at = BODY_OFFSET + index * SLICE_BYTES;
        Err(Error::corrupt("shard", at as u64, format!("slice {index} is damaged")))
    }

    /// The id of the trailer key under which the other header is sealed.
    pub fn key_id(&self) -> Option<[u8; 16]> {
        self.sealed.get(..16)?.try_into().ok()
    }

    /// Throws FORGED where it was sealed under another key, or belongs to another shard.
    pub fn open_sealed_header(&self, trailer_key: &Secret) -> Result<SealedHeader> {
        let key_id = trailer_key.id();
        let record = match self.sealed.split_at_checked(16) {
            Some((id, record)) if id == key_id => record,
            _ => return Err(Error::Forged { what: "a shard header sealed under another key" }),
        };
        let key = trailer_key.derive(HEADER_KEY, &[]);
        let plain = record::open(key.bytes(), context(&key_id, &padded(&self.shard)), record, SEALED_CAP)?;
        let mut cursor = Cursor::new("sealed header of a shard", &plain);
        let sealed_header = SealedHeader {
            fleet: cursor.array()?,
            stripe: cursor.u64()?,
            index: cursor.u8()?,
            k: cursor.u8()?,
            m: cursor.u8()?,
            pack_bytes: cursor.u32()?,
            root: cursor.array()?,
        };
        cursor.end()?;
        if sealed_header.root != self.root {
            return Err(Error::Forged { what: "a shard header whose root is not the shard's" });
        }
        Ok(sealed_header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(body: usize) -> (Vec<u8>, SealedHeader, Secret) {
        let mut file: Vec<u8> = (0..BODY_OFFSET + body).map(|i| i as u8).collect();
        let key = Secret::new([3; 32]);
        let mut sealed_header =
            SealedHeader { fleet: [1; 16], stripe: 9, index: 2, k: 4, m: 2, pack_bytes: 70, root: [0; 32] };
        sealed_header.root = finish(&mut file, [7; 16], sealed_header.clone(), &key);
        (file, sealed_header, key)
    }

    #[test]
    fn shards_return_with_their_place() {
        for body in [0, 1, SLICE_BYTES, SLICE_BYTES * 3 + 5, SHARD_BYTES] {
            let (file, sealed_header, key) = example(body);
            let header = inspect(&file).unwrap();
            assert_eq!((header.shard, header.body_bytes, header.root), ([7; 16], body, sealed_header.root));
            assert_eq!(header.open_sealed_header(&key).unwrap(), sealed_header);
            assert!(header.open_sealed_header(&Secret::new([4; 32])).is_err());
        }
    }

    #[test]
    fn every_changed_byte_that_means_something_is_noticed() {
        let (file, _, key) = example(SLICE_BYTES + 100);
        let used = TABLE_OFFSET + 2 * 32 + read_header(&file).unwrap().sealed.len();
        for at in (0..used).chain(BODY_OFFSET..BODY_OFFSET + 50).chain(file.len() - 50..file.len()) {
            let mut changed = file.clone();
            changed[at] ^= 1;
            let outcome = inspect(&changed).and_then(|header| header.open_sealed_header(&key));
            assert!(outcome.is_err(), "byte {at}");
        }
        for cut in [0, 3, 40, TABLE_OFFSET, BODY_OFFSET, file.len() - 1] {
            assert!(inspect(&file[..cut]).is_err(), "cut at {cut}");
        }
    }
}
