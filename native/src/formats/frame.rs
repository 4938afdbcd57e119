//! Frames of a data connection (docs/protocol.md, "Data connections").
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

use std::ops::Range;

/// What no TLS connection begins with (0x16), nor any HTTP.
pub const PREAMBLE: &[u8; 8] = b"imager/1";
/// Without it, bytes meant for one protocol could be turned to a server of another.
pub const ALPN: &[u8] = b"imager-data/1";

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
    /// Nothing for a kind that this version does not know.
    pub fn decode(byte: u8) -> Option<Self> {
        [Self::Question, Self::Go, Self::Done, Self::Refused, Self::Fetch].into_iter().find(|kind| *kind as u8 == byte)
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

    /// Nothing for bytes of another length.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (shard, rest) = bytes.split_first_chunk()?;
        let (start, rest) = rest.split_first_chunk()?;
        let end = rest.try_into().ok()?;
        Some(Self { shard: *shard, range: u64::from_le_bytes(*start)..u64::from_le_bytes(end) })
    }
}
