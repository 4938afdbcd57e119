//! Runs exchanges on threads when their turn has begun, and tells those that missed it. Which is which, `turns` decides.

use std::io::Result;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::endpoint::Host;
use super::threads::Thread;
use super::turns::{Turn, Turns, Work};
use crate::base::clock::Clock;

/// How often those who wait for a turn are looked at: by so much one is told later than it could be. Deadlines are seconds.
const LOOK: Duration = Duration::from_millis(50);

pub struct Runner {
    clock: Clock,
    /// Where threads come from.
    claim: fn() -> Result<Thread>,
    turns: Mutex<Turns<Work>>,
    /// Whether a thread looks after those who wait for a turn.
    watched: AtomicBool,
}

impl Runner {
    pub fn new(clock: Clock, claim: fn() -> Result<Thread>) -> Arc<Self> {
        Arc::new(Self { clock, claim, turns: Mutex::default(), watched: AtomicBool::new(false) })
    }

    fn turns(&self) -> MutexGuard<'_, Turns<Work>> {
        self.turns.lock().expect("no holder of this lock panics")
    }

    /// Calls `work` once, with `Begun` on a thread where it may block, once fewer than `most` others with this host are under
    /// way; with `Missed` where that is not so before `until`, or where there is no thread, which is the error.
    pub fn queue(self: &Arc<Self>, host: Host, most: usize, until: Instant, work: Work) -> Result<()> {
        let mut turns = self.turns();
        if turns.begin(host, most) {
            drop(turns);
            return self.hand_on(host, Some((work, Turn::Begun)));
        }
        turns.wait(host, until, work);
        let watched = self.watched.swap(true, Ordering::Relaxed);
        drop(turns);
        if !watched {
            self.start_watch();
        }
        Ok(())
    }

    /// The same on the caller's thread, where it need not wait for its turn; otherwise gives it back.
    pub fn run_here(self: &Arc<Self>, host: Host, most: usize, work: Work) -> std::result::Result<(), Work> {
        if !self.turns().begin(host, most) {
            return Err(work);
        }
        call(work, Turn::Begun);
        // Those for whom there is no thread are told so; that is no failure of the exchange that was run here.
        let _ = self.hand_on(host, self.pass_on(host));
        Ok(())
    }

    /// Gives a turn with a host a thread of its own. Where there is none it is missed, and the next one's.
    fn hand_on(self: &Arc<Self>, host: Host, mut next: Option<(Work, Turn)>) -> Result<()> {
        let mut outcome = Ok(());
        while let Some((work, turn)) = next {
            if turn == Turn::Begun {
                match (self.claim)() {
                    Ok(thread) => {
                        let runner = self.clone();
                        thread.run(move || runner.work(host, work));
                        return outcome;
                    }
                    Err(error) => outcome = Err(error),
                }
            }
            call(work, Turn::Missed);
            next = self.pass_on(host);
        }
        outcome
    }

    /// Runs an exchange whose turn has begun, and then those that wait for a turn.
    fn work(&self, host: Host, work: Work) {
        let mut next = Some((work, Turn::Begun));
        while let Some((work, turn)) = next {
            call(work, turn);
            next = self.pass_on(host);
        }
    }

    fn pass_on(&self, host: Host) -> Option<(Work, Turn)> {
        let now = self.clock.now();
        self.turns().pass_on(host, now)
    }

    /// Without a thread for it, those who are late are told when a turn ends.
    fn start_watch(self: &Arc<Self>) {
        match (self.claim)() {
            Ok(thread) => {
                let runner = self.clone();
                thread.run(move || runner.watch());
            }
            Err(_) => self.watched.store(false, Ordering::Relaxed),
        }
    }

    /// Tells those who have waited too long, until nobody waits.
    fn watch(&self) {
        let mut over = false;
        while !over {
            thread::sleep(LOOK);
            let mut turns = self.turns();
            let late = turns.take_late(self.clock.now());
            over = !turns.has_waiting();
            self.watched.store(!over, Ordering::Relaxed);
            // Whoever hears that he missed his turn may ask for something else at once.
            drop(turns);
            late.into_iter().for_each(|work| call(work, Turn::Missed));
        }
    }
}

/// A panic ends one exchange, and not those that wait behind it.
fn call(work: Work, turn: Turn) {
    let _ = catch_unwind(AssertUnwindSafe(|| work(turn)));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    const HOST: Host = [1; 32];

    fn telling(name: &'static str, tell: &Sender<(&'static str, Turn)>) -> Work {
        let tell = tell.clone();
        Box::new(move |turn| tell.send((name, turn)).unwrap())
    }

    fn no_thread() -> Result<Thread> {
        Err(std::io::ErrorKind::WouldBlock.into())
    }

    #[test]
    fn without_a_thread_a_turn_is_missed_and_free_again() {
        let runner = Runner::new(Clock::SYSTEM, no_thread);
        let (tell, told) = channel();
        for _ in 0..3 {
            assert!(runner.queue(HOST, 1, Instant::now(), telling("queued", &tell)).is_err());
            assert_eq!(told.try_recv().unwrap(), ("queued", Turn::Missed));
        }
        assert!(runner.run_here(HOST, 1, telling("here", &tell)).is_ok());
        assert_eq!(told.try_recv().unwrap(), ("here", Turn::Begun));
    }

    #[test]
    fn without_a_thread_those_who_wait_are_told_when_a_turn_ends() {
        let runner = Runner::new(Clock::SYSTEM, no_thread);
        let (tell, told) = channel();
        let (inner, until) = (runner.clone(), Instant::now() + Duration::from_secs(60));
        let work = move |_| {
            for name in ["first", "second"] {
                inner.queue(HOST, 1, until, telling(name, &tell)).unwrap();
            }
            assert!(inner.turns().has_waiting());
        };
        assert!(runner.run_here(HOST, 1, Box::new(work)).is_ok());
        let told: Vec<_> = told.iter().collect();
        assert_eq!(told, [("first", Turn::Missed), ("second", Turn::Missed)]);
        assert!(!runner.turns().has_waiting() && runner.turns().begin(HOST, 1));
    }

    #[test]
    fn a_panic_ends_one_exchange_and_its_turn_goes_on() {
        let runner = Runner::new(Clock::SYSTEM, no_thread);
        let (tell, told) = channel();
        let (inner, until) = (runner.clone(), Instant::now() + Duration::from_secs(60));
        let work = move |_| {
            inner.queue(HOST, 1, until, telling("next", &tell)).unwrap();
            std::panic::resume_unwind(Box::new("a panic that is not printed"));
        };
        assert!(runner.run_here(HOST, 1, Box::new(work)).is_ok());
        assert_eq!(told.try_recv().unwrap(), ("next", Turn::Missed));
        assert!(runner.turns().begin(HOST, 1));
    }
}
