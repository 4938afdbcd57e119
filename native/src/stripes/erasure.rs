//! Reed-Solomon over GF(2^8), polynomial 0x11d, with ISA-L's Cauchy matrix (`gf_gen_cauchy1_matrix`): systematic, so
//! the first k rows are the data itself. Works on equal slices of any length at the same offset of each shard.

use rusty_erasure::{Coder, DecodePlan, Matrix, coder};

use crate::base::error::{Error, Result};
use crate::base::limits::STRIPE_SHARDS;
use crate::base::pool;

/// k data and m parity shards; 1+0 is a copy, as a folder has it that stands for one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    pub k: usize,
    pub m: usize,
}

impl Scheme {
    pub fn new(k: u32, m: u32) -> Result<Self> {
        let (k, m) = (k as usize, m as usize);
        let is_copy = (k, m) == (1, 0);
        if (k == 0 || m == 0 || k.saturating_add(m) > STRIPE_SHARDS) && !is_copy {
            let why = format!("{k}+{m}: 1+0, or 1+1 to {STRIPE_SHARDS} shards in all");
            return Err(Error::invalid("scheme", why));
        }
        Ok(Self { k, m })
    }

    pub fn width(self) -> usize {
        self.k + self.m
    }

    /// None where there is no parity.
    fn coder(self) -> Option<Coder> {
        let matrix = (self.m > 0).then(|| Matrix::cauchy(self.k, self.m).and_then(coder));
        matrix.map(|coder| coder.expect("1+1 to 32 shards have a Cauchy matrix"))
    }
}

/// Encodes the shards of a stripe range by range, and proves each range by decoding it.
pub struct Encoder {
    /// And the plan that decodes as if the first data shards were lost, as many as there are parity shards. None: no parity.
    coder: Option<(Coder, DecodePlan)>,
    lost: usize,
    rebuilt: Vec<u8>,
}

impl Encoder {
    pub fn new(scheme: Scheme) -> Self {
        let lost = scheme.m.min(scheme.k);
        let present: Vec<bool> = (0..scheme.width()).map(|index| index >= lost).collect();
        let wanted: Vec<usize> = (0..lost).collect();
        let coder = scheme.coder().map(|coder| {
            let plan = coder.decode_plan(&present, &wanted).expect("any k shards of a Cauchy matrix give the others");
            (coder, plan)
        });
        Self { coder, lost, rebuilt: Vec::new() }
    }

    /// Fills `parity` (m slices) from `data` (k slices), all of one length.
    pub fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        let Some((coder, _)) = &self.coder else { return };
        coder.encode(data, parity).expect("the caller cut the shards to one length");
    }

    /// Whether the parity and the other data give the first data shards, as many as there is parity.
    pub fn decodes(&mut self, data: &[&[u8]], parity: &[&[u8]]) -> bool {
        let Some((coder, plan)) = &self.coder else { return true };
        let length = data[0].len();
        self.rebuilt.resize(self.lost * length, 0);
        let mut slots: Vec<&mut [u8]> = self.rebuilt.chunks_exact_mut(length).collect();
        let given = data.iter().chain(parity).enumerate();
        let present: Vec<Option<&[u8]>> = given.map(|(index, shard)| (index >= self.lost).then_some(*shard)).collect();
        coder.recover_with(plan, &present, &mut slots).expect("the caller cut the shards to one length");
        slots.iter().zip(data).all(|(rebuilt, shard)| **rebuilt == **shard)
    }
}

/// Rebuilds the `wanted` shards (indexes) from any k of `shards`, which has k+m elements, `None` where missing.
pub fn recover(scheme: Scheme, shards: &[Option<&[u8]>], wanted: &[usize]) -> Result<Vec<Vec<u8>>> {
    if wanted.is_empty() {
        return if shards.iter().flatten().count() < scheme.k {
            Err(Error::invalid("shards to recover from", "fewer than k"))
        } else {
            Ok(Vec::new())
        };
    }
    let coder = scheme.coder().ok_or_else(|| Error::invalid("shards to recover from", "a copy has no parity"))?;
    let length = shards.iter().flatten().map(|shard| shard.len()).next().unwrap_or(0);
    let mut rebuilt: Vec<Vec<u8>> = wanted.iter().map(|_| pool::zeroed(length)).collect();
    let mut slots: Vec<&mut [u8]> = rebuilt.iter_mut().map(Vec::as_mut_slice).collect();
    coder
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
        Encoder::new(scheme).encode(&slices, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
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
            Encoder::new(scheme).encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
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
    fn a_byte_that_was_encoded_wrongly_does_not_decode() {
        for (k, m) in [(1, 1), (1, 3), (3, 2), (2, 4)] {
            let scheme = Scheme::new(k, m).unwrap();
            let mut shards: Vec<Vec<u8>> = (0..scheme.width()).map(|i| vec![i as u8 * 17 + 1; 40]).collect();
            let mut encoder = Encoder::new(scheme);
            let (data, parity) = shards.split_at_mut(scheme.k);
            let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
            encoder.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
            let used = scheme.k + scheme.m.min(scheme.k);
            let mut decodes = |shards: &[Vec<u8>]| {
                let shards: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
                encoder.decodes(&shards[..scheme.k], &shards[scheme.k..])
            };
            assert!(decodes(&shards));
            for shard in 0..used {
                shards[shard][39] ^= 1;
                assert!(!decodes(&shards), "{k}+{m}, shard {shard}");
                shards[shard][39] ^= 1;
            }
        }
    }

    #[test]
    fn schemes_outside_the_limits_are_refused() {
        assert!(Scheme::new(0, 1).is_err() && Scheme::new(2, 0).is_err() && Scheme::new(31, 2).is_err());
        assert!(Scheme::new(u32::MAX, u32::MAX).is_err());
    }

    #[test]
    fn of_a_copy_nothing_is_rebuilt() {
        let copy = Scheme::new(1, 0).unwrap();
        assert!(recover(copy, &[None], &[0]).is_err());
        assert!(recover(copy, &[None], &[]).is_err());
        assert!(recover(copy, &[Some(&[1])], &[]).unwrap().is_empty());
    }
}
