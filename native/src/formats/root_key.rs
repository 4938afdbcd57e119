//! The key of a snapshot's root page (docs/formats/record.md): it travels in the snapshot's head, sealed under a key that
//! follows from the appliance's manifest key.

use crate::base::error::{Error, Result};
use crate::base::secret::Secret;
use crate::formats::page::Ref;
use crate::formats::record::{Context, Type, open, seal};

const CONTEXT: &str = "imager v1 head root";

/// What seals the root keys of one appliance.
pub struct RootKey(Secret);

impl RootKey {
    pub fn new(manifest_key: &Secret) -> Self {
        Self(manifest_key.derive(CONTEXT, &[]))
    }

    /// `domain`: that of the appliance's pages.
    pub fn seal(&self, domain: &[u8; 16], root: &Ref) -> Vec<u8> {
        let id = id_of(root.birth);
        let mut sealed = Vec::new();
        seal(self.0.bytes(), Context { kind: Type::Root, domain, id: &id }, &root.key, 1, &mut sealed);
        sealed
    }

    /// Throws `Forged` where it was sealed under another key, for another domain or for another birth number.
    pub fn open(&self, domain: &[u8; 16], sealed: &[u8], birth: u64) -> Result<Ref> {
        let id = id_of(birth);
        let key = open(self.0.bytes(), Context { kind: Type::Root, domain, id: &id }, sealed, 32)?;
        let key = key.try_into().map_err(|_| Error::Forged { what: "the key of a root page" })?;
        Ok(Ref { key, birth })
    }
}

fn id_of(birth: u64) -> [u8; 32] {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&birth.to_le_bytes());
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_key_opens_with_its_own_birth_domain_and_key_only() {
        let (key, other) = (RootKey::new(&Secret::new([1; 32])), RootKey::new(&Secret::new([2; 32])));
        let root = Ref { key: [7; 32], birth: 9 };
        let sealed = key.seal(&[3; 16], &root);
        assert_eq!(key.open(&[3; 16], &sealed, 9).unwrap(), root);
        assert!(key.open(&[3; 16], &sealed, 10).is_err(), "another birth");
        assert!(key.open(&[4; 16], &sealed, 9).is_err(), "another domain");
        assert!(other.open(&[3; 16], &sealed, 9).is_err(), "another key");
    }
}
