//! A 32-byte key that never leaves the addon, and what can be made of one: other keys, a signing and a sealing pair.
//!
//! Sources: BLAKE3 derive_key (BLAKE3 paper, section 2.3), Ed25519 (RFC 8032), HPKE base mode with
//! X25519-HKDF-SHA256 / HKDF-SHA256 / ChaCha20-Poly1305 (RFC 9180), BIP39 (24 words are 256 bits and a checksum; the
//! entropy itself is the key, not the PBKDF2 seed).

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use bip39::{Language, Mnemonic};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use zeroize::Zeroizing;

use crate::base::error::{Error, Result};

const SIGN: &str = "imager v1 sign";
const SEAL: &str = "imager v1 kem";
const KEY_ID: &str = "imager v1 key id";
/// The fixed head of an Ed25519 private key in PKCS#8 (RFC 8410, section 7); the 32-byte seed follows.
const PKCS8_ED25519: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl Secret {
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub fn random() -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(&mut *bytes).expect("the system's random source answers");
        Self(bytes)
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Exactly 32 bytes; anything else is not a key.
    pub fn load(path: &Path) -> Result<Self> {
        let failed = |error| Error::io(format!("reading the key {}", path.display()), error);
        let mut bytes = Zeroizing::new(Vec::with_capacity(33));
        std::fs::File::open(path).and_then(|file| file.take(33).read_to_end(&mut bytes)).map_err(failed)?;
        let key: [u8; 32] = bytes
            .as_slice()
            .try_into()
            .map_err(|_| Error::corrupt("key file", 0, format!("{} does not hold exactly 32 bytes", path.display())))?;
        Ok(Self::new(key))
    }

    /// Creates the file, whole or not at all; an existing one is never overwritten.
    pub fn save(&self, path: &Path) -> Result<()> {
        let making = path.with_extension(format!("{}.new", std::process::id()));
        let saved = self.write_new(&making).and_then(|()| std::fs::hard_link(&making, path));
        let _ = std::fs::remove_file(&making);
        saved.map_err(|error| Error::io(format!("writing the key {}", path.display()), error))
    }

    fn write_new(&self, path: &Path) -> std::io::Result<()> {
        // What a process of that number left there is of no use to anybody.
        let _ = std::fs::remove_file(path);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&self.0[..])?;
        file.sync_all()
    }

    pub fn from_words(words: &str) -> Result<Self> {
        let words = words.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>();
        let refuse = |why: String| Error::Invalid { what: "the recovery words", why };
        if words.len() != 24 {
            return Err(refuse(format!("there are {} of them, not 24", words.len())));
        }
        let mnemonic =
            Mnemonic::parse_in_normalized(Language::English, &words.join(" ")).map_err(|error| match error {
                bip39::Error::UnknownWord(index) => {
                    refuse(format!("word {} is not in the list: {:?}", index + 1, words[index]))
                }
                _ => {
                    refuse("all are in the list, but they do not belong together: one is wrong or out of place".into())
                }
            })?;
        let (entropy, length) = mnemonic.to_entropy_array();
        assert_eq!(length, 32, "24 words are 32 bytes");
        Ok(Self::new(entropy[..32].try_into().expect("32 of 33 bytes")))
    }

    pub fn words(&self) -> String {
        Mnemonic::from_entropy(&self.0[..]).expect("32 bytes are 24 words").to_string()
    }

    /// BLAKE3's derive_key: one context string for each purpose; `material` separates keys of one purpose.
    pub fn derive(&self, context: &str, material: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&self.0[..]).update(material);
        Self::new(*hasher.finalize().as_bytes())
    }

    /// The public name of this key.
    pub fn id(&self) -> [u8; 16] {
        self.derive(KEY_ID, &[]).0[..16].try_into().expect("16 of 32 bytes")
    }

    /// Keyed BLAKE3 of the message.
    pub fn tag(&self, message: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, message).as_bytes()
    }

    fn signing_pair(&self) -> Ed25519KeyPair {
        let seed = self.derive(SIGN, &[]);
        Ed25519KeyPair::from_seed_unchecked(seed.bytes()).expect("any 32 bytes are an Ed25519 seed")
    }

    pub fn signing_key(&self) -> [u8; 32] {
        self.signing_pair().public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes")
    }

    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing_pair().sign(message).as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }

    /// For TLS, which lives in Node: the only key that leaves the addon.
    pub fn tls_key(&self) -> Zeroizing<Vec<u8>> {
        let mut der = Zeroizing::new(PKCS8_ED25519.to_vec());
        der.extend_from_slice(self.derive(SIGN, &[]).bytes());
        der
    }

    fn sealing_pair(&self) -> (<X25519HkdfSha256 as Kem>::PrivateKey, <X25519HkdfSha256 as Kem>::PublicKey) {
        X25519HkdfSha256::derive_keypair(self.derive(SEAL, &[]).bytes())
    }

    pub fn sealing_key(&self) -> [u8; 32] {
        self.sealing_pair().1.to_bytes().as_slice().try_into().expect("an X25519 public key has 32 bytes")
    }

    /// `encapsulated key (32) | ciphertext (32) | tag (16)`; `info` binds the purpose.
    pub fn seal_to(&self, recipient: &[u8], info: &[u8]) -> Result<Vec<u8>> {
        let recipient = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(recipient)
            .map_err(|_| Error::invalid("sealing key", "not an X25519 public key"))?;
        let (encapsulated, sealed) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &recipient,
            info,
            &self.0[..],
            &[],
        )
        .map_err(|_| Error::invalid("sealing key", "a point of small order"))?;
        Ok([encapsulated.to_bytes().as_slice(), &sealed].concat())
    }

    /// Opens what `seal_to` made for this secret's sealing key.
    pub fn open_sealed(&self, sealed: &[u8], info: &[u8]) -> Result<Self> {
        let forged = || Error::Forged { what: "a sealed key" };
        let (encapsulated, sealed) = sealed.split_at_checked(32).ok_or_else(forged)?;
        let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(encapsulated).map_err(|_| forged())?;
        let plain = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.sealing_pair().0,
            &encapsulated,
            info,
            sealed,
            &[],
        )
        .map_err(|_| forged())?;
        let plain = Zeroizing::new(plain);
        Ok(Self::new(plain.as_slice().try_into().map_err(|_| forged())?))
    }
}

pub fn verify_signature(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public_key).verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_return_and_each_mistake_is_named() {
        let secret = Secret::random();
        let words = secret.words();
        assert_eq!(words.split(' ').count(), 24);
        assert_eq!(Secret::from_words(&words.to_uppercase()).unwrap().bytes(), secret.bytes());
        let unknown = words.replacen(words.split(' ').nth(2).unwrap(), "imagerr", 1);
        assert!(Secret::from_words(&unknown).unwrap_err().to_string().contains("imagerr"));
        assert!(Secret::from_words("abandon").unwrap_err().to_string().contains("not 24"));
        let zeros = "abandon ".repeat(23);
        assert!(Secret::from_words(&(zeros.clone() + "art")).is_ok());
        assert!(Secret::from_words(&(zeros + "zoo")).unwrap_err().to_string().contains("belong together"));
    }

    #[test]
    fn a_key_is_saved_once() {
        let folder = std::env::temp_dir().join(format!("imager-key-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("identity.key");
        let secret = Secret::random();
        secret.save(&path).unwrap();
        assert!(Secret::random().save(&path).is_err());
        assert_eq!(Secret::load(&path).unwrap().bytes(), secret.bytes());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing else is left");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn sealed_keys_open_for_their_reader_and_purpose_only() {
        let (key, reader, stranger) = (Secret::random(), Secret::random(), Secret::random());
        let sealed = key.seal_to(&reader.sealing_key(), b"purpose").unwrap();
        assert_eq!(reader.open_sealed(&sealed, b"purpose").unwrap().bytes(), key.bytes());
        assert!(reader.open_sealed(&sealed, b"other").is_err());
        assert!(stranger.open_sealed(&sealed, b"purpose").is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(reader.open_sealed(&changed, b"purpose").is_err(), "byte {at}");
        }
    }

    #[test]
    fn signatures_bind_key_and_message() {
        let secret = Secret::new([7; 32]);
        let signature = secret.sign(b"m");
        assert!(verify_signature(&secret.signing_key(), b"m", &signature));
        assert!(!verify_signature(&secret.signing_key(), b"n", &signature));
        assert!(!verify_signature(&Secret::random().signing_key(), b"m", &signature));
        assert_eq!(format!("{secret:?}"), "Secret(redacted)");
    }
}
