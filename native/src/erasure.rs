//! Reed-Solomon over GF(2^8), polynomial 0x11d, with ISA-L's Cauchy matrix (`gf_gen_cauchy1_matrix`): systematic, so
//! the first k rows are the data itself. Works on equal slices of any length at the same offset of each shard.

use rusty_erasure::{Matrix, coder};

use crate::error::{Error, Result};
use crate::limits::STRIPE_SHARDS;
use crate::recycle;

/// k data and m parity shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    pub k: usize,
    pub m: usize,
}

impl Scheme {
    pub fn new(k: u32, m: u32) -> Result<Self> {
        let (k, m) = (k as usize, m as usize);
        if k == 0 || m == 0 || k.saturating_add(m) > STRIPE_SHARDS {
            return Err(Error::invalid("scheme", format!("{k}+{m}: at least 1+1, at most {STRIPE_SHARDS} shards")));
        }
        Ok(Self { k, m })
    }

    pub fn width(self) -> usize {
        self.k + self.m
    }

    fn coder(self) -> rusty_erasure::Coder {
        Matrix::cauchy(self.k, self.m).and_then(coder).expect("1+1 to 32 shards have a Cauchy matrix")
    }
}

/// Fills `parity` (m slices) from `data` (k slices), all of one length.
pub fn encode(scheme: Scheme, data: &[&[u8]], parity: &mut [&mut [u8]]) {
    scheme.coder().encode(data, parity).expect("the caller cut the shards to one length");
}

/// Rebuilds the `wanted` shards from any k of `shards` (k+m places, `None` where missing).
pub fn recover(scheme: Scheme, shards: &[Option<&[u8]>], wanted: &[usize]) -> Result<Vec<Vec<u8>>> {
    if wanted.is_empty() {
        return if shards.iter().flatten().count() < scheme.k {
            Err(Error::invalid("shards to recover from", "fewer than k"))
        } else {
            Ok(Vec::new())
        };
    }
    let length = shards.iter().flatten().map(|shard| shard.len()).next().unwrap_or(0);
    let mut rebuilt: Vec<Vec<u8>> = wanted.iter().map(|_| recycle::zeroed(length)).collect();
    let mut slots: Vec<&mut [u8]> = rebuilt.iter_mut().map(Vec::as_mut_slice).collect();
    scheme
        .coder()
        .recover(shards, wanted, &mut slots)
        .map_err(|error| Error::invalid("shards to recover from", error.to_string()))?;
    Ok(rebuilt)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition itself, bit by bit: multiplication in GF(2^8) modulo 0x11d.
    fn multiply(mut a: u16, mut b: u16) -> u8 {
        let mut product = 0;
        while b > 0 {
            if b & 1 == 1 {
                product ^= a;
            }
            a <<= 1;
            if a & 0x100 != 0 {
                a ^= 0x11d;
            }
            b >>= 1;
        }
        product as u8
    }

    fn inverse(a: u8) -> u8 {
        (1..=255).find(|&b| multiply(a.into(), u16::from(b)) == 1).unwrap()
    }

    #[test]
    fn parity_is_what_the_cauchy_matrix_says() {
        // ISA-L: row i (from k), column j is 1 / (i ^ j).
        let scheme = Scheme { k: 4, m: 2 };
        let data: Vec<Vec<u8>> =
            (0..4u8).map(|j| (0..33u8).map(|x| x.wrapping_mul(7).wrapping_add(j * 31)).collect()).collect();
        let mut parity = vec![vec![0; 33]; 2];
        let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        encode(scheme, &slices, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
        for (row, shard) in parity.iter().enumerate() {
            for (x, &byte) in shard.iter().enumerate() {
                let expected = (0..4usize)
                    .map(|j| multiply(inverse(((row + 4) ^ j) as u8).into(), data[j][x].into()))
                    .fold(0, |sum, term| sum ^ term);
                assert_eq!(byte, expected, "row {row}, byte {x}");
            }
        }
    }

    #[test]
    fn any_k_shards_give_the_others() {
        for (k, m) in [(1, 1), (1, 3), (2, 2), (3, 2), (4, 2), (6, 5)] {
            let scheme = Scheme::new(k, m).unwrap();
            let mut shards: Vec<Vec<u8>> = (0..scheme.width()).map(|i| vec![i as u8 * 17 + 1; 40]).collect();
            let (data, parity) = shards.split_at_mut(scheme.k);
            let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
            encode(scheme, &data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
            for present in 0u32..1 << scheme.width() {
                let partial: Vec<Option<&[u8]>> =
                    shards.iter().enumerate().map(|(i, s)| (present >> i & 1 == 1).then_some(s.as_slice())).collect();
                let missing: Vec<usize> = (0..scheme.width()).filter(|i| partial[*i].is_none()).collect();
                let recovered = recover(scheme, &partial, &missing);
                if (present.count_ones() as usize) < scheme.k {
                    assert!(recovered.is_err());
                } else {
                    let rebuilt = recovered.unwrap();
                    assert!(missing.iter().zip(&rebuilt).all(|(&i, shard)| *shard == shards[i]));
                }
            }
        }
    }

    #[test]
    fn schemes_outside_the_limits_are_refused() {
        assert!(Scheme::new(0, 1).is_err() && Scheme::new(1, 0).is_err() && Scheme::new(31, 2).is_err());
        assert!(Scheme::new(u32::MAX, u32::MAX).is_err());
    }
}
