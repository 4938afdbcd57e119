//! Keys as opaque handles.

use std::path::Path;
use std::sync::Arc;

use napi::bindgen_prelude::{Buffer, Result, Uint8Array};
use napi_derive::napi;

use super::{fixed, thrown};
use crate::base::error::Error;
use crate::base::secret;
use crate::formats::page::Ref;
use crate::formats::record::{self, Context, Domain, Type};

/// 32 bytes that stay in the addon.
#[napi]
pub struct Secret(pub(super) secret::Secret);

#[napi]
impl Secret {
    #[napi(factory)]
    pub fn random() -> Self {
        Self(secret::Secret::random())
    }

    /// From a file of exactly 32 bytes.
    #[napi(factory)]
    pub fn load(path: String) -> Result<Self> {
        secret::Secret::load(Path::new(&path)).map(Self).map_err(thrown)
    }

    /// Into a new file, mode 0600.
    #[napi]
    pub fn save(&self, path: String) -> Result<()> {
        self.0.save(Path::new(&path)).map_err(thrown)
    }

    /// From 24 BIP39 words.
    #[napi(factory)]
    pub fn from_words(words: String) -> Result<Self> {
        secret::Secret::from_words(&words).map(Self).map_err(thrown)
    }

    /// 24 BIP39 words; only ever asked of the recovery seed.
    #[napi]
    pub fn words(&self) -> String {
        self.0.words()
    }

    /// BLAKE3 derive_key(context, this | material).
    #[napi]
    pub fn derive(&self, context: String, material: Option<Uint8Array>) -> Self {
        Self(self.0.derive(&context, material.as_deref().unwrap_or_default()))
    }

    /// The 16-byte public name of this key.
    #[napi]
    pub fn id(&self) -> Buffer {
        self.0.id().to_vec().into()
    }

    /// The Ed25519 public key (32 bytes) that verifies what `sign` signs.
    #[napi]
    pub fn signing_key(&self) -> Buffer {
        self.0.signing_key().to_vec().into()
    }

    /// An Ed25519 signature (64 bytes).
    #[napi]
    pub fn sign(&self, message: Uint8Array) -> Buffer {
        self.0.sign(&message).to_vec().into()
    }

    /// The X25519 public key (32 bytes) for `sealTo`.
    #[napi]
    pub fn sealing_key(&self) -> Buffer {
        self.0.sealing_key().to_vec().into()
    }

    /// This secret, for the holder of the recipient's secret only (HPKE base mode).
    #[napi]
    pub fn seal_to(&self, recipient: Uint8Array, info: Uint8Array) -> Result<Buffer> {
        self.0.seal_to(&recipient, &info).map(Buffer::from).map_err(thrown)
    }

    /// The secret that was sealed to this one.
    #[napi]
    pub fn open_sealed(&self, sealed: Uint8Array, info: Uint8Array) -> Result<Secret> {
        self.0.open_sealed(&sealed, &info).map(Self).map_err(thrown)
    }

    /// Keyed BLAKE3 of the message, 32 bytes.
    #[napi]
    pub fn tag(&self, message: Uint8Array) -> Buffer {
        self.0.tag(&message).to_vec().into()
    }

    /// The signing key as PKCS#8 DER, for TLS.
    #[napi]
    pub fn tls_key(&self) -> Buffer {
        self.0.tls_key().to_vec().into()
    }
}

/// What one appliance needs to seal and open its snapshots.
pub struct VaultKeys {
    pub blocks: Domain,
    pub pages: Domain,
    pub trailer_key: secret::Secret,
    pub fleet: [u8; 16],
    root_key: secret::Secret,
}

/// The key of a snapshot's root page travels in its head, sealed under the manifest key.
const ROOT_KEY: &str = "imager v1 head root";

impl VaultKeys {
    fn root_context(birth: u64) -> [u8; 32] {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&birth.to_le_bytes());
        id
    }

    pub fn seal_root(&self, root: &Ref) -> Vec<u8> {
        let id = Self::root_context(root.birth);
        let context = Context { kind: Type::Root, domain: &self.pages.id, id: &id };
        let mut sealed = Vec::new();
        record::seal(self.root_key.bytes(), context, &root.key, 1, &mut sealed);
        sealed
    }

    pub fn open_root(&self, sealed: &[u8], birth: u64) -> crate::base::error::Result<Ref> {
        let id = Self::root_context(birth);
        let context = Context { kind: Type::Root, domain: &self.pages.id, id: &id };
        let key = record::open(self.root_key.bytes(), context, sealed, 32)?;
        let key = key.try_into().map_err(|_| Error::Forged { what: "the key of a root page" })?;
        Ok(Ref { key, birth })
    }
}

/// The keys of one appliance together: D, M_a and C_a.
#[napi]
pub struct Vault(pub(super) Arc<VaultKeys>);

#[napi]
impl Vault {
    /// `fleet`: 16 bytes.
    #[napi(constructor)]
    pub fn new(domain_key: &Secret, manifest_key: &Secret, trailer_key: &Secret, fleet: Uint8Array) -> Result<Self> {
        Ok(Self(Arc::new(VaultKeys {
            blocks: Domain::blocks(&domain_key.0),
            pages: Domain::pages(&manifest_key.0),
            trailer_key: trailer_key.0.clone(),
            fleet: fixed("fleet id", &fleet)?,
            root_key: manifest_key.0.derive(ROOT_KEY, &[]),
        })))
    }
}

#[napi]
pub fn verify_signature(public_key: Uint8Array, message: Uint8Array, signature: Uint8Array) -> bool {
    secret::verify_signature(&public_key, &message, &signature)
}

/// BLAKE3-256.
#[napi]
pub fn hash(data: Uint8Array) -> Buffer {
    blake3::hash(&data).as_bytes().to_vec().into()
}
