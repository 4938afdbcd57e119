//! What a stripe is, signed by its writer (docs/formats/shard.md). A copy lies in the header of each of its shards, so that
//! whoever holds one can tell, without any key, whose it is, which one, and what all the others must be.
//!
//! ```text
//! size  field
//! 16    fleet
//! 32    writer, an Ed25519 key
//! 8     run
//! 4     number of the stripe in it, below 2^24
//! 1     k
//! 1     m
//! 4     length of the pack
//! 32    BLAKE3 of the pack's trailer
//! 32    root of each of the k+m shards
//! 64    Ed25519 signature by the writer over "imager v1 stripe\0" and all bytes before
//! ```

use crate::base::bytes::{Cursor, Writer};
use crate::base::error::{Error, Result};
use crate::base::limits::SHARD_BYTES;
use crate::base::secret::{Secret, verify_signature};
use crate::formats::names::{NUMBER_BITS, RunName};

/// Widest stripe there is (docs/formats/stripe.md).
pub const WIDTH: u32 = 32;
const DOMAIN: &[u8] = b"imager v1 stripe\0";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub fleet: [u8; 16],
    pub run: RunName,
    pub number: u32,
    pub k: u8,
    pub m: u8,
    pub pack_bytes: u32,
    pub trailer: [u8; 32],
    /// By the index of the shard.
    pub roots: Vec<[u8; 32]>,
}

impl Descriptor {
    /// The bytes above. `writer` is the secret of the run's writer.
    pub fn sign(&self, writer: &Secret) -> Vec<u8> {
        let mut bytes = self.signed();
        let signature = writer.sign(&[DOMAIN, &bytes].concat());
        bytes.extend_from_slice(&signature);
        bytes
    }

    fn signed(&self) -> Vec<u8> {
        let mut bytes = Writer::default();
        bytes.raw(&self.fleet).raw(&self.run.bytes()).u32(self.number).u8(self.k).u8(self.m).u32(self.pack_bytes);
        bytes.raw(&self.trailer).raw(self.roots.as_flattened());
        bytes.bytes
    }

    /// BLAKE3 of what is signed: two stripes of one name differ in it.
    pub fn identity(&self) -> [u8; 32] {
        *blake3::hash(&self.signed()).as_bytes()
    }

    /// Throws `Forged` where its writer did not sign it, `Corrupt` where its figures cannot be.
    pub fn read(cursor: &mut Cursor) -> Result<Self> {
        let start = cursor.rest();
        let (fleet, run, number) = (cursor.array()?, RunName::of(&cursor.array()?), cursor.u32()?);
        let (k, m, pack_bytes, trailer) = (cursor.u8()?, cursor.u8()?, cursor.u32()?, cursor.array()?);
        let width = u32::from(k) + u32::from(m);
        let most = u64::from(k) * SHARD_BYTES as u64;
        if k == 0 || width > WIDTH || number >> NUMBER_BITS != 0 || !(1..=most).contains(&pack_bytes.into()) {
            return Err(cursor.corrupt(format!("a stripe {k}+{m} of {pack_bytes} bytes, number {number}")));
        }
        let roots = (0..width).map(|_| cursor.array()).collect::<Result<_>>()?;
        let signed = &start[..start.len() - cursor.remaining()];
        if !verify_signature(&run.writer, &[DOMAIN, signed].concat(), cursor.bytes(64)?) {
            return Err(Error::Forged { what: "a stripe that its writer did not sign" });
        }
        Ok(Self { fleet, run, number, k, m, pack_bytes, trailer, roots })
    }

    /// Of its bytes above.
    pub fn encoded_bytes(&self) -> usize {
        self.signed().len() + 64
    }

    /// Of each shard.
    pub fn body_bytes(&self) -> usize {
        self.pack_bytes.div_ceil(self.k.into()) as usize
    }
}
