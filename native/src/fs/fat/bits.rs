//! A set of clusters. The memory of pages that are never touched is never asked for.

pub struct Bits {
    words: Vec<u64>,
    most: u64,
}

impl Bits {
    /// Numbers below `most`.
    pub fn new(most: u64) -> Self {
        Self { words: vec![0; most.div_ceil(64) as usize], most }
    }

    /// `first + count` is at most the set's `most`.
    pub fn set(&mut self, first: u64, count: u64) {
        for (word, mask) in words(first, count) {
            self.words[word] |= mask;
        }
    }

    /// Sets until a number that is set already; how many were new.
    pub fn claim(&mut self, first: u64, count: u64) -> u64 {
        let mut claimed = 0;
        for (word, mask) in words(first, count) {
            let taken = self.words[word] & mask;
            let free = if taken == 0 { mask } else { mask & ((taken & taken.wrapping_neg()) - 1) };
            self.words[word] |= free;
            claimed += u64::from(free.count_ones());
            if taken != 0 {
                break;
            }
        }
        claimed
    }

    /// Adds all of the other set; how many were new.
    pub fn join(&mut self, other: &Self) -> u64 {
        let mut new = 0;
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            if *theirs != 0 {
                new += u64::from((theirs & !*mine).count_ones());
                *mine |= theirs;
            }
        }
        new
    }

    /// First and end of each range of numbers in the set.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let first = self.next(at, false)?;
            at = self.next(first, true).unwrap_or(self.most);
            Some((first, at))
        })
    }

    /// The next number from `at` on that is in the set, or not in it.
    fn next(&self, at: u64, absent: bool) -> Option<u64> {
        let flip = if absent { u64::MAX } else { 0 };
        let mut word = (at / 64) as usize;
        let mut bits = (self.words.get(word)? ^ flip) & (u64::MAX << (at % 64));
        while bits == 0 {
            word += 1;
            bits = self.words.get(word)? ^ flip;
        }
        Some(word as u64 * 64 + u64::from(bits.trailing_zeros())).filter(|&number| number < self.most)
    }
}

/// The words of a range and which of their bits are in it.
fn words(first: u64, count: u64) -> impl Iterator<Item = (usize, u64)> {
    let end = first + count;
    let mut at = first;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let word = at / 64;
        let upto = end.min((word + 1) * 64);
        let mask = (u64::MAX >> (64 - (upto - at))) << (at % 64);
        at = upto;
        Some((word as usize, mask))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cross_words() {
        let mut bits = Bits::new(1000);
        bits.set(2, 3);
        bits.set(60, 200);
        bits.set(999, 1);
        assert_eq!(bits.ranges().collect::<Vec<_>>(), [(2, 5), (60, 260), (999, 1000)]);
    }

    #[test]
    fn a_claim_ends_where_another_begins() {
        let mut bits = Bits::new(1000);
        assert_eq!(bits.claim(500, 100), 100);
        assert_eq!((bits.claim(300, 400), bits.claim(400, 1), bits.claim(600, 1)), (200, 0, 1));
        let mut other = Bits::new(1000);
        other.set(0, 400);
        assert_eq!(other.join(&bits), 201);
    }
}
