//! What a peer proves of its shard files without sending them: a digest of each range, keyed by who asks, which nobody can make
//! who has not these bytes now. A range that cannot be read keeps no other from being proved.
//!
//! Question and answer are rows (docs/protocol.md), integers little-endian:
//!
//! ```text
//! range    shard 16 | start u32 | end u32: of the shard's file, end exclusive
//! answer   what u8: 0 proved, 1 no such shard, 2 no such range, 3 not readable | digest 32, zeros where there is none
//! ```

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::base::bytes::Cursor;
use crate::base::direct::forget;
use crate::base::error::Result;
use crate::base::limits::SLICE_BYTES;
use crate::stripes::stored::path_of;

/// Bytes of a question about one range.
pub const RANGE_BYTES: usize = 24;
/// Bytes of the answer to it.
pub const ANSWER_BYTES: usize = 33;

const PROVED: u8 = 0;
const NO_SHARD: u8 = 1;
const NO_RANGE: u8 = 2;
const UNREADABLE: u8 = 3;

/// Keyed BLAKE3 of bytes: what a peer that has them answers.
pub fn digest(nonce: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(nonce, bytes).as_bytes()
}

/// The answers to whole rows of ranges, in their order, from the shards in `folder`. Neighbours in one shard open it once. Throws
/// `Corrupt` where the last row is cut off.
pub fn prove(folder: &Path, nonce: &[u8; 32], ranges: &[u8]) -> Result<Vec<u8>> {
    let mut answers = Vec::with_capacity(ranges.len() / RANGE_BYTES * ANSWER_BYTES);
    let mut held: Option<([u8; 16], std::io::Result<File>)> = None;
    let mut rows = Cursor::new("ranges to prove", ranges);
    while rows.remaining() > 0 {
        let (shard, start, end): ([u8; 16], u32, u32) = (rows.array()?, rows.u32()?, rows.u32()?);
        if held.as_ref().is_none_or(|(last, _)| *last != shard) {
            held = Some((shard, File::open(path_of(folder, &shard))));
        }
        let answer = match &held.as_ref().expect("it was just set").1 {
            Ok(file) => digest_of(file, nonce, start.into()..end.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(NO_SHARD),
            Err(_) => Err(UNREADABLE),
        };
        answers.push(answer.err().unwrap_or(PROVED));
        answers.extend_from_slice(&answer.unwrap_or_default());
    }
    Ok(answers)
}

fn digest_of(file: &File, nonce: &[u8; 32], range: std::ops::Range<u64>) -> std::result::Result<[u8; 32], u8> {
    let length = file.metadata().map_err(|_| UNREADABLE)?.len();
    if range.is_empty() || range.end > length {
        return Err(NO_RANGE);
    }
    let mut hasher = blake3::Hasher::new_keyed(nonce);
    let mut buffer = vec![0; SLICE_BYTES.min((range.end - range.start) as usize)];
    let mut at = range.start;
    while at < range.end {
        let part = &mut buffer[..SLICE_BYTES.min((range.end - at) as usize)];
        file.read_exact_at(part, at).map_err(|_| UNREADABLE)?;
        hasher.update(part);
        at += part.len() as u64;
    }
    // What a fleet asks for must not push out what the owner of this computer uses.
    forget(file);
    Ok(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(shard: [u8; 16], start: u32, end: u32) -> Vec<u8> {
        [&shard[..], &start.to_le_bytes(), &end.to_le_bytes()].concat()
    }

    #[test]
    fn each_range_is_answered_for_itself_and_by_nobody_who_has_other_bytes() {
        let folder = std::env::temp_dir().join(format!("imager-prove-{}", std::process::id()));
        let (held, absent, folder_there) = ([0xab; 16], [1; 16], [2; 16]);
        let bytes: Vec<u8> = (0..200_000u32).map(|at| ((at * 7) >> 3) as u8).collect();
        let path = path_of(&folder, &held);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        std::fs::create_dir_all(path_of(&folder, &folder_there)).unwrap();
        let ranges = [
            row(held, 0, 200_000),
            row(absent, 0, 1),
            row(held, 100_000, 100_001),
            row(held, 199_999, 200_001),
            row(held, 5, 5),
            row(held, 6, 5),
            row(held, u32::MAX - 1, u32::MAX),
            row(folder_there, 0, 1),
        ];
        let nonce = [9; 32];
        let answers = prove(&folder, &nonce, &ranges.concat()).unwrap();
        let answers: Vec<_> = answers.chunks(ANSWER_BYTES).collect();
        assert_eq!(answers.iter().map(|one| one[0]).collect::<Vec<_>>(), [0, 1, 0, 2, 2, 2, 2, 2 + 1]);
        assert_eq!(answers[0][1..], digest(&nonce, &bytes));
        assert_eq!(answers[2][1..], digest(&nonce, &bytes[100_000..100_001]));
        assert_eq!(answers[1][1..], [0; 32]);
        let other = prove(&folder, &[8; 32], &ranges[0]).unwrap();
        assert_ne!(other[..], *answers[0], "what was answered once is of no use later");
        assert!(prove(&folder, &nonce, &ranges[0][1..]).is_err(), "half a row");
        assert_eq!(prove(&folder, &nonce, &[]).unwrap(), []);
        std::fs::write(&path, &bytes[..150_000]).unwrap();
        assert_eq!(prove(&folder, &nonce, &ranges[0]).unwrap()[0], NO_RANGE, "a file that was cut");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
