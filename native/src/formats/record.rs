//! Sealed records (docs/formats/record.md): deterministic authenticated encryption, keyed by the content itself for
//! blocks and pages, by a purpose key for everything else.
//!
//! ```text
//! offset size field
//! 0      1    suite       1 = BLAKE3 + zstd + AES-256-GCM
//! 1      32   s           BLAKE3_keyed(derive("imager v1 siv", key), ad | z)
//! 33     n    c           AES-256-GCM(k, n, aad = ad | suite | s, z), 16-byte tag last
//! z  = codec(1: 0 stored, 1 zstd) | length(u32 LE) | bytes
//! ad = "imager/1" | type | domain | id, each field behind its length (u32 LE)
//! (k, n) = first 44 bytes of XOF(BLAKE3_keyed(derive("imager v1 enc", key), suite | s))
//! ```
//! No nonce is stored or counted: equal content gives equal records, different content different (k, n), whichever
//! version of zstd made it. Anything that does not open is an erasure, never data.

use std::cell::RefCell;
use std::io::Cursor;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zstd::zstd_safe::{CCtx, DCtx};

use crate::base::error::{Error, Result};
use crate::base::secret::Secret;

const SUITE: u8 = 1;
const SIV: &str = "imager v1 siv";
const ENC: &str = "imager v1 enc";
const STORED: u8 = 0;
const ZSTD: u8 = 1;
const HEADER: usize = 33;
const TAG: usize = 16;
/// Bytes that a record adds to what it holds, at most.
pub const RECORD_OVERHEAD: usize = HEADER + 5 + TAG;

/// What a record is; part of what is authenticated. Never renumbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Type {
    Block = 1,
    Page = 2,
    Trailer = 3,
    Root = 5,
    Statement = 6,
}

/// What a record is bound to.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub kind: Type,
    /// The 16-byte id of the dedupe domain or purpose key.
    pub domain: &'a [u8; 16],
    /// The signature of a block or page; the stripe, shard or statement that anything else belongs to.
    pub id: &'a [u8; 32],
}

impl Context<'_> {
    fn associated_data(&self) -> Vec<u8> {
        let mut ad = Vec::with_capacity(128);
        for field in [b"imager/1".as_slice(), &[self.kind as u8], self.domain, self.id] {
            ad.extend_from_slice(&(field.len() as u32).to_le_bytes());
            ad.extend_from_slice(field);
        }
        ad
    }
}

fn derive(context: &str, key: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key(context, key)
}

/// (k, n) for a record whose synthetic vector is `s`.
fn cipher(key: &[u8; 32], s: &[u8; 32]) -> (LessSafeKey, Nonce) {
    let mut output = [0; 44];
    blake3::Hasher::new_keyed(&derive(ENC, key)).update(&[SUITE]).update(s).finalize_xof().fill(&mut output);
    let key = UnboundKey::new(&AES_256_GCM, &output[..32]).expect("32 bytes are an AES-256 key");
    (LessSafeKey::new(key), Nonce::try_assume_unique_for_key(&output[32..]).expect("12 bytes are a nonce"))
}

fn synthetic_vector(key: &[u8; 32], ad: &[u8], z: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new_keyed(&derive(SIV, key)).update(ad).update(z).finalize().as_bytes()
}

/// Appends the record of `plain` to `out`; returns its length. `level` is zstd's.
pub fn seal(key: &[u8; 32], context: Context, plain: &[u8], level: i32, out: &mut Vec<u8>) -> usize {
    let ad = context.associated_data();
    let start = out.len();
    out.push(SUITE);
    out.resize(start + HEADER, 0);
    out.push(ZSTD);
    out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    let z = start + HEADER;
    compress(plain, level, out, z);

    let s = synthetic_vector(key, &ad, &out[z..]);
    out[start + 1..z].copy_from_slice(&s);
    let (key, nonce) = cipher(key, &s);
    let aad = [&ad, &out[start..z]].concat();
    let tag = key
        .seal_in_place_separate_tag(nonce, Aad::from(&aad), &mut out[z..])
        .expect("a record is far below the limit of AES-GCM");
    out.extend_from_slice(tag.as_ref());
    out.len() - start
}

thread_local! {
    /// Its tables are a megabyte: made once a thread, not once a block.
    static COMPRESSOR: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
    static DECOMPRESSOR: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
    static DECRYPTED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Behind `codec | length` at `z`: zstd's bytes, or the plain ones where those are not more.
fn compress(plain: &[u8], level: i32, out: &mut Vec<u8>, z: usize) {
    let body = z + 5;
    out.reserve(plain.len());
    let mut room = Cursor::new(&mut *out);
    room.set_position(body as u64);
    let compressed = COMPRESSOR.with_borrow_mut(|context| context.compress(&mut room, plain, level));
    if !matches!(compressed, Ok(length) if length < plain.len()) {
        out.truncate(body);
        out[z] = STORED;
        out.extend_from_slice(plain);
    }
}

/// The plain bytes of a record: at most `cap`, or `Forged`.
pub fn open(key: &[u8; 32], context: Context, record: &[u8], cap: usize) -> Result<Vec<u8>> {
    decrypt(key, context, record, |s, ad, z| {
        if synthetic_vector(key, ad, z) != *s { None } else { decompress(z, cap, Vec::with_capacity) }
    })
}

/// What `then` makes of a record's synthetic vector, its associated data, and z; nothing, and a wrong tag, are `Forged`.
fn decrypt<T>(
    key: &[u8; 32],
    context: Context,
    record: &[u8],
    then: impl FnOnce(&[u8; 32], &[u8], &[u8]) -> Option<T>,
) -> Result<T> {
    let forged = || Error::Forged { what: "a sealed record" };
    if record.len() < HEADER + 5 + TAG {
        return Err(forged());
    }
    if record[0] != SUITE {
        return Err(Error::unsupported(format!("sealing suite {}", record[0])));
    }
    let ad = context.associated_data();
    let (header, rest) = record.split_at(HEADER);
    let (encrypted, tag) = rest.split_at(rest.len() - TAG);
    let s: [u8; 32] = header[1..].try_into().expect("32 bytes");
    let (cipher, nonce) = cipher(key, &s);
    let aad = [&ad, header].concat();
    DECRYPTED.with_borrow_mut(|z| {
        z.resize(encrypted.len(), 0);
        cipher.open_separate_gather(nonce, Aad::from(&aad), encrypted, tag, z).map_err(|_| forged())?;
        then(&s, &ad, z).ok_or_else(forged)
    })
}

/// The length is authenticated, and still compared with the cap before anything is allocated.
fn decompress(z: &[u8], cap: usize, take: impl FnOnce(usize) -> Vec<u8>) -> Option<Vec<u8>> {
    let length = u32::from_le_bytes(z[1..5].try_into().expect("four bytes")) as usize;
    let body = &z[5..];
    match z[0] {
        STORED if body.len() == length && length <= cap => {
            let mut plain = take(length);
            plain.extend_from_slice(body);
            Some(plain)
        }
        ZSTD if length <= cap => {
            let mut plain = take(length);
            let opened = DECOMPRESSOR.with_borrow_mut(|context| context.decompress(&mut plain, body));
            (opened == Ok(length)).then_some(plain)
        }
        _ => None,
    }
}

/// The keys of one dedupe domain: D for blocks, M_a for an appliance's pages. The content is the key.
#[derive(Clone)]
pub struct Domain {
    kind: Type,
    pub id: [u8; 16],
    content_key: [u8; 32],
}

pub const BLOCK_CONTENT: &str = "imager v1 block";
pub const BLOCK_ID: &str = "imager v1 block id";
pub const PAGE_CONTENT: &str = "imager v1 page";

impl Domain {
    pub fn blocks(key: &Secret) -> Self {
        Self { kind: Type::Block, id: key.id(), content_key: *key.derive(BLOCK_CONTENT, &[]).bytes() }
    }

    pub fn pages(key: &Secret) -> Self {
        Self { kind: Type::Page, id: key.id(), content_key: *key.derive(PAGE_CONTENT, &[]).bytes() }
    }

    /// bk, the key of exactly these bytes.
    pub fn block_key(&self, plain: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.content_key, plain).as_bytes()
    }

    pub fn seal(&self, block_key: &[u8; 32], plain: &[u8], level: i32, out: &mut Vec<u8>) -> usize {
        let id = signature(block_key);
        seal(block_key, Context { kind: self.kind, domain: &self.id, id: &id }, plain, level, out)
    }

    /// The bytes whose key is `block_key`: it is computed again from them, which proves more than comparing s would.
    pub fn open(&self, block_key: &[u8; 32], record: &[u8], cap: usize) -> Result<Vec<u8>> {
        self.open_into(block_key, record, cap, Vec::with_capacity)
    }

    /// The same into an empty buffer that `take` gives for so many bytes.
    pub fn open_into(
        &self,
        block_key: &[u8; 32],
        record: &[u8],
        cap: usize,
        take: impl FnOnce(usize) -> Vec<u8>,
    ) -> Result<Vec<u8>> {
        let id = signature(block_key);
        let context = Context { kind: self.kind, domain: &self.id, id: &id };
        let plain = decrypt(block_key, context, record, |_, _, z| decompress(z, cap, take))?;
        if self.block_key(&plain) != *block_key {
            return Err(Error::Forged { what: "a block whose content is not what its key says" });
        }
        Ok(plain)
    }
}

/// The public name of a block or page.
pub fn signature(block_key: &[u8; 32]) -> [u8; 32] {
    derive(BLOCK_ID, block_key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::BLOCK_BYTES;

    fn domain() -> Domain {
        Domain::blocks(&Secret::new([1; 32]))
    }

    fn sealed(plain: &[u8]) -> ([u8; 32], Vec<u8>) {
        let key = domain().block_key(plain);
        let mut record = Vec::new();
        assert_eq!(domain().seal(&key, plain, 1, &mut record), record.len());
        (key, record)
    }

    #[test]
    fn records_return_and_stay_within_their_overhead() {
        let mut noise = vec![0; BLOCK_BYTES];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        for plain in [&b""[..], b"x", &[5; BLOCK_BYTES], &noise] {
            let (key, record) = sealed(plain);
            assert!(record.len() <= plain.len() + RECORD_OVERHEAD);
            assert_eq!(domain().open(&key, &record, BLOCK_BYTES).unwrap(), plain);
        }
    }

    #[test]
    fn noise_does_not_spoil_the_compression_of_what_follows() {
        let mut noise = vec![0; BLOCK_BYTES];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert!(sealed(&noise).1.len() > BLOCK_BYTES);
        assert!(sealed(&[5; BLOCK_BYTES]).1.len() < 200);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let (key, record) = sealed(b"some text, some text, some text, some text");
        for at in 0..record.len() {
            let mut changed = record.clone();
            changed[at] ^= 0x40;
            assert!(domain().open(&key, &changed, BLOCK_BYTES).is_err(), "byte {at}");
            assert!(domain().open(&key, &record[..at], BLOCK_BYTES).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_record_opens_only_in_its_domain_and_under_its_cap() {
        let (key, record) = sealed(&[9; 1000]);
        assert!(Domain::blocks(&Secret::new([2; 32])).open(&key, &record, BLOCK_BYTES).is_err());
        assert!(Domain::pages(&Secret::new([1; 32])).open(&key, &record, BLOCK_BYTES).is_err());
        assert!(domain().open(&key, &record, 999).is_err());
    }

    #[test]
    fn a_record_that_holds_other_bytes_than_its_key_says_is_refused() {
        // A member of the domain can build this; no reader may believe it.
        let (key, id) = (domain().block_key(b"true"), signature(&domain().block_key(b"true")));
        let mut record = Vec::new();
        seal(&key, Context { kind: Type::Block, domain: &domain().id, id: &id }, b"false", 1, &mut record);
        assert!(domain().open(&key, &record, BLOCK_BYTES).is_err());
    }
}
