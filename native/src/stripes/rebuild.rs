//! One shard from k others of its stripe, without any key: what a peer does that repairs (docs/protocol.md).

use std::ops::Deref;

use crate::base::error::{Error, Result};
use crate::formats::shard::{self, BODY_OFFSET, Header};
use crate::stripes::erasure::{self, Scheme};

/// The file of shard `index`, from whole files of at least k others of its stripe. Throws what a shard is refused for; `Invalid`
/// where they are too few, or of several stripes; `Forged` where what comes out is not what its writer signed: then these do not
/// belong together by the code, and it was he who made them so.
pub fn rebuild(files: &[impl Deref<Target = [u8]>], index: u8) -> Result<Vec<u8>> {
    let headers = files.iter().map(|file| shard::inspect(file)).collect::<Result<Vec<Header>>>()?;
    let unfit = |why: &str| Error::invalid("shards to rebuild from", why);
    let stripe = &headers.first().ok_or_else(|| unfit("there are none"))?.stripe;
    if headers.iter().any(|header| header.stripe != *stripe) {
        return Err(unfit("they are of several stripes"));
    }
    let wanted = usize::from(index);
    let root = stripe.roots.get(wanted).ok_or_else(|| unfit("the stripe has no such shard"))?;
    let scheme = Scheme::new(stripe.k.into(), stripe.m.into())?;
    let mut shards = vec![None; scheme.width()];
    for (header, file) in headers.iter().zip(files).filter(|(header, _)| header.index != index) {
        shards[usize::from(header.index)] = Some(&file[BODY_OFFSET..]);
    }
    let body = erasure::recover(scheme, &shards, &[wanted])?.pop().unwrap_or_default();
    let table = shard::table(&body);
    if shard::root(body.len(), index, &table) != *root {
        return Err(Error::Forged { what: "a stripe whose parity is not of its data" });
    }
    let mut file = shard::header(body.len(), index, &table, shard::descriptor_of(&files[0], &headers[0]));
    file.extend_from_slice(&body);
    crate::base::pool::give(body);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;
    use crate::formats::descriptor::Descriptor;
    use crate::formats::names::RunName;
    use crate::stripes::stripe::{Stripe, encode};

    fn template(writer: &Secret) -> Descriptor {
        let run = RunName { writer: writer.signing_key(), run: [2; 8] };
        let (fleet, trailer, roots) = ([0; 16], [0; 32], vec![]);
        Descriptor { fleet, run, number: 7, k: 0, m: 0, pack_bytes: 0, trailer, roots }
    }

    fn files(stripe: &Stripe) -> Vec<Vec<u8>> {
        (0..).map_while(|index| stripe.file(index)).map(|parts| parts.concat()).collect()
    }

    fn example(seed: u8, k: u32, m: u32, length: usize) -> Vec<Vec<u8>> {
        let writer = Secret::new([1; 32]);
        let pack = (0..length).map(|at| at as u8 ^ seed).collect();
        files(&encode(pack, Scheme::new(k, m).unwrap(), &template(&writer), &writer).unwrap())
    }

    #[test]
    fn each_shard_comes_out_of_any_k_others_byte_for_byte() {
        for (k, m, length) in [(1, 1, 5), (1, 3, 70_000), (2, 2, 200_001), (3, 2, 64 << 10), (6, 6, 999_999)] {
            let all = example(3, k, m, length);
            for index in 0..all.len() {
                let mut others = all.clone();
                others.remove(index);
                let by = index % others.len();
                others.rotate_left(by);
                others.truncate(k as usize);
                assert!(rebuild(&others, index as u8).unwrap() == all[index], "{k}+{m}, shard {index}");
                others.pop();
                assert!(rebuild(&others, index as u8).is_err(), "k-1 of {k}+{m}");
            }
        }
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let (ours, other) = (example(3, 2, 2, 200_001), example(4, 2, 2, 200_001));
        let one = |files: &[&Vec<u8>]| rebuild(&files.iter().map(|&file| file.clone()).collect::<Vec<_>>(), 3);
        assert!(one(&[&ours[0], &ours[1]]).is_ok());
        assert!(one(&[&ours[0], &other[1]]).is_err(), "of two stripes");
        assert!(one(&[&ours[0], &ours[0]]).is_err(), "one of them twice");
        assert!(one(&[&ours[0], &ours[3]]).is_err(), "the one that is wanted counts for nothing");
        assert!(rebuild(&ours[..2], 4).is_err(), "an index beyond");
        let mut flipped = ours[1].clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(one(&[&ours[0], &flipped]).is_err());
    }

    /// A writer that signs parity which is none: nothing is made of it.
    #[test]
    fn parity_that_is_none_is_found() {
        let writer = Secret::new([1; 32]);
        let bodies: Vec<Vec<u8>> = [1u8, 2, 77].iter().map(|&value| vec![value; 1000]).collect();
        let tables: Vec<_> = bodies.iter().map(|body| shard::table(body)).collect();
        let roots = (0..).zip(&tables).map(|(index, table)| shard::root(1000, index, table)).collect();
        let descriptor = Descriptor { k: 2, m: 1, pack_bytes: 2000, roots, ..template(&writer) }.sign(&writer);
        let file = |index: usize| {
            [shard::header(1000, index as u8, &tables[index], &descriptor), bodies[index].clone()].concat()
        };
        let found = rebuild(&[file(0), file(1)], 2);
        assert!(matches!(found, Err(Error::Forged { .. })), "{found:?}");
    }
}
