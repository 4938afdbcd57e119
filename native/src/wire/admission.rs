//! Admission to the server: who is connected, and whether one more may be. It knows no socket and no thread; what ends a
//! connection is opaque to it.

use std::collections::HashMap;

use super::endpoint::Host;

pub struct Admission<E> {
    /// Cap on all connections.
    most: usize,
    /// Cap on those of one host.
    most_per_host: usize,
    next: u64,
    closing: bool,
    open: HashMap<u64, Open<E>>,
}

struct Open<E> {
    /// By which the connection is ended.
    end: E,
    /// None before the handshake is over.
    host: Option<Host>,
    /// An exchange is under way.
    busy: bool,
    /// One was served: it is no stranger's.
    served: bool,
}

impl<E> Admission<E> {
    pub fn new(most: usize, most_per_host: usize) -> Self {
        Self { most, most_per_host, next: 0, closing: false, open: HashMap::new() }
    }

    /// Where there is room for no more: the oldest of those that were served nothing yet, for the caller to end.
    pub fn make_room(&mut self) -> Option<E> {
        if self.open.len() < self.most {
            return None;
        }
        let oldest = *self.open.iter().filter(|(_, open)| !open.busy && !open.served).map(|(id, _)| id).min()?;
        self.open.remove(&oldest).map(|open| open.end)
    }

    /// The number of a connection of which nothing is known yet. None: there are too many, or the server closes.
    pub fn enter(&mut self, end: E) -> Option<u64> {
        if self.closing || self.open.len() >= self.most {
            return None;
        }
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Open { end, host: None, busy: false, served: false });
        Some(id)
    }

    /// Notes whose connection it is. False: that host has its share.
    pub fn identify(&mut self, id: u64, host: Host) -> bool {
        if self.open.values().filter(|open| open.host == Some(host)).count() >= self.most_per_host {
            return false;
        }
        if let Some(open) = self.open.get_mut(&id) {
            open.host = Some(host);
        }
        true
    }

    /// False while the server closes.
    pub fn begin(&mut self, id: u64) -> bool {
        self.set_busy(id, true)
    }

    /// False while the server closes: the connection ends with its exchange.
    pub fn end(&mut self, id: u64) -> bool {
        self.set_busy(id, false)
    }

    fn set_busy(&mut self, id: u64, busy: bool) -> bool {
        if let Some(open) = self.open.get_mut(&id) {
            open.busy = busy;
            open.served |= !busy;
        }
        !self.closing
    }

    pub fn leave(&mut self, id: u64) {
        self.open.remove(&id);
    }

    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Nobody enters from now on. Returns the connections without an exchange, for the caller to end.
    pub fn close(&mut self) -> impl Iterator<Item = &E> {
        self.closing = true;
        self.open.values().filter(|open| !open.busy).map(|open| &open.end)
    }

    /// All connections.
    pub fn all(&self) -> impl Iterator<Item = &E> {
        self.open.values().map(|open| &open.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted<'a>(ends: impl Iterator<Item = &'a &'static str>) -> Vec<&'static str> {
        let mut ends: Vec<_> = ends.copied().collect();
        ends.sort_unstable();
        ends
    }

    #[test]
    fn so_many_are_connected_and_each_host_has_no_more_than_its_share() {
        let mut admission = Admission::new(3, 2);
        let ids = ["a", "b", "c"].map(|end| admission.enter(end).unwrap());
        assert_eq!(admission.enter("d"), None);
        assert!(admission.identify(ids[0], [1; 32]) && admission.identify(ids[1], [1; 32]));
        assert!(!admission.identify(ids[2], [1; 32]), "its third one");
        assert!(admission.identify(ids[2], [2; 32]));
        admission.leave(ids[0]);
        let id = admission.enter("d").expect("one has left");
        assert!(!ids.contains(&id), "no number is given twice");
        assert!(admission.identify(id, [1; 32]));
        assert_eq!(admission.count(), 3);
    }

    #[test]
    fn who_was_served_nothing_yet_makes_room_the_oldest_first() {
        let mut admission = Admission::new(3, 3);
        let [member, _, busy] = ["member", "silent", "busy"].map(|end| {
            assert_eq!(admission.make_room(), None, "there is room");
            admission.enter(end).unwrap()
        });
        assert!(admission.begin(member) && admission.end(member) && admission.begin(busy));
        assert_eq!(admission.make_room(), Some("silent"));
        let late = admission.enter("late").unwrap();
        assert!(admission.begin(late));
        assert_eq!(admission.make_room(), None, "all others are served");
        assert_eq!(admission.enter("more"), None);
    }

    #[test]
    fn a_server_that_closes_ends_who_is_idle_and_lets_exchanges_end() {
        let mut admission = Admission::new(4, 4);
        let [idle, busy, done] = ["idle", "busy", "done"].map(|end| admission.enter(end).unwrap());
        assert!(admission.begin(busy) && admission.begin(done) && admission.end(done));
        assert_eq!(sorted(admission.close()), ["done", "idle"]);
        assert!(!admission.begin(idle), "its question came too late");
        assert!(!admission.end(busy));
        assert_eq!(admission.enter("late"), None);
        assert_eq!(sorted(admission.all()), ["busy", "done", "idle"]);
        [idle, busy, done].into_iter().for_each(|id| admission.leave(id));
        assert_eq!(admission.count(), 0);
    }
}
