//! Connection pool of the client: connections whose exchange is over, kept for the next one with the same host. The pool
//! decides by `now` which of them is too old; whether one still stands is for its owner to try.

use std::collections::HashMap;
use std::time::Instant;

use super::endpoint::Host;

pub struct Kept<C>(HashMap<Host, Vec<Resting<C>>>);

struct Resting<C> {
    connection: C,
    until: Instant,
}

impl<C> Default for Kept<C> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<C> Kept<C> {
    /// Keeps a connection until it is taken, but not longer than `until`.
    pub fn put(&mut self, host: Host, connection: C, until: Instant) {
        self.0.entry(host).or_default().push(Resting { connection, until });
    }

    /// A connection with a host, the one that was used last. Those that are too old are dropped, of whichever host.
    pub fn take(&mut self, host: &Host, now: Instant) -> Option<C> {
        for resting in self.0.values_mut() {
            resting.retain(|one| one.until > now);
        }
        self.0.get_mut(host)?.pop().map(|one| one.connection)
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_last_one_is_taken_first_and_none_that_is_too_old() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        let second = Duration::from_secs(1);
        for (name, host, until) in [("old", 1, 1), ("first", 1, 3), ("last", 1, 3), ("other's", 2, 3)] {
            kept.put([host; 32], name, now + until * second);
        }
        assert_eq!(kept.take(&[1; 32], now), Some("last"));
        assert_eq!(kept.take(&[1; 32], now + second), Some("first"));
        assert_eq!(kept.take(&[1; 32], now + second), None, "the old one is as old as it may be");
        assert_eq!(kept.take(&[3; 32], now), None, "a host that nobody spoke with");
        assert_eq!(kept.take(&[2; 32], now + 3 * second), None);
    }

    #[test]
    fn what_is_too_old_is_dropped_whichever_host_is_asked_for() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        let connections = [(); 3].map(|()| Rc::new(()));
        let open = || connections.iter().map(Rc::strong_count).sum::<usize>() - connections.len();
        for (connection, until) in connections.iter().zip([1, 2, 3]) {
            kept.put([until; 32], connection.clone(), now + Duration::from_secs(until.into()));
        }
        assert_eq!(kept.take(&[9; 32], now + Duration::from_secs(2)), None);
        assert_eq!(open(), 1);
        kept.clear();
        assert_eq!(open(), 0);
    }
}
