//! NTFS's own encodings of names and times, turned into those of the file map.

use crate::fs::volume_map::Timestamp;

/// UTF-8; a surrogate without its partner becomes the three bytes that UTF-8 would give it (WTF-8), so that no two
/// names of a folder become one.
pub fn wtf8(units: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(units.len());
    for unit in char::decode_utf16(units.iter().copied()) {
        match unit {
            Ok(letter) => bytes.extend(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(lone) => {
                let unit = lone.unpaired_surrogate();
                bytes.extend([0xE0 | (unit >> 12) as u8, 0x80 | (unit >> 6 & 63) as u8, 0x80 | (unit & 63) as u8]);
            }
        }
    }
    bytes
}

/// From 100 ns since 1601 to seconds since 1970.
pub fn timestamp(time: i64) -> Timestamp {
    const TICKS: i64 = 10_000_000;
    const EPOCH: i64 = 11_644_473_600;
    // No time can overflow: i64::MIN / TICKS is far from i64::MIN.
    Timestamp { seconds: time.div_euclid(TICKS) - EPOCH, nanoseconds: (time.rem_euclid(TICKS) * 100) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_lone_surrogates() {
        let units: Vec<u16> = "aé€😀".encode_utf16().collect();
        assert_eq!(wtf8(&units), "aé€😀".as_bytes());
        assert_eq!(wtf8(&[0xD83D, 0x61]), [0xED, 0xA0, 0xBD, 0x61]);
        assert_eq!(wtf8(&[0xDE00]), [0xED, 0xB8, 0x80]);
    }

    #[test]
    fn times_reach_both_ways() {
        assert_eq!(timestamp(116_444_736_015_000_000), Timestamp { seconds: 1, nanoseconds: 500_000_000 });
        assert_eq!(timestamp(116_444_736_000_000_000 - 1), Timestamp { seconds: -1, nanoseconds: 999_999_900 });
        assert_eq!(timestamp(i64::MIN).nanoseconds, 522_419_200);
        assert!(timestamp(i64::MAX).seconds > 0);
    }
}
