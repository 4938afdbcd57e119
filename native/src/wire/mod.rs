//! Carries the bodies of shards between hosts: TLS 1.3 with both keys pinned, as on the connections of `src/wire`, but on
//! plain threads and without a body ever passing through JavaScript (docs/protocol.md, "Data connections").
//!
//! What is asked and whether it is granted is TypeScript's business: a question is opaque here, and nothing is received
//! or sent before TypeScript ordered it. Only a fetch is understood here too, and answered at once for the readers whom
//! TypeScript named.
//!
//! ```text
//! client  PREAMBLE, in clear; from then on TLS with ALPN
//! frame   kind u8 | length u32 LE | that many bytes
//!
//! PUT     > question   < go (length u64 of the body)   > body   < done
//! GET     > fetch      < go (length u64 of the body)   < body   < done
//! ```
//!
//! In place of `go` and of `done` there may be `refused`, with an error as TypeScript encodes it.

pub mod client;
pub mod identity;
pub mod server;
pub mod stream;
pub mod threads;

use std::fmt;
use std::io;
use std::ops::Range;

use stream::{Side, Stream};

use crate::base::limits::FRAME_BYTES;

/// What no TLS connection begins with (0x16), nor any HTTP.
pub const PREAMBLE: &[u8; 8] = b"imager/1";
/// Without it, bytes meant for one protocol could be turned to a server of another.
pub const ALPN: &[u8] = b"imager-data/1";

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Question = 0,
    Go = 1,
    Done = 2,
    Refused = 3,
    Fetch = 4,
}

impl Kind {
    fn decode(byte: u8) -> Result<Self, Broken> {
        [Self::Question, Self::Go, Self::Done, Self::Refused, Self::Fetch]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
            .ok_or(Broken::Malformed("a frame of an unknown kind"))
    }
}

/// The end of a range that goes to the end of its file.
pub const TO_END: u64 = u64::MAX;

/// Which bytes of which shard. Integers are little-endian:
///
/// | Offset | Size | Field |
/// |---|---|---|
/// | 0 | 16 | shard id |
/// | 16 | 8 | start |
/// | 24 | 8 | end, exclusive; 2^64 - 1: of the file |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub shard: [u8; 16],
    /// As it was asked for: it may be empty, or of no file.
    pub range: Range<u64>,
}

impl Fetch {
    pub fn encode(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.shard);
        bytes[16..24].copy_from_slice(&self.range.start.to_le_bytes());
        bytes[24..].copy_from_slice(&self.range.end.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Broken> {
        let fields = || {
            let (shard, rest) = bytes.split_first_chunk()?;
            let (start, rest) = rest.split_first_chunk()?;
            let end = rest.try_into().ok()?;
            Some(Self { shard: *shard, range: u64::from_le_bytes(*start)..u64::from_le_bytes(end) })
        };
        fields().ok_or(Broken::Malformed("a fetch of another length"))
    }
}

pub fn write_frame<S: Side>(stream: &mut Stream<S>, kind: Kind, bytes: &[u8]) -> Result<(), Broken> {
    let length = u32::try_from(bytes.len()).ok().filter(|&length| length as usize <= FRAME_BYTES);
    let length = length.ok_or(Broken::Malformed("a frame that is too long"))?;
    let mut frame = Vec::with_capacity(5 + bytes.len());
    frame.push(kind as u8);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(bytes);
    stream.write_all(&frame)
}

pub fn read_frame<S: Side>(stream: &mut Stream<S>) -> Result<(Kind, Vec<u8>), Broken> {
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    read_frame_of(kind[0], stream)
}

/// The rest of a frame whose first byte is known.
fn read_frame_of<S: Side>(kind: u8, stream: &mut Stream<S>) -> Result<(Kind, Vec<u8>), Broken> {
    let kind = Kind::decode(kind)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_BYTES {
        return Err(Broken::Malformed("a frame that is too long"));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok((kind, bytes))
}
