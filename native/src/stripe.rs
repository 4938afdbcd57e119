//! A pack as a stripe (docs/formats/stripe.md): cut into k data shards, m parity shards computed, each a file with its header; and back.

use crate::erasure::{self, Scheme};
use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::shard::{self, BODY_OFFSET, Place};

/// One shard, ready to be sent.
pub struct Encoded {
    pub file: Vec<u8>,
    pub root: [u8; 32],
}

/// The files of all shards. What was encoded is decoded once, from the parity, and compared, so that a
/// bit flipped in memory is found before the source may be forgotten.
pub fn encode(
    pack: &[u8],
    scheme: Scheme,
    ids: &[[u8; 16]],
    place: &Place,
    trailer_key: &Secret,
) -> Result<Vec<Encoded>> {
    if ids.len() != scheme.width() {
        return Err(Error::invalid("shard ids", format!("{} for {} shards", ids.len(), scheme.width())));
    }
    let length = pack.len().div_ceil(scheme.k);
    let mut files = vec![vec![0; BODY_OFFSET + length]; scheme.width()];
    for (file, data) in files.iter_mut().zip(pack.chunks(length)) {
        file[BODY_OFFSET..BODY_OFFSET + data.len()].copy_from_slice(data);
    }
    let (data, parity) = files.split_at_mut(scheme.k);
    let data: Vec<&[u8]> = data.iter().map(|file| &file[BODY_OFFSET..]).collect();
    let mut parity: Vec<&mut [u8]> = parity.iter_mut().map(|file| &mut file[BODY_OFFSET..]).collect();
    erasure::encode(scheme, &data, &mut parity);
    verify(&files, scheme)?;
    let finish = |(index, (mut file, id)): (usize, (Vec<u8>, &[u8; 16]))| {
        let root = shard::finish(&mut file, *id, Place { index: index as u8, ..place.clone() }, trailer_key);
        Encoded { file, root }
    };
    Ok(files.into_iter().zip(ids).enumerate().map(finish).collect())
}

/// Rebuilds as many data shards as there is parity, from the rest.
fn verify(files: &[Vec<u8>], scheme: Scheme) -> Result<()> {
    let lost = scheme.m.min(scheme.k);
    let present: Vec<Option<&[u8]>> =
        files.iter().enumerate().map(|(index, file)| (index >= lost).then_some(&file[BODY_OFFSET..])).collect();
    let wanted: Vec<usize> = (0..lost).collect();
    let rebuilt = erasure::recover(scheme, &present, &wanted)?;
    if rebuilt.iter().zip(files).any(|(rebuilt, file)| rebuilt[..] != file[BODY_OFFSET..]) {
        return Err(Error::corrupt("stripe", 0, "what was encoded does not decode; is this machine's memory sound?"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_of_odd_lengths_decode() {
        let key = Secret::new([1; 32]);
        for (k, m, length) in [(4, 2, 1001), (1, 1, 5), (3, 2, 2), (2, 3, 4096)] {
            let scheme = Scheme::new(k, m).unwrap();
            let pack: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let ids: Vec<[u8; 16]> = (0..scheme.width()).map(|i| [i as u8; 16]).collect();
            let place = Place {
                fleet: [0; 16],
                stripe: 1,
                index: 0,
                k: k as u8,
                m: m as u8,
                pack_bytes: length,
                root: [0; 32],
            };
            let shards = encode(&pack, scheme, &ids, &place, &key).unwrap();
            let mut joined = Vec::new();
            for (index, Encoded { file, root }) in shards.iter().enumerate() {
                let header = shard::inspect(file).unwrap();
                assert_eq!(header.root, *root);
                assert_eq!(usize::from(header.open_place(&key).unwrap().index), index);
                if index < scheme.k {
                    joined.extend_from_slice(&file[BODY_OFFSET..]);
                }
            }
            assert_eq!(&joined[..pack.len()], pack);
        }
    }
}
