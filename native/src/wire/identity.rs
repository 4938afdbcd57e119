//! Who is at the other end: the Ed25519 key of its certificate, which TLS proves (src/keys/certificate.ts). Nothing else
//! in a certificate means anything, and these are X.509 version 1, so the six fields are walked here.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, sign::any_eddsa_type};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};

use crate::base::error::{Error, Result};
use crate::formats::frame::ALPN;

/// SubjectPublicKeyInfo of an Ed25519 key, up to its 32 bytes (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const SPKI_BYTES: usize = SPKI_PREFIX.len() + 32;
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;

/// This host's certificate and key, and what TLS uses them with.
pub struct Identity {
    certified: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
}

impl Identity {
    pub fn from_pem(key: &str, certificate: &str) -> Result<Self> {
        let wrong = |why: &dyn fmt::Display| Error::invalid("identity", why.to_string());
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).map_err(|error| wrong(&error))?;
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|error| wrong(&error))?;
        let key = any_eddsa_type(&key).map_err(|error| wrong(&error))?;
        let mut provider = default_provider();
        // The order of src/wire/tls.ts.
        provider.cipher_suites = vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ];
        let certified = Arc::new(CertifiedKey::new(vec![certificate], key));
        Ok(Self { certified, provider: Arc::new(provider) })
    }

    /// Takes any Ed25519 key that its caller proves to have; who may do what is decided on each question.
    pub fn server(&self) -> Result<ServerConfig> {
        let verifier = Verifier { pin: None, provider: self.provider.clone() };
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| Error::invalid("TLS", error.to_string()))?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.certified.clone())));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed session would carry a certificate that nobody proved again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// For a connection to this host and no other.
    pub fn client(&self, host: [u8; 32]) -> Result<ClientConfig> {
        let verifier = Verifier { pin: Some(host), provider: self.provider.clone() };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| Error::invalid("TLS", error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(self.certified.clone())));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(config)
    }
}

/// The key in a certificate; None where it is of another kind, or no certificate.
pub fn host_of(certificate: &[u8]) -> Option<[u8; 32]> {
    let (body, _) = field(certificate, SEQUENCE)?;
    let (mut rest, _) = field(body, SEQUENCE)?;
    if let Some((_, behind)) = field(rest, VERSION) {
        rest = behind;
    }
    // serial number, then algorithm, issuer, validity, subject
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
        (_, rest) = field(rest, tag)?;
    }
    let key = rest.get(..SPKI_BYTES)?.strip_prefix(&SPKI_PREFIX)?;
    key.try_into().ok()
}

/// Content of a DER field with that tag, and what comes behind it.
fn field(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(&length, rest)| (usize::from(length), rest))?,
        0x82 => rest.split_first_chunk().map(|(&length, rest)| (usize::from(u16::from_be_bytes(length)), rest))?,
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length))?
}

/// Another host than the pinned one.
#[derive(Debug)]
pub struct Stranger(pub Option<[u8; 32]>);

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate is not of the expected host")
    }
}

impl StdError for Stranger {}

/// Believes a certificate's key, which the signature of the handshake proves; with a pin, that key only.
#[derive(Debug)]
struct Verifier {
    pin: Option<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn check(&self, certificate: &[u8]) -> std::result::Result<(), rustls::Error> {
        let host = host_of(certificate);
        if host.is_some() && (self.pin.is_none() || self.pin == host) {
            return Ok(());
        }
        Err(CertificateError::Other(OtherError(Arc::new(Stranger(host)))).into())
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &[u8],
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let host = host_of(certificate).ok_or(CertificateError::BadEncoding)?;
        let spki = SubjectPublicKeyInfoDer::from([&SPKI_PREFIX[..], &host].concat());
        verify_tls13_signature_with_raw_key(message, &spki, signed, &self.provider.signature_verification_algorithms)
    }
}

/// TLS 1.2 is not offered, so nothing asks for this.
fn no_tls12() -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::Error::General("TLS 1.2".into()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        self.check(certificate).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> std::result::Result<ClientCertVerified, rustls::Error> {
        self.check(certificate).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
