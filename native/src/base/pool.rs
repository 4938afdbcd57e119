//! Large buffers that go round: freed and allocated again they would cost a page fault every 4 KiB, and lie scattered over
//! the allocator's arenas until the process is twice as large as what it holds.

use std::sync::{Mutex, MutexGuard};

use crate::base::limits::MIB;

/// Bytes of free buffers that are kept: as many as lie between two batches, or two stripes, at any time.
const KEPT_BYTES: usize = 128 * MIB;
/// Smaller buffers are not pooled: the allocator is good at them.
const LEAST_BYTES: usize = MIB;

static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn pool() -> MutexGuard<'static, Vec<Vec<u8>>> {
    POOL.lock().expect("no holder of this lock panics")
}

/// An empty buffer of at least this capacity.
pub fn take(capacity: usize) -> Vec<u8> {
    let mut buffer = find(capacity);
    buffer.clear();
    buffer
}

/// A buffer of this length, for one who writes every byte of it: what is in it is left from its last use.
pub fn take_filled(length: usize) -> Vec<u8> {
    let mut buffer = find(length);
    buffer.resize(length, 0);
    buffer
}

/// Capacities are powers of two, so that what one has used fits another, and little of one is never touched.
fn find(capacity: usize) -> Vec<u8> {
    if capacity < LEAST_BYTES {
        return Vec::with_capacity(capacity);
    }
    let capacity = capacity.next_power_of_two();
    let mut pool = pool();
    match pool.iter().position(|buffer| (capacity..2 * capacity).contains(&buffer.capacity())) {
        Some(index) => pool.swap_remove(index),
        None => Vec::with_capacity(capacity),
    }
}

/// So many zeros.
pub fn zeroed(length: usize) -> Vec<u8> {
    if length < LEAST_BYTES {
        return vec![0; length];
    }
    let mut bytes = take(length);
    bytes.resize(length, 0);
    bytes
}

/// Gives a buffer back.
pub fn give(buffer: Vec<u8>) {
    let mut pool = pool();
    let kept: usize = pool.iter().map(Vec::capacity).sum();
    if buffer.capacity() >= LEAST_BYTES && kept + buffer.capacity() <= KEPT_BYTES {
        pool.push(buffer);
    }
}

/// A buffer that goes back when it is dropped.
pub struct Recycled(pub Vec<u8>);

impl std::ops::Deref for Recycled {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Recycled {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.0));
    }
}
