//! The keys with which one appliance seals and opens its snapshots.

use std::sync::Arc;

use crate::base::error::Result;
use crate::base::secret::Secret;
use crate::formats::domains::Domains;
use crate::formats::names::Runs;
use crate::formats::page::Ref;
use crate::formats::record::Domain;
use crate::formats::root_key::RootKey;

pub struct Vault {
    pub blocks: Arc<Domains>,
    pub pages: Domain,
    pub trailer_key: Secret,
    pub fleet: [u8; 16],
    root_key: RootKey,
}

impl Vault {
    /// D, M_a and C_a of docs/threat-model.md; `older`: earlier D, the newest first.
    pub fn new(
        domain_key: &Secret,
        older: &[Secret],
        manifest_key: &Secret,
        trailer_key: &Secret,
        fleet: [u8; 16],
    ) -> Self {
        Self {
            blocks: Arc::new(Domains::new(domain_key, older)),
            pages: Domain::pages(manifest_key),
            trailer_key: trailer_key.clone(),
            fleet,
            root_key: RootKey::new(manifest_key),
        }
    }

    /// Throws `Invalid` where its run is not known.
    pub fn seal_root(&self, root: &Ref, runs: &Runs) -> Result<Vec<u8>> {
        self.root_key.seal(&self.pages.id, root, runs)
    }

    /// Throws `Forged`.
    pub fn open_root(&self, sealed: &[u8], birth: u64, runs: &Runs) -> Result<Ref> {
        self.root_key.open(&self.pages.id, sealed, birth, runs)
    }
}
