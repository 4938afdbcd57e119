//! Sets of bytes of the source as ranges: sorted, disjoint, none empty.

/// Bytes of the source, absolute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteRange {
    pub start: u64,
    pub length: u64,
}

impl ByteRange {
    pub fn end(&self) -> u64 {
        self.start + self.length
    }

    /// Starts and lengths of parts of at most `most` bytes.
    pub fn parts(&self, most: u64) -> impl Iterator<Item = (u64, u64)> + use<> {
        let Self { start, length } = *self;
        (0..length.div_ceil(most)).map(move |part| (start + part * most, most.min(length - part * most)))
    }
}

/// Any ranges, each of which ends below 2^64, into a set.
pub fn coalesce(mut ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    ranges.sort_unstable();
    let mut merged: Vec<ByteRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        push(&mut merged, range);
    }
    merged
}

/// Appends a range, joined to the last one where they meet; an empty one is dropped. What is pushed in order becomes a
/// set.
pub fn push(ranges: &mut Vec<ByteRange>, range: ByteRange) {
    match ranges.last_mut() {
        _ if range.length == 0 => {}
        Some(last) if last.start <= range.start && range.start <= last.end() => {
            last.length = last.length.max(range.end() - last.start);
        }
        _ => ranges.push(range),
    }
}

/// The set `ranges` without the set `taken`.
pub fn without(ranges: &[ByteRange], taken: &[ByteRange]) -> Vec<ByteRange> {
    let mut rest = Vec::new();
    let mut next = 0;
    for range in ranges {
        let mut at = range.start;
        while taken.get(next).is_some_and(|taken| taken.end() <= at) {
            next += 1;
        }
        for taken in taken[next..].iter().take_while(|taken| taken.start < range.end()) {
            if taken.start > at {
                rest.push(ByteRange { start: at, length: taken.start - at });
            }
            at = at.max(taken.end());
        }
        if at < range.end() {
            rest.push(ByteRange { start: at, length: range.end() - at });
        }
    }
    rest
}

/// Whether a range shares a byte with a set.
pub fn meets(set: &[ByteRange], range: ByteRange) -> bool {
    let next = set.partition_point(|one| one.end() <= range.start);
    range.length > 0 && set.get(next).is_some_and(|one| one.start < range.end())
}

/// Whether a set has every byte of a range.
pub fn holds(set: &[ByteRange], range: ByteRange) -> bool {
    let next = set.partition_point(|one| one.end() <= range.start);
    range.length == 0 || set.get(next).is_some_and(|one| one.start <= range.start && one.end() >= range.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(u64, u64)]) -> Vec<ByteRange> {
        ranges.iter().map(|&(start, end)| ByteRange { start, length: end - start }).collect()
    }

    #[test]
    fn a_set_without_another_is_what_only_it_holds() {
        let whole = set(&[(0, 10), (20, 30), (40, 50)]);
        assert_eq!(without(&whole, &[]), whole);
        assert_eq!(without(&whole, &set(&[(0, 50)])), []);
        assert_eq!(without(&whole, &set(&[(5, 22), (24, 25), (49, 60)])), set(&[(0, 5), (22, 24), (25, 30), (40, 49)]));
    }

    #[test]
    fn spans_are_merged() {
        assert_eq!(
            coalesce(set(&[(5, 9), (1, 3), (3, 4), (6, 7), (9, 12), (20, 21)])),
            set(&[(1, 4), (5, 12), (20, 21)])
        );
        assert_eq!(coalesce(set(&[(7, 7), (9, 9)])), []);
        let mut pushed = set(&[(5, 9)]);
        set(&[(9, 10), (2, 3), (3, 3)]).into_iter().for_each(|range| push(&mut pushed, range));
        assert_eq!(pushed, set(&[(5, 10), (2, 3)]));
    }

    #[test]
    fn ranges_become_a_set() {
        let ranges = set(&[(20, 30), (0, 10), (10, 12), (25, 40), (90, 100), (7, 7)]);
        assert_eq!(coalesce(ranges), set(&[(0, 12), (20, 40), (90, 100)]));
        assert!(meets(&set(&[(0, 12), (20, 40)]), ByteRange { start: 12, length: 9 }));
        assert!(holds(&set(&[(0, 12), (20, 40)]), ByteRange { start: 22, length: 18 }));
        assert!(!holds(&set(&[(0, 12), (20, 40)]), ByteRange { start: 10, length: 12 }));
        assert!(!meets(&set(&[(0, 12), (20, 40)]), ByteRange { start: 12, length: 8 }));
    }
}
