//! LZO1X as btrfs frames it: u32 length of all, then for each sector u32 length and its bytes; a length never crosses
//! a sector's boundary of the packed bytes. Each segment but the last unpacks to a whole sector, so that the first one
//! tells how long a sector is. The segments themselves the crate `lzokay` unpacks (docs/decisions/0025).

use lzokay::decompress::decompress;

use super::corrupt::corrupt;
use crate::base::bytes::le32;
use crate::base::error::Result;
use crate::base::limits::KIB;

const LENGTH_BYTES: usize = 4;
const MOST_SECTOR_BYTES: usize = 64 * KIB;

/// The first `most` bytes.
pub fn sectors(packed: &[u8], most: usize) -> Result<Vec<u8>> {
    if packed.len() < LENGTH_BYTES {
        return Err(corrupt("no length"));
    }
    let end = le32(packed, 0) as usize;
    let packed = packed.get(..end).ok_or_else(|| corrupt(format!("{end} bytes of LZO in {}", packed.len())))?;
    let mut raw = Vec::with_capacity(most);
    let mut sector = vec![0; MOST_SECTOR_BYTES];
    let mut at = LENGTH_BYTES;
    // Known behind the first segment; its own length lies at the start of any sector.
    let mut sector_bytes = MOST_SECTOR_BYTES;
    while at < end && raw.len() < most {
        let left = sector_bytes - at % sector_bytes;
        if left < LENGTH_BYTES {
            at += left;
            continue;
        }
        let Some(length) = packed.get(at..at + LENGTH_BYTES) else { break };
        let length = le32(length, 0) as usize;
        at += LENGTH_BYTES;
        let segment = at.checked_add(length).and_then(|to| packed.get(at..to));
        let segment = segment.ok_or_else(|| corrupt(format!("{length} bytes of LZO at {at} of {end}")))?;
        let unpacked =
            decompress(segment, &mut sector[..sector_bytes]).map_err(|why| corrupt(format!("LZO: {why}")))?;
        raw.extend_from_slice(&sector[..unpacked]);
        if at == 2 * LENGTH_BYTES {
            sector_bytes = raw.len().max(1);
        }
        at += length;
    }
    raw.truncate(most);
    Ok(raw)
}
