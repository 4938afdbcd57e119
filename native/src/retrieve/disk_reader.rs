//! The disk of a snapshot, read without asking anyone: what is absent is fetched from the hosts that `Lines` names, opened
//! on the thread that fetched it, and kept. What cannot be had so is told; TypeScript then fetches it another way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::base::limits::MAP_PAGE_BYTES;
use crate::base::pool::{self, Recycled};
use crate::formats::record::Domain;
use crate::retrieve::records::Fetched;
use crate::retrieve::routes::{Host, Lines};
use crate::retrieve::window::{self, BlockCache, Need, Wait, Window};

/// Blocks that lie closer than this in a pack come in one range.
const GAP_BYTES: u32 = 32 << 10;
/// 32 GiB of disk, some 10 KiB each.
const WINDOWS: usize = 4096;

pub struct Reader {
    pub lines: Arc<Lines>,
    pub cache: BlockCache,
    pub domain: Domain,
    windows: Mutex<HashMap<u64, Option<Arc<Window>>>>,
}

/// A range that is fetched in parts. Whoever holds it last opens what has come.
struct Flight {
    reader: Arc<Reader>,
    window: Arc<Window>,
    entries: Vec<u32>,
    parts: Mutex<Vec<(u32, Recycled)>>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut parts = std::mem::take(&mut *lock(&self.parts));
        parts.sort_unstable_by_key(|(offset, _)| *offset);
        let fetched: Vec<Fetched> = parts.iter().map(|(offset, bytes)| Fetched { offset: *offset, bytes }).collect();
        let missing = self.window.open(&self.reader.cache, &self.reader.domain, &self.entries, &fetched);
        drop(parts);
        self.reader.cache.land(&self.window, &self.entries, &missing);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

impl Reader {
    pub fn new(lines: Arc<Lines>, cache: BlockCache, domain: Domain) -> Self {
        Self { lines, cache, domain, windows: Mutex::default() }
    }

    /// For `read`: a window by its number; nothing where all of it is zeros.
    pub fn learn(&self, number: u64, window: Option<Arc<Window>>) {
        let mut windows = lock(&self.windows);
        if windows.len() >= WINDOWS {
            windows.clear();
        }
        windows.insert(number, window);
    }

    /// Has the blocks of entries fetched that are absent and that nobody fetches yet. Calls `done` once all of them have come
    /// or failed, whoever fetched them, with those that failed. A thread that may wait fetches the last part itself: two
    /// turns of the scheduler less.
    pub fn fetch(
        self: &Arc<Self>,
        window: &Arc<Window>,
        entries: &[u32],
        may_wait: bool,
        done: impl FnOnce(Vec<u32>) + Send + 'static,
    ) {
        let wait = Wait::new(entries.len(), done);
        let own = self.cache.claim(window, entries, &wait);
        let mut spans = Vec::new();
        for window::Range { stripe, start, end, entries } in window.ranges(&own, GAP_BYTES) {
            let (reader, window) = (self.clone(), window.clone());
            let flight = Arc::new(Flight { reader, window, entries, parts: Mutex::default() });
            let of_range = self.lines.spans(stripe, start, end).unwrap_or_default();
            spans.extend(of_range.into_iter().map(|span| (flight.clone(), span)));
        }
        let last = spans.len().saturating_sub(1);
        for (at, (flight, span)) in spans.into_iter().enumerate() {
            let offset = span.offset;
            let give = move |bytes| lock(&flight.parts).push((offset, bytes));
            self.lines.fetch(span, may_wait && at == last, give);
        }
    }

    /// Who did not answer of those who have blocks of entries.
    pub fn silent(&self, window: &Window, entries: &[u32]) -> Vec<Host> {
        let ranges = window.ranges(entries, 0);
        let mut hosts: Vec<Host> =
            ranges.iter().flat_map(|range| self.lines.silent(range.stripe, range.start, range.end)).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    /// Calls `done` with the bytes `start..end` of the disk, at once or later; with nothing where TypeScript has to read
    /// them: of a window that is not known, of two, not readable, not to be had quickly.
    pub fn read(
        self: &Arc<Self>,
        start: u64,
        end: u64,
        may_wait: bool,
        done: impl FnOnce(Option<Recycled>) + Send + 'static,
    ) {
        let number = start / MAP_PAGE_BYTES;
        let known = if end <= (number + 1) * MAP_PAGE_BYTES { lock(&self.windows).get(&number).cloned() } else { None };
        let window = match known {
            None => return done(None),
            Some(None) => return done(Some(Recycled(pool::zeroed((end - start) as usize)))),
            Some(Some(window)) => window,
        };
        let Need::Blocks(entries) = window.need(&self.cache, start, end) else { return done(None) };
        let (reader, read) = (self.clone(), window.clone());
        self.fetch(&window, &entries, may_wait, move |missing| {
            let bytes = if missing.is_empty() { read.read(&reader.cache, start, end).ok().flatten() } else { None };
            done(bytes.map(Recycled));
        });
    }
}
