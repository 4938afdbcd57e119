//! Keys as opaque handles.

use std::path::Path;
use std::sync::Arc;

use napi::bindgen_prelude::{Buffer, ClassInstance, Result, Uint8Array};
use napi_derive::napi;

use super::{fixed, thrown};
use crate::base::error::Error;
use crate::base::{memory, secret};
use crate::formats::record::{self, Context, Type};
use crate::formats::vault;

/// From here on no core file, and no other process of the same user reads the memory of this one.
#[napi]
pub fn keep_memory_private() {
    memory::keep_private();
}

/// 32 bytes that stay in the addon.
#[napi]
pub struct Secret(pub(super) secret::Secret);

#[napi]
impl Secret {
    /// A new one, from the system's random source.
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

    /// The sealed part of a statement, a record (docs/formats/record.md) bound to what it is about. `about`: 32 bytes.
    #[napi]
    pub fn seal_record(&self, about: Uint8Array, plain: Uint8Array) -> Result<Buffer> {
        let (domain, id) = (self.0.id(), fixed("what a record is about", &about)?);
        let mut sealed = Vec::new();
        record::seal(self.0.bytes(), context_of(&domain, &id), &plain, RECORD_LEVEL, &mut sealed);
        Ok(sealed.into())
    }

    /// What `sealRecord` sealed, `cap` bytes of it at most. Throws FORGED where that was under another key, or about
    /// something else.
    #[napi]
    pub fn open_record(&self, about: Uint8Array, sealed: Uint8Array, cap: u32) -> Result<Buffer> {
        let (domain, id) = (self.0.id(), fixed("what a record is about", &about)?);
        let plain = record::open(self.0.bytes(), context_of(&domain, &id), &sealed, cap as usize);
        plain.map(Buffer::from).map_err(thrown)
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

/// zstd's, for what is sealed once and is short.
const RECORD_LEVEL: i32 = 1;

fn context_of<'a>(domain: &'a [u8; 16], id: &'a [u8; 32]) -> Context<'a> {
    Context { kind: Type::Statement, domain, id }
}

/// The keys of one appliance together: D, M_a and C_a.
#[napi]
pub struct Vault(pub(super) Arc<vault::Vault>);

#[napi]
impl Vault {
    /// `domains`: for new blocks the first, which opens older ones too, as the others do. `fleet`: 16 bytes.
    #[napi(constructor)]
    pub fn new(
        domains: Vec<ClassInstance<Secret>>,
        manifest_key: &Secret,
        trailer_key: &Secret,
        fleet: Uint8Array,
    ) -> Result<Self> {
        let fleet = fixed("fleet id", &fleet)?;
        let keys: Vec<secret::Secret> = domains.iter().map(|key| key.0.clone()).collect();
        let Some((newest, older)) = keys.split_first() else {
            return Err(thrown(Error::invalid("domains", "none")));
        };
        Ok(Self(Arc::new(vault::Vault::new(newest, older, &manifest_key.0, &trailer_key.0, fleet))))
    }

    /// How many domains it opens blocks of, besides the one for new blocks.
    #[napi(getter)]
    pub fn older_domains(&self) -> u32 {
        self.0.blocks.older().len() as u32
    }
}

/// Whether an Ed25519 signature (64 bytes) of a message is by this public key (32 bytes); false for other lengths too.
#[napi]
pub fn verify_signature(public_key: Uint8Array, message: Uint8Array, signature: Uint8Array) -> bool {
    secret::verify_signature(&public_key, &message, &signature)
}

/// BLAKE3-256.
#[napi]
pub fn hash(data: Uint8Array) -> Buffer {
    blake3::hash(&data).as_bytes().to_vec().into()
}
