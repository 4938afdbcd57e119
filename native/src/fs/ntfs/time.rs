//! NTFS's own encoding of times, turned into that of the file map.

use crate::fs::volume_map::Timestamp;

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
    fn times_reach_both_ways() {
        assert_eq!(timestamp(116_444_736_015_000_000), Timestamp { seconds: 1, nanoseconds: 500_000_000 });
        assert_eq!(timestamp(116_444_736_000_000_000 - 1), Timestamp { seconds: -1, nanoseconds: 999_999_900 });
        assert_eq!(timestamp(i64::MIN).nanoseconds, 522_419_200);
        assert!(timestamp(i64::MAX).seconds > 0);
    }
}
