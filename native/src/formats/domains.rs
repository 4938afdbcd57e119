//! The dedupe domains whose blocks one host may open. New blocks are sealed in the newest; older ones stay where they are.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::error::Result;
use crate::base::secret::Secret;
use crate::formats::record::Domain;

/// A record is bound to the domain that it was sealed in, so a block opens in that one only: which it is need not be
/// written down beside each block.
pub struct Domains {
    all: Vec<Domain>,
    /// In which the last block was found: neighbours are of one age.
    last: AtomicUsize,
}

impl Domains {
    /// `older`: the newest of them first. A key that is there twice counts once.
    pub fn new(newest: &Secret, older: &[Secret]) -> Self {
        let mut all = vec![Domain::blocks(newest)];
        for key in older {
            if all.iter().all(|known| known.id != key.id()) {
                all.push(Domain::blocks(key));
            }
        }
        Self { all, last: AtomicUsize::new(0) }
    }

    /// For new blocks.
    pub fn newest(&self) -> &Domain {
        &self.all[0]
    }

    pub fn older(&self) -> &[Domain] {
        &self.all[1..]
    }

    /// The block of this key, into an empty buffer that `take` gives. What opens in none of them is `Forged`.
    pub fn open_into(
        &self,
        block_key: &[u8; 32],
        record: &[u8],
        cap: usize,
        take: impl Fn(usize) -> Vec<u8>,
    ) -> Result<Vec<u8>> {
        self.first(|domain| domain.open_into(block_key, record, cap, &take))
    }

    /// The same into memory of its own.
    pub fn open(&self, block_key: &[u8; 32], record: &[u8], cap: usize) -> Result<Vec<u8>> {
        self.open_into(block_key, record, cap, Vec::with_capacity)
    }

    /// Whether these are the bytes of this key.
    pub fn is_key_of(&self, block_key: &[u8; 32], plain: &[u8]) -> bool {
        self.first(|domain| if domain.block_key(plain) == *block_key { Ok(()) } else { Err(()) }).is_ok()
    }

    fn first<T, E>(&self, attempt: impl Fn(&Domain) -> std::result::Result<T, E>) -> std::result::Result<T, E> {
        let last = self.last.load(Ordering::Relaxed);
        let mut tried = attempt(&self.all[last]);
        for (at, domain) in self.all.iter().enumerate().filter(|(at, _)| *at != last) {
            if tried.is_ok() {
                break;
            }
            tried = attempt(domain);
            if tried.is_ok() {
                self.last.store(at, Ordering::Relaxed);
            }
        }
        tried
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(seed: u8) -> Secret {
        Secret::new([seed; 32])
    }

    #[test]
    fn each_block_opens_in_the_domain_that_it_was_sealed_in() {
        let domains = Domains::new(&secret(1), &[secret(2), secret(3), secret(2), secret(1)]);
        assert_eq!((domains.newest().id, domains.older().len()), (secret(1).id(), 2), "twice is once");
        let sealed = |seed: u8| {
            let (domain, mut record) = (Domain::blocks(&secret(seed)), Vec::new());
            let key = domain.block_key(b"plain");
            domain.seal(&key, b"plain", 1, &mut record);
            (key, record)
        };
        for seed in [1, 2, 3, 1, 3] {
            let (key, record) = sealed(seed);
            assert_eq!(domains.open(&key, &record, 10).unwrap(), b"plain", "domain {seed}");
            assert!(domains.is_key_of(&key, b"plain"));
            assert!(!domains.is_key_of(&key, b"other"));
            assert!(domains.open(&sealed(seed % 3 + 1).0, &record, 10).is_err(), "the key of another domain's record");
        }
        let (key, record) = sealed(4);
        assert!(domains.open(&key, &record, 10).is_err() && !domains.is_key_of(&key, b"plain"), "a domain it has not");
        let newest = Domains::new(&secret(1), &[]);
        assert!(newest.open(&sealed(2).0, &sealed(2).1, 10).is_err(), "who has only the newest opens nothing older");
    }
}
