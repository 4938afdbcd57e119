//! Thread pool for exchanges, without a cap: turns bound it. A thread whose exchange is over waits a while for the next, as
//! to begin a thread costs as much as to fetch a block.

use std::io::Result;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// How long an idle thread stays: longer than the pauses of a mount that is read.
const KEEP: Duration = Duration::from_secs(5);

type Task = Box<dyn FnOnce() + Send>;

/// A thread that waits for what it shall run.
#[must_use = "it waits for its task without an end"]
pub struct Thread {
    give: Sender<Task>,
}

impl Thread {
    pub fn run(self, task: impl FnOnce() + Send + 'static) {
        self.give.send(Box::new(task)).expect("a thread off the list waits for its task");
    }
}

struct Idle {
    number: u64,
    give: Sender<Task>,
}

/// The one that was busy last is the first to be asked.
static IDLE: Mutex<Vec<Idle>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

fn idle() -> MutexGuard<'static, Vec<Idle>> {
    IDLE.lock().expect("no holder of this lock panics")
}

/// A thread at once, whatever the others run.
pub fn claim() -> Result<Thread> {
    match idle().pop() {
        Some(Idle { give, .. }) => Ok(Thread { give }),
        None => begin(thread::Builder::new().name("carry".into())),
    }
}

fn begin(builder: thread::Builder) -> Result<Thread> {
    let (give, given) = channel();
    let again = give.clone();
    builder.spawn(move || live(&again, &given))?;
    Ok(Thread { give })
}

fn live(give: &Sender<Task>, given: &Receiver<Task>) {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut next = given.recv().ok();
    while let Some(task) = next {
        task();
        idle().push(Idle { number, give: give.clone() });
        next = match given.recv_timeout(KEEP) {
            Ok(task) => Some(task),
            Err(RecvTimeoutError::Timeout) if leave(number) => None,
            // Somebody has taken it off the list: a task is on its way.
            Err(_) => given.recv().ok(),
        };
    }
}

/// Whether a thread was still on the list, and is not any more.
fn leave(number: u64) -> bool {
    let mut idle = idle();
    let at = idle.iter().position(|one| one.number == number);
    at.map(|at| idle.remove(at)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_cannot_begin_is_an_error() {
        let larger_than_memory = thread::Builder::new().stack_size(1 << 60);
        assert!(begin(larger_than_memory).is_err());
    }

    #[test]
    fn every_piece_of_work_runs_and_threads_are_used_again() {
        let (tell, told) = channel();
        for _ in 0..100 {
            let tell = tell.clone();
            claim().unwrap().run(move || tell.send(thread::current().id()).unwrap());
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
            claim().unwrap().run(move || {
                tell.send(thread::current().id()).unwrap();
                let _ = gate.lock().unwrap().recv();
            });
        }
        // All of them run although none is over.
        let ids: std::collections::HashSet<_> = (0..8).map(|_| told.recv().unwrap()).collect();
        assert_eq!(ids.len(), 8);
        drop(open);
    }
}
