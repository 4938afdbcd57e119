//! How a host is reached, and what follows from that for one exchange: which addresses are dialled in which order, and when
//! its dials, its waits and its connection are too old.

use std::time::{Duration, Instant};

use super::timeouts::Timeouts;

/// A host's Ed25519 key.
pub type Host = [u8; 32];

/// Name and port.
pub type Address = (String, u16);

/// As people write it.
pub fn shown((name, port): &Address) -> String {
    if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") }
}

/// A host's key, its addresses, and its deadlines. The numbers stand in `src/base/limits.ts`.
#[derive(Clone)]
pub struct Endpoint {
    /// The key that must answer.
    pub host: Host,
    /// Dialled in turn, the one that answered last first.
    pub addresses: Vec<Address>,
    /// Timeout of one dial with its TLS handshake: an address where nobody answers costs so much before the next is tried.
    pub connect: Duration,
    /// Timeout of each wait for bytes of a body. An answer's first byte may take until the deadline: a disk is synced before.
    pub idle: Duration,
    /// Deadline of the exchange, dials and retries included.
    pub deadline: Instant,
    /// Pool: a connection that was unused for so long is dropped. Less than what the server grants (`Limits::keep`), so that
    /// it does not close a connection that is about to be used.
    pub keep: Duration,
    /// Cap on exchanges with this host at once: enough to keep its disk and line busy, fewer than its server has for one host.
    pub at_once: usize,
}

impl Endpoint {
    pub fn is_late(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// Of a dial that begins now.
    pub fn dialling(&self, now: Instant) -> Timeouts {
        Timeouts { idle: self.connect, deadline: self.deadline.min(now + self.connect) }
    }

    /// While an answer is waited for: it may take its time.
    pub fn answering(&self) -> Timeouts {
        Timeouts { idle: Duration::MAX, deadline: self.deadline }
    }

    /// While a body comes or goes.
    pub fn carrying(&self) -> Timeouts {
        Timeouts { idle: self.idle, deadline: self.deadline }
    }

    /// How long a connection stays in the pool whose exchange ends now.
    pub fn kept_until(&self, now: Instant) -> Instant {
        now + self.keep
    }

    /// The addresses in the order in which they are dialled; `good`: where the host answered last.
    pub fn dialled(&self, good: Option<&Address>) -> Vec<&Address> {
        let mut addresses: Vec<&Address> = self.addresses.iter().collect();
        addresses.sort_by_key(|&address| good != Some(address));
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(addresses: &[Address], now: Instant) -> Endpoint {
        let second = Duration::from_secs(1);
        let deadline = now + 10 * second;
        let addresses = addresses.to_vec();
        Endpoint { host: [1; 32], addresses, connect: 4 * second, idle: second, deadline, keep: 3 * second, at_once: 2 }
    }

    #[test]
    fn the_address_that_answered_last_is_dialled_first_and_the_others_in_their_order() {
        let [a, b, c] = ["a", "b", "c"].map(|name| (name.to_string(), 1));
        let host = endpoint(&[a.clone(), b.clone(), c.clone()], Instant::now());
        assert_eq!(host.dialled(None), [&a, &b, &c]);
        assert_eq!(host.dialled(Some(&c)), [&c, &a, &b]);
        assert_eq!(host.dialled(Some(&("b".into(), 2))), [&a, &b, &c], "that address is not the host's any more");
        assert_eq!(endpoint(&[], Instant::now()).dialled(Some(&a)), [&a; 0]);
    }

    #[test]
    fn a_dial_ends_after_its_timeout_or_with_the_exchange() {
        let now = Instant::now();
        let (host, second) = (endpoint(&[], now), Duration::from_secs(1));
        assert_eq!(host.dialling(now).deadline, now + 4 * second);
        assert_eq!(host.dialling(now + 7 * second).deadline, host.deadline);
        assert!(host.dialling(host.deadline).next_wait(host.deadline).is_err());
        assert!(!host.is_late(now) && host.is_late(host.deadline));
    }

    #[test]
    fn an_answer_may_take_until_the_deadline_and_a_body_may_not_pause() {
        let now = Instant::now();
        let (host, second) = (endpoint(&[], now), Duration::from_secs(1));
        assert_eq!(host.answering().next_wait(now).ok(), Some(10 * second));
        assert_eq!(host.carrying().next_wait(now).ok(), Some(second));
        assert!(host.answering().next_wait(host.deadline).is_err());
        assert!(host.carrying().next_wait(host.deadline).is_err());
    }

    #[test]
    fn addresses_are_shown_as_people_write_them() {
        assert_eq!(shown(&("host".into(), 7)), "host:7");
        assert_eq!(shown(&("::1".into(), 7)), "[::1]:7");
    }
}
