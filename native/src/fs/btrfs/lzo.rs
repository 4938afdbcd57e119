//! LZO1X as btrfs frames it: u32 length of all, then for each sector u32 length and its bytes; a length never crosses
//! a sector's boundary of the packed bytes. Each segment but the last unpacks to a whole sector, so that the first one
//! tells how long a sector is. The instructions are in the kernel's `Documentation/staging/lzo.rst`.

use super::corrupt::corrupt;
use super::inflate::repeat;
use crate::base::bytes::le32;
use crate::base::error::Result;
use crate::base::limits::KIB;

const LENGTH_BYTES: usize = 4;
const MOST_SECTOR_BYTES: usize = 64 * KIB;
/// The state after a long run of literals.
const LONG_RUN: usize = 4;

/// The first `most` bytes.
pub fn sectors(packed: &[u8], most: usize) -> Result<Vec<u8>> {
    if packed.len() < LENGTH_BYTES {
        return Err(corrupt("no length"));
    }
    let end = le32(packed, 0) as usize;
    let packed = packed.get(..end).ok_or_else(|| corrupt(format!("{end} bytes of LZO in {}", packed.len())))?;
    let mut raw = Vec::with_capacity(most);
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
        lzo1x(segment, &mut raw, sector_bytes)?;
        if at == 2 * LENGTH_BYTES {
            sector_bytes = raw.len().max(1);
        }
        at += length;
    }
    raw.truncate(most);
    Ok(raw)
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn byte(&mut self) -> Result<usize> {
        let byte = self.bytes.get(self.at).ok_or_else(|| corrupt("LZO is cut"))?;
        self.at += 1;
        Ok(usize::from(*byte))
    }

    fn pair(&mut self) -> Result<usize> {
        Ok(self.byte()? | self.byte()? << 8)
    }

    /// Zeros stand for 255 each, the first other byte ends the number.
    fn long(&mut self, base: usize) -> Result<usize> {
        let mut length = base;
        loop {
            match self.byte()? {
                0 => length += 255,
                last => return Ok(length + last),
            }
        }
    }
}

/// Appends one segment of at most `most` bytes to `raw`.
fn lzo1x(segment: &[u8], raw: &mut Vec<u8>, most: usize) -> Result<()> {
    let mut input = Input { bytes: segment, at: 0 };
    // Distances stay within the segment.
    let mut own: Vec<u8> = Vec::with_capacity(most);
    let mut state = 0;
    if segment.first().is_some_and(|&first| first > 17) {
        let count = input.byte()? - 17;
        literals(&mut input, &mut own, count)?;
        state = count.min(LONG_RUN);
    }
    while own.len() <= most {
        let code = input.byte()?;
        if code < 16 && state == 0 {
            let count = if code == 0 { input.long(15)? } else { code } + 3;
            literals(&mut input, &mut own, count)?;
            state = LONG_RUN;
            continue;
        }
        let (length, distance, next) = match code {
            0..16 if state == LONG_RUN => (3, (input.byte()? << 2) + (code >> 2) + 2049, code & 3),
            0..16 => (2, (input.byte()? << 2) + (code >> 2) + 1, code & 3),
            16..32 => {
                let length = if code & 7 == 0 { input.long(7)? } else { code & 7 } + 2;
                let pair = input.pair()?;
                let distance = ((code & 8) << 11) + (pair >> 2);
                if distance == 0 {
                    break;
                }
                (length, distance + 16384, pair & 3)
            }
            32..64 => {
                let length = if code & 31 == 0 { input.long(31)? } else { code & 31 } + 2;
                let pair = input.pair()?;
                (length, (pair >> 2) + 1, pair & 3)
            }
            _ => ((code >> 5) + 1, (input.byte()? << 3) + (code >> 2 & 7) + 1, code & 3),
        };
        if length > most {
            return Err(corrupt(format!("{length} bytes repeated in LZO")));
        }
        repeat(&mut own, distance, length)?;
        literals(&mut input, &mut own, next)?;
        state = next;
    }
    if own.len() > most {
        return Err(corrupt("LZO unpacks to more than a sector"));
    }
    raw.extend_from_slice(&own);
    Ok(())
}

fn literals(input: &mut Input, raw: &mut Vec<u8>, count: usize) -> Result<()> {
    let bytes = input.bytes.get(input.at..input.at + count).ok_or_else(|| corrupt("LZO is cut"))?;
    raw.extend_from_slice(bytes);
    input.at += count;
    Ok(())
}
