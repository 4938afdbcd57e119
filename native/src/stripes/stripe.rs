//! A pack as a stripe (docs/formats/stripe.md): cut into k data shards, m parity shards computed, each with its header.
//!
//! No byte of the pack is copied: it is the bodies of the data shards, one behind the other, and the parity lies likewise
//! in one buffer. Both go back to the pool when the last holder of the stripe lets go of it.

use crate::base::error::{Error, Result};
use crate::base::limits::SLICE_BYTES;
use crate::base::pool;
use crate::base::secret::Secret;
use crate::formats::shard::{self, SealedHeader};
use crate::stripes::erasure::{Encoder, Scheme};

pub struct Stripe {
    scheme: Scheme,
    /// Of each body.
    length: usize,
    data: Vec<u8>,
    parity: Vec<u8>,
    headers: Vec<Vec<u8>>,
    roots: Vec<[u8; 32]>,
}

impl Stripe {
    /// The file of a shard: its header and its body.
    pub fn file(&self, index: usize) -> Option<[&[u8]; 2]> {
        let bodies = self.data.chunks_exact(self.length).chain(self.parity.chunks_exact(self.length));
        self.headers.iter().map(Vec::as_slice).zip(bodies).nth(index).map(|(header, body)| [header, body])
    }

    pub fn root(&self, index: usize) -> Option<[u8; 32]> {
        self.roots.get(index).copied()
    }
}

impl Drop for Stripe {
    fn drop(&mut self) {
        pool::give(std::mem::take(&mut self.data));
        pool::give(std::mem::take(&mut self.parity));
    }
}

/// What was encoded is decoded once, from the parity, and compared, so that a bit flipped in memory is found before the
/// source may be forgotten. Goes slice by slice: all that is done to one is done while the processor's cache holds it.
pub fn encode(
    pack: Vec<u8>,
    scheme: Scheme,
    ids: &[[u8; 16]],
    sealed_header: &SealedHeader,
    trailer_key: &Secret,
) -> Result<Stripe> {
    if ids.len() != scheme.width() {
        return Err(Error::invalid("shard ids", format!("{} for {} shards", ids.len(), scheme.width())));
    }
    if pack.is_empty() {
        return Err(Error::invalid("pack", "it is empty"));
    }
    let length = pack.len().div_ceil(scheme.k);
    let parity = pool::take_filled(scheme.m * length);
    let mut stripe = Stripe { scheme, length, data: pack, parity, headers: Vec::new(), roots: Vec::new() };
    stripe.data.resize(scheme.k * length, 0);
    let tables = fill(&mut stripe)?;
    for (index, (table, id)) in tables.iter().zip(ids).enumerate() {
        let sealed_header = SealedHeader { index: index as u8, ..sealed_header.clone() };
        let (header, root) = shard::header(length, table, *id, sealed_header, trailer_key);
        stripe.headers.push(header);
        stripe.roots.push(root);
    }
    Ok(stripe)
}

/// Computes the parity, and the slice table of each shard.
fn fill(stripe: &mut Stripe) -> Result<Vec<Vec<[u8; 32]>>> {
    let Stripe { scheme, length, ref data, ref mut parity, .. } = *stripe;
    let mut encoder = Encoder::new(scheme);
    let mut tables = vec![Vec::with_capacity(length.div_ceil(SLICE_BYTES)); scheme.width()];
    for start in (0..length).step_by(SLICE_BYTES) {
        let slice = start..length.min(start + SLICE_BYTES);
        let data: Vec<&[u8]> = data.chunks_exact(length).map(|body| &body[slice.clone()]).collect();
        let mut bodies: Vec<&mut [u8]> = parity.chunks_exact_mut(length).map(|body| &mut body[slice.clone()]).collect();
        encoder.encode(&data, &mut bodies);
        let parity: Vec<&[u8]> = bodies.iter().map(|body| &**body).collect();
        for (table, slice) in tables.iter_mut().zip(data.iter().chain(&parity)) {
            table.push(*blake3::hash(slice).as_bytes());
        }
        if !encoder.decodes(&data, &parity) {
            let why = "what was encoded does not decode; is this machine's memory sound?";
            return Err(Error::corrupt("stripe", start as u64, why));
        }
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::shard::BODY_OFFSET;

    #[test]
    fn stripes_of_odd_lengths_decode() {
        let key = Secret::new([1; 32]);
        for (k, m, length) in [(4, 2, 1001), (4, 2, 999_999), (1, 1, 5), (3, 2, 2), (2, 3, 4096)] {
            let scheme = Scheme::new(k, m).unwrap();
            let pack: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let ids: Vec<[u8; 16]> = (0..scheme.width()).map(|i| [i as u8; 16]).collect();
            let sealed_header = SealedHeader {
                fleet: [0; 16],
                stripe: 1,
                index: 0,
                k: k as u8,
                m: m as u8,
                pack_bytes: length,
                root: [0; 32],
            };
            let stripe = encode(pack.clone(), scheme, &ids, &sealed_header, &key).unwrap();
            let mut joined = Vec::new();
            for index in 0..scheme.width() {
                let file = stripe.file(index).unwrap().concat();
                let header = shard::inspect(&file).unwrap();
                assert_eq!(Some(header.root), stripe.root(index));
                assert_eq!(usize::from(header.open_sealed_header(&key).unwrap().index), index);
                if index < scheme.k {
                    joined.extend_from_slice(&file[BODY_OFFSET..]);
                }
            }
            assert_eq!(&joined[..pack.len()], pack);
            assert!(stripe.file(scheme.width()).is_none());
        }
    }
}
