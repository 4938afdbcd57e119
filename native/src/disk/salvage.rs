//! Bytes of a source that cannot be read: found by smaller reads around them, marked in the map (docs/formats/page.md), and
//! filled at a restore with a pattern that nobody takes for data.

use crate::base::error::Result;
use crate::base::ranges::ByteRange;
use crate::disk::volume::ReadAt;

/// After a large read has failed: on a dying disk every failing read costs seconds, so steps are few.
const STEP: usize = 64 << 10;
/// The pattern is repeated in each of these; no disk has smaller sectors.
const PATTERN_BYTES: u64 = 512;

/// Fills `buffer` from `offset`. What the medium refuses is zeros in it, and returned; every other failure is one.
pub fn read(source: &dyn ReadAt, offset: u64, buffer: &mut [u8]) -> Result<Vec<ByteRange>> {
    let sector = source.sector_bytes();
    match source.read_at(offset, buffer) {
        Err(error) if error.is_bad_medium() => {}
        other => return other.map(|()| Vec::new()),
    }
    if buffer.len() <= sector {
        buffer.fill(0);
        return Ok(vec![ByteRange { start: offset, length: buffer.len() as u64 }]);
    }
    let step = if buffer.len() > STEP { STEP } else { sector };
    let mut refused = Vec::new();
    let (mut at, mut rest) = (offset, buffer);
    while !rest.is_empty() {
        // Steps end at multiples of themselves, so that each sector is asked for by itself.
        let length = (step - (at % step as u64) as usize).min(rest.len());
        let (part, after) = rest.split_at_mut(length);
        refused.extend(read(source, at, part)?);
        at += length as u64;
        rest = after;
    }
    Ok(refused)
}

/// What the pattern says of bytes that the source refused to give.
pub const UNREADABLE: &str = "could not be read";
/// And of those that were not to be stored.
pub const LEFT_OUT: &str = "was left out of the snapshot";

/// `length` bytes for what was at `offset` of the source: each 512 bytes a line of text with its offset, then zeros.
pub fn pattern(offset: u64, length: usize, why: &str) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let (mut at, mut filled) = (offset, 0);
    while filled < length {
        let sector = at / PATTERN_BYTES * PATTERN_BYTES;
        let text = format!("imager: byte {sector} of the source {why}\n");
        let skip = (at - sector) as usize;
        let room = (PATTERN_BYTES as usize - skip).min(length - filled);
        let text = text.as_bytes().get(skip..).unwrap_or_default();
        let text = &text[..text.len().min(room)];
        bytes[filled..filled + text.len()].copy_from_slice(text);
        filled += room;
        at += room as u64;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Error;

    /// A disk with bad sectors of 512 bytes.
    struct Bad(Vec<u8>, Vec<u64>);

    impl ReadAt for Bad {
        fn length(&self) -> u64 {
            self.0.length()
        }

        fn sector_bytes(&self) -> usize {
            512
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
            let end = offset + buffer.len() as u64;
            if self.1.iter().any(|&sector| sector * 512 < end && sector * 512 + 512 > offset) {
                return Err(Error::io("reading", std::io::Error::from_raw_os_error(libc::EIO)));
            }
            self.0.read_at(offset, buffer)
        }
    }

    #[test]
    fn everything_around_a_bad_sector_is_read() {
        let disk = Bad((0..1 << 20).map(|at: u32| (at / 512 % 251 + 1) as u8).collect(), vec![3, 700, 701, 2047]);
        // Not aligned to anything.
        let (from, length) = (100, (1 << 20) - 100);
        let mut buffer = vec![9; length];
        let refused = crate::base::ranges::coalesce(read(&disk, from, &mut buffer).unwrap());
        let sectors: Vec<_> = refused.iter().map(|range| (range.start, range.length)).collect();
        assert_eq!(sectors, [(3 * 512, 512), (700 * 512, 1024), (2047 * 512, 512)]);
        for (at, byte) in (from..).zip(buffer) {
            let lost = disk.1.contains(&(at / 512));
            assert_eq!(byte, if lost { 0 } else { disk.0[at as usize] }, "{at}");
        }
    }

    #[test]
    fn other_failures_end_it() {
        assert!(read(&vec![0; 100], 50, &mut [0; 100]).is_err(), "past the end");
    }

    #[test]
    fn the_pattern_is_the_same_however_it_is_asked_for() {
        let whole = pattern(1024, 2048, UNREADABLE);
        assert!(whole.starts_with(b"imager: byte 1024 of the source could not be read\n\0"));
        assert!(whole[512..].starts_with(b"imager: byte 1536 of"));
        for (from, to) in [(3, 700), (512, 600), (511, 1025), (1500, 2048)] {
            assert_eq!(pattern(1024 + from as u64, to - from, UNREADABLE), whole[from..to]);
        }
    }
}
