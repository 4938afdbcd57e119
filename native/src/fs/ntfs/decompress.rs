//! LZNT1, the compression of NTFS: chunks of 4 KiB, each with a 16-bit header (0x8000 compressed, 0x0FFF its length less
//! one; zero ends the unit). A compressed chunk is groups of a flag byte and eight items, low bit first: a literal byte,
//! or a 16-bit pair whose split between distance and length moves with the position in the chunk.

use crate::base::error::{Error, Result};
use crate::base::limits;

const CHUNK_BYTES: usize = 4096;
const WHAT: &str = "LZNT1";

/// One compression unit: `raw_length` bytes, zeros where the compressed bytes end early.
pub fn unit(compressed: &[u8], raw_length: usize) -> Result<Vec<u8>> {
    if raw_length as u64 > limits::COMPRESSION_UNIT_BYTES {
        return Err(Error::invalid("raw_length", format!("{raw_length} bytes, more than a unit holds")));
    }
    let mut raw = vec![0u8; raw_length];
    let mut rest = compressed;
    for out in raw.chunks_mut(CHUNK_BYTES) {
        let [low, high, after @ ..] = rest else { break };
        let header = u16::from_le_bytes([*low, *high]);
        if header == 0 {
            break;
        }
        let at = (compressed.len() - rest.len()) as u64;
        let length = usize::from(header & 0x0FFF) + 1;
        let Some((body, next)) = after.split_at_checked(length) else {
            return Err(Error::corrupt(WHAT, at, "a chunk passes the end of its unit"));
        };
        if header & 0x8000 != 0 {
            chunk(body, out, at)?;
        } else if length == CHUNK_BYTES {
            // The last chunk of a unit that is no multiple of 4 KiB is cut.
            out.copy_from_slice(&body[..out.len()]);
        } else {
            return Err(Error::corrupt(WHAT, at, "a plain chunk that is not 4 KiB long"));
        }
        rest = next;
    }
    Ok(raw)
}

fn chunk(mut body: &[u8], out: &mut [u8], at: u64) -> Result<()> {
    let corrupt = |why: &str| Error::corrupt(WHAT, at, why);
    let mut done = 0usize;
    while let Some((&flags, after)) = body.split_first() {
        body = after;
        for bit in 0..8 {
            if body.is_empty() {
                return Ok(());
            }
            if flags >> bit & 1 == 0 {
                *out.get_mut(done).ok_or_else(|| corrupt("a chunk of more than 4 KiB"))? = body[0];
                done += 1;
                body = &body[1..];
                continue;
            }
            let [low, high, after @ ..] = body else { return Err(corrupt("half a pair")) };
            body = after;
            let pair = usize::from(u16::from_le_bytes([*low, *high]));
            // The distance takes as many bits as the position needs, at least four.
            let length_bits = 12 - done.saturating_sub(1).max(8).ilog2().saturating_sub(3);
            let distance = (pair >> length_bits) + 1;
            let length = (pair & ((1 << length_bits) - 1)) + 3;
            if distance > done || length > out.len() - done {
                return Err(corrupt("a pair that points outside its chunk"));
            }
            // Byte by byte: what is read and what is written may overlap.
            for index in done..done + length {
                out[index] = out[index - distance];
            }
            done += length;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::xorshift::Random;

    #[test]
    fn a_published_example() {
        // [MS-XCA] 3.1: "F# F# G A A G F# E D D E F# F# E E " and so on.
        let text = b"F# F# G A A G F# E D D E F# F# E E F# F# G A A G F# E D D E F# E D D E E F# D E F# G F# D E F# G \
F# E D E A F# F# G A A G F# E D D E F# E D D\0";
        let compressed = [
            0x38, 0xb0, 0x88, 0x46, 0x23, 0x20, 0x00, 0x20, 0x47, 0x20, 0x41, 0x00, 0x10, 0xa2, 0x47, 0x01, 0xa0, 0x45,
            0x20, 0x44, 0x00, 0x08, 0x45, 0x01, 0x50, 0x79, 0x00, 0xc0, 0x45, 0x20, 0x05, 0x24, 0x13, 0x88, 0x05, 0xb4,
            0x02, 0x4a, 0x44, 0xef, 0x03, 0x58, 0x02, 0x8c, 0x09, 0x16, 0x01, 0x48, 0x45, 0x00, 0xbe, 0x00, 0x9e, 0x00,
            0x04, 0x01, 0x18, 0x90, 0x00,
        ];
        let raw = unit(&compressed, 4096).unwrap();
        assert_eq!(&raw[..text.len()], text);
        assert!(raw[text.len()..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn hostile_units_are_refused() {
        assert_eq!(unit(&[], 100).unwrap(), [0; 100]);
        assert_eq!(unit(&[0, 0, 9], 4).unwrap(), [0; 4]);
        assert!(unit(&[], limits::COMPRESSION_UNIT_BYTES as usize + 1).is_err());
        assert!(unit(&[5, 0xb0, 0], 4096).is_err(), "a chunk that passes the end");
        assert!(unit(&[1, 0x30, 1, 2], 4096).is_err(), "a short plain chunk");
        assert!(unit(&[2, 0xb0, 1, 0, 0], 4096).is_err(), "a distance before the chunk");
        assert!(unit(&[1, 0xb0, 1, 0], 4096).is_err(), "half a pair");
        assert!(unit(&[3, 0xb0, 2, 65, 0xff, 0x0f], 100).is_err(), "a pair past the end");
        // Ten thousand random units: errors are fine, panics are not.
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        for _ in 0..10_000 {
            let bytes: Vec<u8> = (0..64).map(|_| random.draw() as u8).collect();
            let _ = unit(&[&[61, 0xb0], &bytes[..62]].concat(), 8192);
        }
    }
}
