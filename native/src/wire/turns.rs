//! Concurrency limit of the client: how many exchanges with one host are under way at once. The others wait in a queue,
//! first come first served, each until a moment of its own. A queue knows no thread and no clock; work is opaque to it.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use super::endpoint::Host;

/// What became of the wait for a turn. All work is told exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The exchange may run now, on this thread.
    Begun,
    /// It waited too long, or there was no thread for it: it must not run, only tell so.
    Missed,
}

/// An exchange that waits for its turn.
pub type Work = Box<dyn FnOnce(Turn) + Send>;

/// The queues of all hosts.
pub struct Turns<W> {
    hosts: HashMap<Host, Queue<W>>,
}

struct Queue<W> {
    /// Exchanges whose turn has begun and not ended.
    under_way: usize,
    waiting: VecDeque<Waiting<W>>,
}

struct Waiting<W> {
    until: Instant,
    work: W,
}

impl<W> Default for Turns<W> {
    fn default() -> Self {
        Self { hosts: HashMap::new() }
    }
}

impl<W> Turns<W> {
    fn queue(&mut self, host: Host) -> &mut Queue<W> {
        self.hosts.entry(host).or_insert_with(|| Queue { under_way: 0, waiting: VecDeque::new() })
    }

    /// Begins a turn with a host, unless `most` are under way already. One that began ends by `pass_on`.
    pub fn begin(&mut self, host: Host, most: usize) -> bool {
        let queue = self.queue(host);
        let free = queue.under_way < most;
        queue.under_way += usize::from(free);
        free
    }

    /// Appends work to a host's queue; its turn must begin before `until`.
    pub fn wait(&mut self, host: Host, until: Instant, work: W) {
        self.queue(host).waiting.push_back(Waiting { until, work });
    }

    /// Ends a turn with a host. With `Begun` the turn is that of the work it comes with. With `Missed` it is still the
    /// caller's, who tells that work and asks again. None: nobody waits.
    pub fn pass_on(&mut self, host: Host, now: Instant) -> Option<(W, Turn)> {
        let queue = self.queue(host);
        let Some(Waiting { until, work }) = queue.waiting.pop_front() else {
            queue.under_way -= 1;
            return None;
        };
        Some((work, if until > now { Turn::Begun } else { Turn::Missed }))
    }

    /// Takes the work that has waited too long out of all queues, each queue's in its order.
    pub fn take_late(&mut self, now: Instant) -> Vec<W> {
        let mut late = Vec::new();
        for Queue { waiting, .. } in self.hosts.values_mut() {
            for one in std::mem::take(waiting) {
                if one.until > now { waiting.push_back(one) } else { late.push(one.work) }
            }
        }
        late
    }

    /// Whether anybody waits for a turn with any host.
    pub fn has_waiting(&self) -> bool {
        self.hosts.values().any(|queue| !queue.waiting.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOST: Host = [1; 32];
    const OTHER: Host = [2; 32];

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn so_many_turns_begin_at_once_and_other_hosts_have_their_own() {
        let mut turns: Turns<u32> = Turns::default();
        assert!(turns.begin(HOST, 2) && turns.begin(HOST, 2));
        assert!(!turns.begin(HOST, 2));
        assert!(turns.begin(OTHER, 1));
        assert!(!turns.begin(OTHER, 0), "none at all");
        assert_eq!(turns.pass_on(HOST, Instant::now()), None);
        assert!(turns.begin(HOST, 2), "a turn that nobody waited for is free again");
    }

    #[test]
    fn whoever_came_first_gets_the_turn_and_who_is_late_is_told_on_the_way() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        assert!(turns.begin(HOST, 1));
        for (work, until) in [("a", 10), ("late", 3), ("b", 10)] {
            turns.wait(HOST, now + seconds(until), work);
        }
        assert_eq!(turns.pass_on(HOST, now + seconds(3)), Some(("a", Turn::Begun)));
        assert_eq!(turns.pass_on(HOST, now + seconds(3)), Some(("late", Turn::Missed)));
        assert!(!turns.begin(HOST, 1), "the turn is still that of the one who was told");
        assert_eq!(turns.pass_on(HOST, now + seconds(3)), Some(("b", Turn::Begun)));
        assert_eq!(turns.pass_on(HOST, now + seconds(3)), None);
        assert!(turns.begin(HOST, 1));
    }

    #[test]
    fn who_has_waited_too_long_leaves_and_the_others_keep_their_places() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        for (work, until) in [(1, 5), (2, 1), (3, 4), (4, 1)] {
            turns.wait(HOST, now + seconds(until), work);
        }
        turns.wait(OTHER, now + seconds(2), 5);
        assert_eq!(turns.take_late(now), [0; 0]);
        assert_eq!(turns.take_late(now + seconds(1)), [2, 4]);
        assert_eq!(turns.take_late(now + seconds(2)), [5]);
        assert!(turns.has_waiting());
        assert_eq!(turns.take_late(now + seconds(4)), [3]);
        assert_eq!(turns.take_late(now + seconds(9)), [1]);
        assert!(!turns.has_waiting());
    }

    /// What a client does with the queue, at moments that a seed gives: begin, end, look after those who are late.
    #[test]
    fn all_work_is_told_once_in_its_order_and_never_too_many_at_once() {
        for seed in 1..=200_u64 {
            let mut random = seed;
            let mut draw = |below: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % below
            };
            let most = 1 + draw(3) as usize;
            let (mut turns, mut now, mut under_way) = (Turns::default(), Instant::now(), 0);
            let (mut told, mut begun, mut asked) = (vec![0; 100], vec![], 0);
            while asked < 100 || under_way > 0 || turns.has_waiting() {
                now += Duration::from_millis(draw(4));
                match draw(3) {
                    0 if asked < 100 => {
                        let until = now + Duration::from_millis(draw(20));
                        if turns.begin(HOST, most) {
                            under_way += 1;
                            told[asked] += 1;
                        } else {
                            turns.wait(HOST, until, (asked, until));
                        }
                        asked += 1;
                    }
                    1 if under_way > 0 => loop {
                        match turns.pass_on(HOST, now) {
                            Some(((work, until), turn)) => {
                                told[work] += 1;
                                assert_eq!(turn == Turn::Begun, until > now, "seed {seed}: work {work}");
                                if turn == Turn::Begun {
                                    begun.push(work);
                                    break;
                                }
                            }
                            None => {
                                under_way -= 1;
                                break;
                            }
                        }
                    },
                    _ => turns.take_late(now).iter().for_each(|&(work, until): &(usize, Instant)| {
                        assert!(until <= now, "seed {seed}: work {work}");
                        told[work] += 1;
                    }),
                }
                assert!(under_way <= most, "seed {seed}: {under_way} at once");
            }
            assert_eq!(told, [1; 100], "seed {seed}");
            assert!(begun.is_sorted(), "seed {seed}: {begun:?}");
        }
    }
}
