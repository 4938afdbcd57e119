//! What ends a data connection.

use std::fmt;
use std::io;

/// Why a connection is of no use any more.
#[derive(Debug)]
pub enum Broken {
    /// The deadline passed, or nothing came for too long.
    Late,
    Closed,
    Io(io::Error),
    Tls(String),
    /// The certificate is of another key than the pinned one; None: of no Ed25519 key.
    Stranger(Option<[u8; 32]>),
    Malformed(&'static str),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => write!(f, "no answer in time"),
            Self::Closed => write!(f, "the connection was closed"),
            Self::Io(error) => write!(f, "{error}"),
            Self::Tls(why) => write!(f, "TLS: {why}"),
            Self::Stranger(_) => write!(f, "another host answers"),
            Self::Malformed(what) => write!(f, "{what}"),
        }
    }
}
