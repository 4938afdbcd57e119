//! How long a host may take for a fetch before others are asked as well. Pure: what time it is, the caller says.

use std::time::Duration;

/// Deadlines of a fetch. A host that takes longer is raced by the others (hedged), and left alone for a while.
#[derive(Clone, Copy)]
pub struct Patience {
    pub least: Duration,
    /// And as long as its bytes take at this speed.
    pub bytes_per_ms: u32,
    /// Where nobody waits for the bytes: for so long nothing at all may come of the host.
    pub quiet: Duration,
    pub aside: Duration,
}

/// A fetch that is under way.
#[derive(Clone, Copy)]
pub struct Fetching {
    pub bytes: u32,
    /// Somebody waits for the bytes.
    pub eager: bool,
    /// How long ago the host was asked.
    pub asked: Duration,
    /// How long ago anything came of the host, if anything ever did.
    pub silent: Option<Duration>,
}

impl Patience {
    pub fn for_bytes(&self, bytes: u32) -> Duration {
        self.least + Duration::from_millis((bytes / self.bytes_per_ms.max(1)).into())
    }

    /// How long a host may still take before others are asked as well. A slow line costs nobody his turn: whoever fetches in
    /// masses waits as long as something comes.
    pub fn left(&self, fetching: Fetching) -> Duration {
        let Fetching { bytes, eager, asked, silent } = fetching;
        if eager {
            return self.for_bytes(bytes).saturating_sub(asked);
        }
        self.quiet.saturating_sub(silent.map_or(asked, |silent| silent.min(asked)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience() -> Patience {
        let [least, quiet, aside] = [300, 3000, 30_000].map(Duration::from_millis);
        Patience { least, bytes_per_ms: 4000, quiet, aside }
    }

    #[test]
    fn patience_grows_with_what_is_asked() {
        assert_eq!(patience().for_bytes(0), Duration::from_millis(300));
        assert_eq!(patience().for_bytes(4_000_000), Duration::from_millis(1300));
    }

    #[test]
    fn who_reads_waits_for_its_bytes_and_masses_as_long_as_something_comes() {
        let millis = Duration::from_millis;
        let left = |eager, asked, silent: Option<u64>| {
            let fetching = Fetching { bytes: 4_000_000, eager, asked: millis(asked), silent: silent.map(millis) };
            patience().left(fetching).as_millis()
        };
        assert_eq!([left(true, 0, None), left(true, 1000, Some(0)), left(true, 1301, Some(0))], [1300, 300, 0]);
        assert_eq!([left(false, 0, None), left(false, 1000, None)], [3000, 2000], "nothing ever came of it");
        assert_eq!(left(false, 1000, Some(9000)), 2000, "nobody had asked it");
        assert_eq!(left(false, 3000, Some(9000)), 0);
        assert_eq!([left(false, 50_000, Some(200)), left(false, 50_000, Some(3000))], [2800, 0], "a slow line");
    }
}
