//! Unpacking what btrfs compressed: zlib and zstd streams, followed by padding, and LZO in pieces of a sector.

use std::io::Read;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

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
        Codec::Zlib => zlib(packed, raw_length)?,
        Codec::Lzo => super::lzo::sectors(packed, raw_length)?,
        Codec::Zstd => zstd_frame(packed, raw_length)?,
    };
    raw.resize(raw_length, 0);
    Ok(raw)
}

/// The first `most` bytes of a zlib stream (RFC 1950); what follows them is not looked at. Nor is the stream's checksum:
/// btrfs has one of its own over the extent, and the kernel does not compare this one either.
fn zlib(packed: &[u8], most: usize) -> Result<Vec<u8>> {
    let &[cmf, flg, ref stream @ ..] = packed else { return Err(corrupt("a zlib stream is cut")) };
    if cmf & 0xf != 8 || (u16::from(cmf) << 8 | u16::from(flg)) % 31 != 0 || flg & 0x20 != 0 {
        return Err(corrupt("this is no zlib stream"));
    }
    let mut raw = vec![0; most];
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, unpacked) = decompress(&mut DecompressorOxide::new(), stream, &mut raw, 0, flags);
    if status != TINFLStatus::Done && unpacked < most {
        return Err(corrupt(format!("zlib: {status:?} after {unpacked} bytes")));
    }
    raw.truncate(unpacked);
    Ok(raw)
}

fn zstd_frame(packed: &[u8], raw_length: usize) -> Result<Vec<u8>> {
    let refused = |error: std::io::Error| corrupt(format!("zstd: {error}"));
    let decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(refused)?.single_frame();
    let mut raw = Vec::with_capacity(raw_length);
    decoder.take(raw_length as u64).read_to_end(&mut raw).map_err(refused)?;
    Ok(raw)
}
