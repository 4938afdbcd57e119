//! One part of a stripe, as a peer stores it (docs/formats/shard.md): 4096 bytes of header, then the body. A peer scrubs and
//! proves what it holds, and refuses what its writer did not make, without any key.
//!
//! ```text
//! offset size field
//! 0      4    magic "IMSH"
//! 4      2    version 1
//! 6      2    feature bits, none known
//! 8      4    length of the body B, at most 4 MiB
//! 12     1    index in the stripe
//! 13     3    zeros
//! 16     32   root = BLAKE3(bytes 0..16 | slice table)
//! 48     32*n slice table: BLAKE3 of each 64 KiB of the body
//! ..          the stripe's descriptor (descriptor.rs), which has this root at this index
//! ..          zeros
//! 4096   B    body
//! ```

use crate::base::bytes::{Cursor, Writer};
use crate::base::error::{Error, Result};
use crate::base::limits::{SHARD_BYTES, SLICE_BYTES};
use crate::formats::descriptor::Descriptor;

pub const MAGIC: &[u8; 4] = b"IMSH";
/// Where the body begins: the longest slice table and descriptor fit before it, and it is a page boundary.
pub const BODY_OFFSET: usize = 4096;
const FIXED_BYTES: usize = 16;

/// What the header says, its own consistency and its writer's signature checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub index: u8,
    pub root: [u8; 32],
    pub body_bytes: usize,
    pub stripe: Descriptor,
    slices: Vec<[u8; 32]>,
}

fn fixed(body_bytes: usize, index: u8) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.raw(MAGIC).u16(1).u16(0).u32(body_bytes as u32).u8(index).raw(&[0; 3]);
    writer.bytes
}

/// The slice table of a body.
pub fn table(body: &[u8]) -> Vec<[u8; 32]> {
    body.chunks(SLICE_BYTES).map(|slice| *blake3::hash(slice).as_bytes()).collect()
}

/// The root of a shard whose body has so many bytes and this slice table.
pub fn root(body_bytes: usize, index: u8, table: &[[u8; 32]]) -> [u8; 32] {
    assert!(body_bytes <= SHARD_BYTES, "a shard is cut to size before it has a root");
    assert_eq!(table.len(), body_bytes.div_ceil(SLICE_BYTES), "a hash for each slice");
    *blake3::Hasher::new().update(&fixed(body_bytes, index)).update(table.as_flattened()).finalize().as_bytes()
}

/// What stands before the body, `BODY_OFFSET` bytes. `descriptor` is signed over this root too.
pub fn header(body_bytes: usize, index: u8, table: &[[u8; 32]], descriptor: &[u8]) -> Vec<u8> {
    let mut bytes = fixed(body_bytes, index);
    bytes.extend_from_slice(&root(body_bytes, index, table));
    bytes.extend_from_slice(table.as_flattened());
    bytes.extend_from_slice(descriptor);
    assert!(bytes.len() <= BODY_OFFSET, "the longest table and descriptor fit");
    bytes.resize(BODY_OFFSET, 0);
    bytes
}

/// The signed bytes of the stripe's descriptor, from the file whose header this is.
pub fn descriptor_of<'a>(file: &'a [u8], header: &Header) -> &'a [u8] {
    let start = FIXED_BYTES + 32 + header.slices.len() * 32;
    &file[start..start + header.stripe.encoded_bytes()]
}

/// Reads the header from the first `BODY_OFFSET` bytes (or more) of a shard. Throws `Corrupt`, `Unsupported`, `Forged`.
pub fn read_header(bytes: &[u8]) -> Result<Header> {
    let mut cursor = Cursor::new("shard", bytes.get(..BODY_OFFSET).unwrap_or(bytes));
    if cursor.bytes(4)? != MAGIC {
        return Err(cursor.corrupt("this is no shard"));
    }
    let (version, features) = (cursor.u16()?, cursor.u16()?);
    if version != 1 || features != 0 {
        return Err(Error::unsupported(format!("shard version {version}, features {features:#x}")));
    }
    let (body_bytes, index) = (cursor.u32()? as usize, cursor.u8()?);
    if body_bytes > SHARD_BYTES || cursor.bytes(3)? != [0; 3] {
        return Err(cursor.corrupt(format!("a body of {body_bytes} bytes")));
    }
    debug_assert_eq!(cursor.position(), FIXED_BYTES, "the layout above");
    let stated: [u8; 32] = cursor.array()?;
    let table = cursor.bytes(body_bytes.div_ceil(SLICE_BYTES) * 32)?;
    let slices = table.as_chunks().0.to_vec();
    if root(body_bytes, index, &slices) != stated {
        return Err(cursor.corrupt("the slice table does not belong to the root"));
    }
    let stripe = Descriptor::read(&mut cursor)?;
    if stripe.roots.get(usize::from(index)) != Some(&stated) || stripe.body_bytes() != body_bytes {
        return Err(Error::Forged { what: "a shard that is not of the stripe it names" });
    }
    Ok(Header { index, root: stated, body_bytes, stripe, slices })
}

/// The header of a file of `file_bytes`, from its beginning.
pub fn read_header_of(bytes: &[u8], file_bytes: usize) -> Result<Header> {
    let header = read_header(bytes)?;
    if file_bytes.checked_sub(BODY_OFFSET) == Some(header.body_bytes) {
        return Ok(header);
    }
    Err(Error::corrupt("shard", file_bytes as u64, format!("{} bytes of body expected", header.body_bytes)))
}

/// Checks a whole shard file: header, root and every slice.
pub fn inspect(file: &[u8]) -> Result<Header> {
    let header = read_header_of(file, file.len())?;
    for (index, slice) in file[BODY_OFFSET..].chunks(SLICE_BYTES).enumerate() {
        header.check_slice(index, slice)?;
    }
    Ok(header)
}

impl Header {
    /// The name of its file.
    pub fn id(&self) -> [u8; 16] {
        self.stripe.run.shard_id(self.stripe.number, self.index)
    }

    /// Whether a slice of the body is the one that the table names.
    pub fn check_slice(&self, index: usize, slice: &[u8]) -> Result<()> {
        if self.slices.get(index) == Some(blake3::hash(slice).as_bytes()) {
            return Ok(());
        }
        let at = BODY_OFFSET + index * SLICE_BYTES;
        Err(Error::corrupt("shard", at as u64, format!("slice {index} is damaged")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;
    use crate::formats::names::RunName;

    /// The files of a stripe's shards from their bodies; `template` says the rest.
    fn files(bodies: &[&[u8]], template: &Descriptor, writer: &Secret) -> Vec<Vec<u8>> {
        let tables: Vec<_> = bodies.iter().map(|body| table(body)).collect();
        let roots =
            (0..).zip(bodies).zip(&tables).map(|((index, body), table)| root(body.len(), index, table)).collect();
        let descriptor = Descriptor { roots, ..template.clone() }.sign(writer);
        let file = |((index, body), table): ((u8, &&[u8]), &Vec<[u8; 32]>)| {
            [header(body.len(), index, table, &descriptor), body.to_vec()].concat()
        };
        (0..).zip(bodies).zip(&tables).map(file).collect()
    }

    fn template(writer: &Secret, k: u8, m: u8, pack_bytes: u32) -> Descriptor {
        let run = RunName { writer: writer.signing_key(), run: [2; 8] };
        Descriptor { fleet: [1; 16], run, number: 9, k, m, pack_bytes, trailer: [5; 32], roots: vec![] }
    }

    fn example(body_bytes: usize, k: u8, m: u8) -> (Vec<Vec<u8>>, Secret) {
        let writer = Secret::new([3; 32]);
        let bodies: Vec<Vec<u8>> = (0..k + m).map(|seed| (0..body_bytes).map(|at| at as u8 ^ seed).collect()).collect();
        let slices: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        (files(&slices, &template(&writer, k, m, (body_bytes * usize::from(k)) as u32), &writer), writer)
    }

    #[test]
    fn shards_return_with_their_place() {
        for (body, k, m) in [(1, 1, 1), (SLICE_BYTES, 4, 2), (SLICE_BYTES * 3 + 5, 3, 2), (SHARD_BYTES, 16, 16)] {
            let (files, writer) = example(body, k, m);
            let headers: Vec<Header> = files.iter().map(|file| inspect(file).unwrap()).collect();
            for (index, header) in headers.iter().enumerate() {
                assert_eq!((usize::from(header.index), header.body_bytes), (index, body));
                assert_eq!(header.stripe.roots[index], header.root);
                assert_eq!((header.stripe.run.writer, header.stripe.number), (writer.signing_key(), 9));
                assert!(headers.iter().filter(|other| other.id() == header.id()).count() == 1);
            }
        }
    }

    #[test]
    fn every_changed_byte_that_means_something_is_noticed() {
        let file = example(SLICE_BYTES + 100, 4, 2).0.swap_remove(2);
        let used = FIXED_BYTES + 32 + 2 * 32 + 98 + 6 * 32 + 64;
        assert!(file[used..BODY_OFFSET].iter().all(|&byte| byte == 0) && file[used - 4..used] != [0; 4]);
        for at in (0..used).chain(BODY_OFFSET..BODY_OFFSET + 50).chain(file.len() - 50..file.len()) {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(inspect(&changed).is_err(), "byte {at}");
        }
        for cut in [0, 3, 40, 96, BODY_OFFSET, file.len() - 1] {
            assert!(inspect(&file[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_another_signed_is_not_the_writers() {
        let (writer, other) = (Secret::new([3; 32]), Secret::new([4; 32]));
        let body: &[u8] = &[7; 100];
        let of_other = files(&[body, body], &template(&writer, 1, 1, 100), &other);
        assert!(matches!(inspect(&of_other[0]), Err(Error::Forged { .. })));
        // A true descriptor in front of another body.
        let [mut file, stranger] = [&[7; 100], &[8; 100]].map(|body: &[u8; 100]| {
            files(&[body.as_slice(), body.as_slice()], &template(&writer, 1, 1, 100), &writer).swap_remove(0)
        });
        file[..FIXED_BYTES + 64].copy_from_slice(&stranger[..FIXED_BYTES + 64]);
        file[BODY_OFFSET..].copy_from_slice(&stranger[BODY_OFFSET..]);
        assert!(matches!(inspect(&file), Err(Error::Forged { .. })));
        let longer = files(&[body, body], &template(&writer, 1, 1, 101), &writer);
        assert!(inspect(&longer[0]).is_err(), "bodies of another length than the pack's");
    }
}
