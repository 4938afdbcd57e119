//! Unpacking what btrfs compressed: zlib and zstd streams, followed by padding, and LZO in pieces of a sector.

use std::io::Read;

use super::corrupt::corrupt;
use crate::base::error::Result;
use crate::base::limits::PACKED_RAW_BYTES;
use crate::fs::volume_map::Codec;

/// At most `raw_length` bytes; fewer where the stream ends before, the rest reads as zeros and is filled here.
/// `packed` may be followed by padding.
pub fn unpack(codec: Codec, packed: &[u8], raw_length: usize) -> Result<Vec<u8>> {
    if raw_length as u64 > PACKED_RAW_BYTES {
        return Err(corrupt(format!("{raw_length} bytes in one compressed extent")));
    }
    let mut raw = match codec {
        Codec::Zlib => super::inflate::zlib(packed, raw_length)?,
        Codec::Lzo => super::lzo::sectors(packed, raw_length)?,
        Codec::Zstd => zstd_frame(packed, raw_length)?,
    };
    raw.resize(raw_length, 0);
    Ok(raw)
}

fn zstd_frame(packed: &[u8], raw_length: usize) -> Result<Vec<u8>> {
    let refused = |error: std::io::Error| corrupt(format!("zstd: {error}"));
    let decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(refused)?.single_frame();
    let mut raw = Vec::with_capacity(raw_length);
    decoder.take(raw_length as u64).read_to_end(&mut raw).map_err(refused)?;
    Ok(raw)
}
