//! Large buffers that go round: freed and allocated again they would cost a page fault every 4 KiB, and lie scattered over
//! the allocator's arenas until the process is twice as large as what it holds.

use std::sync::{Mutex, MutexGuard};

use crate::limits::MIB;

/// Buffers kept for the next who asks: more than a snapshot has between two uses at any time.
const KEPT: usize = 16;
/// Smaller ones are the allocator's business.
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

/// Zeros in large pages where the kernel has them, for buffers that leave for JavaScript and do not come back.
pub fn zeroed(length: usize) -> Vec<u8> {
    const LARGE_PAGE: usize = 2 * MIB;
    let bytes = vec![0; length];
    if length >= LARGE_PAGE {
        let skipped = bytes.as_ptr().align_offset(LARGE_PAGE).min(length);
        // SAFETY: advice about memory that is ours, from a page's beginning to its end; refused, it changes nothing.
        unsafe { libc::madvise(bytes[skipped..].as_ptr().cast_mut().cast(), length - skipped, libc::MADV_HUGEPAGE) };
    }
    bytes
}

/// Gives a buffer back.
pub fn give(buffer: Vec<u8>) {
    let mut pool = pool();
    if buffer.capacity() >= LEAST_BYTES && pool.len() < KEPT {
        pool.push(buffer);
    }
}
