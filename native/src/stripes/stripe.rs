//! A pack as a stripe (docs/formats/stripe.md): cut into k data shards, m parity shards computed, each with its header.
//!
//! No byte of the pack is copied: it is the bodies of the data shards, one behind the other, and the parity lies likewise
//! in one buffer. Both go back to the pool when the last holder of the stripe lets go of it.

use crate::base::error::{Error, Result};
use crate::base::limits::SLICE_BYTES;
use crate::base::pool;
use crate::base::secret::Secret;
use crate::formats::descriptor::Descriptor;
use crate::formats::shard;
use crate::stripes::erasure::{Encoder, Scheme};

pub struct Stripe {
    scheme: Scheme,
    /// Of each body.
    length: usize,
    data: Vec<u8>,
    parity: Vec<u8>,
    headers: Vec<Vec<u8>>,
    roots: Vec<[u8; 32]>,
    identity: [u8; 32],
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

    /// Of its descriptor.
    pub fn identity(&self) -> [u8; 32] {
        self.identity
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
///
/// `template` says what of the stripe its pack does not; `writer` is the secret of its writer.
pub fn encode(pack: Vec<u8>, scheme: Scheme, template: &Descriptor, writer: &Secret) -> Result<Stripe> {
    if pack.is_empty() {
        return Err(Error::invalid("pack", "it is empty"));
    }
    if template.run.writer != writer.signing_key() {
        return Err(Error::invalid("stripe", "another host is its writer"));
    }
    let pack_bytes = pack.len() as u32;
    let length = pack.len().div_ceil(scheme.k);
    let parity = pool::take_filled(scheme.m * length);
    let mut stripe =
        Stripe { scheme, length, data: pack, parity, headers: Vec::new(), roots: Vec::new(), identity: [0; 32] };
    stripe.data.resize(scheme.k * length, 0);
    let tables = fill(&mut stripe)?;
    stripe.roots = (0..).zip(&tables).map(|(index, table)| shard::root(length, index, table)).collect();
    let (k, m, roots) = (scheme.k as u8, scheme.m as u8, stripe.roots.clone());
    let descriptor = Descriptor { k, m, pack_bytes, roots, ..template.clone() };
    stripe.identity = descriptor.identity();
    let descriptor = descriptor.sign(writer);
    stripe.headers =
        (0..).zip(&tables).map(|(index, table)| shard::header(length, index, table, &descriptor)).collect();
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
    use crate::formats::names::RunName;
    use crate::formats::shard::BODY_OFFSET;

    #[test]
    fn stripes_of_odd_lengths_decode() {
        let key = Secret::new([1; 32]);
        let run = RunName { writer: key.signing_key(), run: [2; 8] };
        for (k, m, length) in [(4, 2, 1001), (4, 2, 999_999), (1, 1, 5), (3, 2, 2), (2, 3, 4096), (1, 0, 70_000)] {
            let scheme = Scheme::new(k, m).unwrap();
            let pack: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let template = Descriptor {
                fleet: [0; 16],
                run,
                number: 1,
                k: 0,
                m: 0,
                pack_bytes: 0,
                trailer: [0; 32],
                roots: vec![],
            };
            let stripe = encode(pack.clone(), scheme, &template, &key).unwrap();
            assert!(encode(pack.clone(), scheme, &template, &Secret::new([9; 32])).is_err());
            let mut joined = Vec::new();
            for index in 0..scheme.width() {
                let file = stripe.file(index).unwrap().concat();
                let header = shard::inspect(&file).unwrap();
                assert_eq!(Some(header.root), stripe.root(index));
                assert_eq!(header.stripe.identity(), stripe.identity());
                assert_eq!((usize::from(header.index), header.stripe.pack_bytes), (index, length));
                if index < scheme.k {
                    joined.extend_from_slice(&file[BODY_OFFSET..]);
                }
            }
            assert_eq!(&joined[..pack.len()], pack);
            assert!(stripe.file(scheme.width()).is_none());
        }
    }
}
