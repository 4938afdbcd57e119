//! Requests of the kernel that wait for an answer, and what sequential readers have read without one.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::request::Request;

/// Bytes of a sequential read before it is told.
const SEQUENTIAL_BYTES: u64 = 1 << 20;
/// A read that begins within so many bytes of the last one continues it: the kernel reorders what it reads ahead.
const SLACK_BYTES: u64 = 2 << 20;

/// Requests that wait for someone to take them. `wake` is called when the inbox stops being empty, and at the end.
pub struct Inbox {
    queue: Mutex<VecDeque<Request>>,
    /// Sequential reads among those that were answered in the addon, to be told to whoever reads ahead.
    sequential: Mutex<SequentialReads>,
    wake: Mutex<Option<Box<dyn Fn() + Send>>>,
    ended: AtomicBool,
}

impl Inbox {
    pub fn new(wake: Box<dyn Fn() + Send>) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            sequential: Mutex::default(),
            wake: Mutex::new(Some(wake)),
            ended: AtomicBool::new(false),
        })
    }

    pub fn take(&self) -> Vec<Request> {
        locked(&self.queue).drain(..).collect()
    }

    /// Sequential reads that were answered in the addon since the last call.
    pub fn take_sequential_reads(&self) -> Vec<SequentialRead> {
        locked(&self.sequential).take()
    }

    /// Notes a read that was answered in the addon: bytes `start` to `end` of the file.
    pub(super) fn hear(&self, inode: u64, start: u64, end: u64) {
        if locked(&self.sequential).add(inode, start, end) {
            self.wake();
        }
    }

    /// The kernel let go of the file system: nothing comes any more.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(super) fn put(&self, request: Request) {
        let first = {
            let mut queue = locked(&self.queue);
            queue.push_back(request);
            queue.len() == 1
        };
        if first {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(wake) = locked(&self.wake).as_ref() {
            wake();
        }
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.wake();
        *locked(&self.wake) = None;
    }
}

/// A panic elsewhere does not make a queue of requests wrong.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of a file that were read in order, or nearly so.
#[derive(Debug, PartialEq, Eq)]
pub struct SequentialRead {
    pub inode: u64,
    pub start: u64,
    pub end: u64,
}

/// The newest sequential read of each image, from what of it was not told yet on, and those that are to be told.
#[derive(Default)]
struct SequentialReads {
    under_way: HashMap<u64, (u64, u64)>,
    ready: Vec<SequentialRead>,
}

impl SequentialReads {
    /// True where there was nothing to tell, and now is.
    fn add(&mut self, inode: u64, start: u64, end: u64) -> bool {
        let read = self.under_way.entry(inode).or_insert((start, end));
        if start.abs_diff(read.1) > SLACK_BYTES {
            *read = (start, end);
        }
        read.1 = read.1.max(end);
        if read.1 - read.0 < SEQUENTIAL_BYTES {
            return false;
        }
        self.ready.push(SequentialRead { inode, start: read.0, end: read.1 });
        read.0 = read.1;
        self.ready.len() == 1
    }

    fn take(&mut self) -> Vec<SequentialRead> {
        std::mem::take(&mut self.ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_told_by_the_megabyte_and_scattered_reads_are_not() {
        let mut reads = SequentialReads::default();
        for at in 0..1000 {
            assert!(!reads.add(1, at * (4 << 20), at * (4 << 20) + 4096));
        }
        let half = SEQUENTIAL_BYTES / 2;
        assert!(!reads.add(2, half, 2 * half));
        assert!(reads.add(2, 0, half) || reads.add(2, 2 * half, 3 * half));
        assert_eq!(reads.take(), [SequentialRead { inode: 2, start: half, end: 3 * half }]);
        assert!(!reads.add(2, 3 * half, 4 * half));
        assert!(reads.add(2, 4 * half, 5 * half));
        assert_eq!(reads.take(), [SequentialRead { inode: 2, start: 3 * half, end: 5 * half }]);
        assert_eq!(reads.take(), []);
    }
}
