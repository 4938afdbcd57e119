//! How an exchange ended, and what follows from one that failed: another connection, another address, or the end.

use std::io;

use super::broken::Broken;
use super::endpoint::{Address, Host, shown};
use crate::base::error::is_exhausted;

#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With the body that was fetched, or what the other side says of the one that was put.
    Done(Vec<u8>),
    /// The other side's error, as its TypeScript encoded it.
    Refused(Vec<u8>),
    Unreachable {
        address: String,
        why: String,
    },
    /// Another host answers there, or one without a key.
    Lied {
        address: String,
        actual: Option<Host>,
    },
    /// It answers, but does not carry data; it may do over HTTPS what it was asked.
    NotCarried {
        why: String,
    },
    Malformed {
        what: String,
    },
    /// This computer has no more descriptors, memory or ports: it says nothing of the host.
    Exhausted {
        why: String,
    },
}

impl Outcome {
    fn nowhere(why: &str) -> Self {
        Self::Unreachable { address: "no address".into(), why: why.into() }
    }

    /// Its deadline passed while it waited for its turn, or it was stopped by then.
    pub fn missed() -> Self {
        Self::nowhere("it did not get its turn")
    }

    /// Of a host before its first address is dialled.
    pub fn undialled() -> Self {
        Self::nowhere("it has none")
    }

    /// Of an address that was dialled.
    pub fn unreached(address: &Address, error: &io::Error) -> Self {
        if is_exhausted(error) { Self::exhausted(address, error) } else { Self::silent(address, error) }
    }

    fn exhausted(address: &Address, error: &io::Error) -> Self {
        Self::Exhausted { why: format!("connecting to {}: {error}", shown(address)) }
    }

    fn silent(address: &Address, why: &impl ToString) -> Self {
        Self::Unreachable { address: shown(address), why: why.to_string() }
    }

    /// Of a connection on which the handshake failed.
    pub fn ungreeted(address: &Address, broken: Broken) -> Self {
        match broken {
            Broken::Stranger(actual) => Self::Lied { address: shown(address), actual },
            Broken::Late => Self::silent(address, &broken),
            Broken::Io(error) if is_exhausted(&error) => Self::exhausted(address, &error),
            _ => Self::NotCarried { why: broken.to_string() },
        }
    }

    /// Which of two failed dials is told: that somebody answers is worth more to know than that nobody answers elsewhere.
    pub fn or(self, later: Self) -> Self {
        if matches!(self, Self::Unreachable { .. }) { later } else { self }
    }
}

/// How a connection came to an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the pool.
    Kept,
    /// Dialled for this exchange.
    Dialled,
}

/// An exchange that its connection did not survive.
#[derive(Debug)]
pub struct Failed {
    /// Something of an answer had come.
    pub answered: bool,
    pub broken: Broken,
}

/// What follows from that.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The same on another connection.
    Retry,
    End(Outcome),
}

impl Failed {
    /// The other side ended the connection without a word.
    fn is_unheard(&self) -> bool {
        !self.answered && matches!(self.broken, Broken::Closed | Broken::Io(_) | Broken::Tls(_))
    }

    /// `stopped`: nobody waits for the exchange any more.
    pub fn next(self, origin: Origin, stopped: bool, address: &Address) -> Next {
        match (origin, self.is_unheard(), self.broken) {
            (_, _, Broken::Io(error)) if is_exhausted(&error) => Next::End(Outcome::exhausted(address, &error)),
            // The other side may close a kept connection at the very moment it is used again.
            (Origin::Kept, true, _) if !stopped => Next::Retry,
            // It has no place for one more connection of ours, or does not take our key.
            (Origin::Dialled, true, broken) => Next::End(Outcome::NotCarried { why: broken.to_string() }),
            (_, _, Broken::Malformed(what)) => Next::End(Outcome::Malformed { what: what.into() }),
            (_, _, broken) => Next::End(Outcome::silent(address, &broken)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    fn address() -> Address {
        ("host".into(), 1)
    }

    fn next(broken: Broken, answered: bool, origin: Origin, stopped: bool) -> &'static str {
        match (Failed { answered, broken }).next(origin, stopped, &address()) {
            Next::Retry => "retry",
            Next::End(Outcome::NotCarried { .. }) => "not carried",
            Next::End(Outcome::Malformed { .. }) => "malformed",
            Next::End(Outcome::Unreachable { address, .. }) if address == "host:1" => "unreachable",
            Next::End(_) => "something else",
        }
    }

    #[test]
    fn only_a_kept_connection_that_ended_without_a_word_is_tried_anew() {
        let ends: [fn() -> Broken; 3] =
            [|| Broken::Closed, || Broken::Io(Error::from(ErrorKind::BrokenPipe)), || Broken::Tls("alert".into())];
        for broken in ends {
            assert_eq!(next(broken(), false, Origin::Kept, false), "retry");
            assert_eq!(next(broken(), false, Origin::Kept, true), "unreachable", "nobody waits for it");
            assert_eq!(next(broken(), false, Origin::Dialled, false), "not carried");
            assert_eq!(next(broken(), false, Origin::Dialled, true), "not carried");
            for origin in [Origin::Kept, Origin::Dialled] {
                assert_eq!(next(broken(), true, origin, false), "unreachable", "half an answer is an answer");
            }
        }
        for (origin, answered) in [(Origin::Kept, false), (Origin::Kept, true), (Origin::Dialled, false)] {
            assert_eq!(next(Broken::Late, answered, origin, false), "unreachable");
            assert_eq!(next(Broken::Malformed("odd"), answered, origin, false), "malformed");
        }
    }

    #[test]
    fn of_failed_dials_the_first_one_that_somebody_answered_is_told() {
        let unreachable = |why: &str| Outcome::unreached(&address(), &Error::other(why));
        let lied = || Outcome::ungreeted(&address(), Broken::Stranger(Some([1; 32])));
        let not_carried = || Outcome::ungreeted(&address(), Broken::Closed);
        assert_eq!(Outcome::undialled().or(unreachable("a")).or(unreachable("b")), unreachable("b"));
        assert_eq!(unreachable("a").or(lied()).or(unreachable("b")).or(not_carried()), lied());
        assert_eq!(not_carried().or(lied()), not_carried());
        assert_eq!(lied(), Outcome::Lied { address: "host:1".into(), actual: Some([1; 32]) });
        let late = Outcome::ungreeted(&address(), Broken::Late);
        assert_eq!(late.or(not_carried()), not_carried(), "a handshake that took too long is no answer");
    }

    #[test]
    fn what_this_computer_lacks_is_never_told_of_the_host() {
        let lacking = |errno| Error::from_raw_os_error(errno);
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EADDRNOTAVAIL] {
            assert!(matches!(Outcome::unreached(&address(), &lacking(errno)), Outcome::Exhausted { .. }), "{errno}");
            let ungreeted = Outcome::ungreeted(&address(), Broken::Io(lacking(errno)));
            assert!(matches!(ungreeted, Outcome::Exhausted { .. }), "{errno}");
            for (origin, answered) in [(Origin::Kept, false), (Origin::Kept, true), (Origin::Dialled, false)] {
                let next = Failed { answered, broken: Broken::Io(lacking(errno)) }.next(origin, false, &address());
                assert!(
                    matches!(next, Next::End(Outcome::Exhausted { why }) if why.starts_with("connecting to host:1: "))
                );
            }
        }
        let refused = Outcome::unreached(&address(), &lacking(libc::ECONNREFUSED));
        assert!(matches!(refused, Outcome::Unreachable { .. }));
        let exhausted = || Outcome::unreached(&address(), &lacking(libc::EMFILE));
        assert_eq!(Outcome::undialled().or(exhausted()), exhausted());
        assert_eq!(exhausted().or(refused), exhausted());
    }
}
