//! The key of a snapshot's root page (docs/formats/record.md): it travels in the snapshot's head, sealed under a key that
//! follows from the appliance's manifest key.

use crate::base::error::{Error, Result};
use crate::base::secret::Secret;
use crate::formats::names::Runs;
use crate::formats::page::Ref;
use crate::formats::record::{Context, Type, open, seal};

const CONTEXT: &str = "imager v1 head root";

/// What seals the root keys of one appliance.
pub struct RootKey(Secret);

impl RootKey {
    pub fn new(manifest_key: &Secret) -> Self {
        Self(manifest_key.derive(CONTEXT, &[]))
    }

    /// `domain`: that of the appliance's pages. Throws `Invalid` where its run is not known.
    pub fn seal(&self, domain: &[u8; 16], root: &Ref, runs: &Runs) -> Result<Vec<u8>> {
        let id = runs.birth_id(root.birth)?;
        let mut sealed = Vec::new();
        seal(self.0.bytes(), Context { kind: Type::Root, domain, id: &id }, &root.key, 1, &mut sealed);
        Ok(sealed)
    }

    /// Throws `Forged` where it was sealed under another key, for another domain or for another birth.
    pub fn open(&self, domain: &[u8; 16], sealed: &[u8], birth: u64, runs: &Runs) -> Result<Ref> {
        let id = runs.birth_id(birth)?;
        let key = open(self.0.bytes(), Context { kind: Type::Root, domain, id: &id }, sealed, 32)?;
        let key = key.try_into().map_err(|_| Error::Forged { what: "the key of a root page" })?;
        Ok(Ref { key, birth })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::names::RunName;

    #[test]
    fn a_root_key_opens_with_its_own_birth_domain_and_key_only() {
        let (key, other) = (RootKey::new(&Secret::new([1; 32])), RootKey::new(&Secret::new([2; 32])));
        let mut runs = Runs::default();
        for seed in [1, 2] {
            runs.number(&RunName { writer: [seed; 32], run: [0; 8] }).unwrap();
        }
        let root = Ref { key: [7; 32], birth: 1 << 40 | 9 };
        let sealed = key.seal(&[3; 16], &root, &runs).unwrap();
        assert_eq!(key.open(&[3; 16], &sealed, root.birth, &runs).unwrap(), root);
        assert!(key.open(&[3; 16], &sealed, root.birth + 1, &runs).is_err(), "another birth");
        assert!(key.open(&[3; 16], &sealed, 2 << 40 | 9, &runs).is_err(), "another writer's");
        assert!(key.open(&[4; 16], &sealed, root.birth, &runs).is_err(), "another domain");
        assert!(other.open(&[3; 16], &sealed, root.birth, &runs).is_err(), "another key");
    }
}
