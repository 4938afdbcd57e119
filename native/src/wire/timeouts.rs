//! When a wait on a connection is over.

use std::time::{Duration, Instant};

use super::broken::Broken;

/// Every wait for a byte, to come or to go, ends after `idle`, and all of them at `deadline`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub idle: Duration,
    pub deadline: Instant,
}

impl Timeouts {
    /// One wait of this length, from now on.
    pub fn within(wait: Duration, now: Instant) -> Self {
        Self { idle: wait, deadline: now + wait }
    }

    /// How long the next wait may take. `Late` where it may not begin at all: a socket's own timeout cannot be zero.
    pub fn next_wait(&self, now: Instant) -> Result<Duration, Broken> {
        let left = self.deadline.saturating_duration_since(now).min(self.idle);
        if left.is_zero() { Err(Broken::Late) } else { Ok(left) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_after_idle_and_at_the_deadline_whichever_is_sooner() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let timeouts = Timeouts { idle: 3 * second, deadline: now + 5 * second };
        for (passed, wait) in [(0, Some(3)), (2, Some(3)), (3, Some(2)), (4, Some(1)), (5, None), (9, None)] {
            let next = timeouts.next_wait(now + passed * second);
            assert_eq!(next.ok(), wait.map(|wait| wait * second), "after {passed} s");
        }
        assert!(matches!(Timeouts::within(Duration::ZERO, now).next_wait(now), Err(Broken::Late)));
        assert_eq!(Timeouts::within(second, now).next_wait(now).ok(), Some(second));
    }
}
