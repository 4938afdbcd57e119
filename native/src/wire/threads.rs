//! Threads for exchanges. One whose exchange is over waits a while for the next: to begin a thread costs as much as to fetch
//! a block.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SendError, Sender, channel};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

const KEEP: Duration = Duration::from_secs(5);

pub type Work = Box<dyn FnOnce() + Send>;

struct Idle {
    number: u64,
    give: Sender<Work>,
}

/// The one that was busy last is the first to be asked.
static IDLE: Mutex<Vec<Idle>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

fn idle() -> MutexGuard<'static, Vec<Idle>> {
    IDLE.lock().expect("no holder of this lock panics")
}

/// Runs at once, whatever else runs.
pub fn run(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let mut work: Work = Box::new(work);
    while let Some(thread) = { idle().pop() } {
        match thread.give.send(work) {
            Ok(()) => return Ok(()),
            // It died of its last exchange.
            Err(SendError(back)) => work = back,
        }
    }
    thread::Builder::new().name("carry".into()).spawn(move || live(work)).map(drop)
}

fn live(first: Work) {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let (give, given) = channel();
    let mut work = first;
    loop {
        work();
        idle().push(Idle { number, give: give.clone() });
        work = match given.recv_timeout(KEEP) {
            Ok(next) => next,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let mut idle = idle();
                if let Some(at) = idle.iter().position(|one| one.number == number) {
                    idle.remove(at);
                    return;
                }
                drop(idle);
                // Somebody has taken it off the list: work is on its way.
                let Ok(next) = given.recv() else { return };
                next
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_of_work_runs_and_threads_are_used_again() {
        let (tell, told) = channel();
        for _ in 0..100 {
            let tell = tell.clone();
            run(move || tell.send(thread::current().id()).unwrap()).unwrap();
            told.recv().unwrap();
            // It is back on the list very soon.
            while idle().is_empty() {
                thread::yield_now();
            }
        }
        let before = NEXT.load(Ordering::Relaxed);
        assert!(before <= 3, "{before} threads for work that came one after the other");
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let gate = std::sync::Arc::new(Mutex::new(gate));
        for _ in 0..8 {
            let (gate, tell) = (gate.clone(), tell.clone());
            run(move || {
                tell.send(thread::current().id()).unwrap();
                let _ = gate.lock().unwrap().recv();
            })
            .unwrap();
        }
        // All of them run although none is over.
        let ids: std::collections::HashSet<_> = (0..8).map(|_| told.recv().unwrap()).collect();
        assert_eq!(ids.len(), 8);
        drop(open);
    }
}
