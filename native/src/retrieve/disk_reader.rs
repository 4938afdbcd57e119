//! The disk of a snapshot, read without asking anyone: what is absent is fetched in parts, opened on the thread that fetched
//! the last of them, and kept. What cannot be had so is told; TypeScript then fetches it another way.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::base::error::Result;
use crate::base::limits::MAP_PAGE_BYTES;
use crate::base::lru::Lru;
use crate::base::pool::{self, Recycled};
use crate::formats::domains::Domains;
use crate::formats::page::Page;
use crate::retrieve::parts::Parts;
use crate::retrieve::records::{Fetched, Location};
use crate::retrieve::window::{self, BlockCache, Need, Wait, Window};

/// 32 GiB of disk, some 10 KiB each.
const WINDOWS_KEPT: usize = 4096;

pub struct Reader {
    pub cache: BlockCache,
    pub domains: Arc<Domains>,
    parts: Arc<dyn Parts>,
    /// By number; nothing where all of it is zeros.
    windows: Mutex<Lru<u64, Option<Arc<Window>>>>,
}

/// A range on its way. It has landed once every part of it has ended, with its bytes or without.
struct Flight {
    reader: Arc<Reader>,
    window: Arc<Window>,
    entries: Vec<u32>,
    parts: Mutex<Landing>,
}

struct Landing {
    left: usize,
    /// Offset in the pack and bytes, as they came.
    arrived: Vec<(u32, Recycled)>,
}

impl Flight {
    /// The last part to end opens what has come, and tells all who wait.
    fn end_part(&self, offset: u32, bytes: Option<Recycled>) {
        let mut landing = lock(&self.parts);
        landing.left -= 1;
        landing.arrived.extend(bytes.map(|bytes| (offset, bytes)));
        if landing.left == 0 {
            let arrived = std::mem::take(&mut landing.arrived);
            drop(landing);
            self.land(arrived);
        }
    }

    fn land(&self, mut arrived: Vec<(u32, Recycled)>) {
        arrived.sort_unstable_by_key(|(offset, _)| *offset);
        let fetched: Vec<Fetched> = arrived.iter().map(|(offset, bytes)| Fetched { offset: *offset, bytes }).collect();
        let placed = self.window.placed(&self.entries);
        let missing = self.window.open(&self.reader.cache, &self.reader.domains, &placed, &fetched);
        drop(arrived);
        self.reader.cache.land(&self.window, &self.entries, &missing);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

impl Reader {
    pub fn new(parts: Arc<dyn Parts>, cache: BlockCache, domains: Arc<Domains>) -> Self {
        Self { cache, domains, parts, windows: Mutex::new(Lru::new(WINDOWS_KEPT)) }
    }

    /// These windows from all their pages; one without a page is zeros. `locations` of all blocks, page by page. Throws
    /// `Corrupt` for one that the catalog does not know.
    pub fn learn(&self, numbers: RangeInclusive<u64>, pages: &[Arc<Page>], mut locations: &[Location]) -> Result<()> {
        let mut windows = HashMap::new();
        for page in pages {
            let Page::Map(entries) = &**page else { continue };
            let (own, rest) = locations.split_at(window::stored(entries).count().min(locations.len()));
            locations = rest;
            let number = entries.first().map_or(0, |entry| entry.disk / MAP_PAGE_BYTES);
            windows.insert(number, Arc::new(Window::new(page.clone(), own)?));
        }
        let mut known = lock(&self.windows);
        for number in numbers {
            known.put(number, windows.remove(&number), 1);
        }
        Ok(())
    }

    /// What was learnt of a window; nothing where that was nothing, or is forgotten.
    pub fn window(&self, number: u64) -> Option<Option<Arc<Window>>> {
        lock(&self.windows).get(&number).cloned()
    }

    /// The window with blocks that has a byte of the disk, if it is known.
    pub fn window_at(&self, offset: u64) -> Option<Arc<Window>> {
        self.window(offset / MAP_PAGE_BYTES).flatten()
    }

    /// Has the blocks of entries fetched that are absent and that nobody fetches yet. Calls `done` once all of them have come
    /// or failed, whoever fetched them, with those that failed. A thread that may wait fetches the last part itself.
    pub fn fetch(
        self: &Arc<Self>,
        window: &Arc<Window>,
        entries: &[u32],
        may_wait: bool,
        done: impl FnOnce(Vec<u32>) + Send + 'static,
    ) {
        let wait = Wait::new(entries.len(), done);
        let own = self.cache.claim(window, entries, &wait);
        let mut parts = Vec::new();
        for range in window.ranges(&own) {
            match self.parts.direct(range.stripe, range.start, range.end) {
                None => self.cache.land(window, &range.members, &range.members),
                Some(of_range) => {
                    let landing = Mutex::new(Landing { left: of_range.len(), arrived: vec![] });
                    let (reader, window) = (self.clone(), window.clone());
                    let flight = Arc::new(Flight { reader, window, entries: range.members, parts: landing });
                    parts.extend(of_range.into_iter().map(|part| (flight.clone(), part)));
                }
            }
        }
        let last = parts.len().saturating_sub(1);
        for (at, (flight, part)) in parts.into_iter().enumerate() {
            let offset = part.0.offset;
            let ended = Box::new(move |bytes| flight.end_part(offset, bytes));
            self.parts.fetch(part, may_wait && at == last, ended);
        }
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
        let known = if end <= (number + 1) * MAP_PAGE_BYTES { self.window(number) } else { None };
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::base::secret::Secret;
    use crate::formats::page::{MapEntry, Ref};
    use crate::retrieve::parts::Ended;
    use crate::retrieve::routes::{Shard, Span};

    /// A pack in parts of 100 bytes; whoever asked for one is answered by hand.
    #[derive(Default)]
    struct ByHand {
        pack: Vec<u8>,
        asked: Mutex<Vec<(Span, Ended)>>,
    }

    impl Parts for ByHand {
        fn direct(&self, stripe: u64, start: u32, end: u32) -> Option<Vec<(Span, Shard)>> {
            let span = |index: u32| {
                let offset = start.max(100 * index);
                Span { index, start: offset - 100 * index, end: end.min(100 * index + 100) - 100 * index, offset }
            };
            let shard = |index| Shard { index, id: [0; 16], host: [index as u8; 32], root: [0; 32] };
            (stripe == 3).then(|| (start / 100..end.div_ceil(100)).map(|index| (span(index), shard(index))).collect())
        }

        fn fetch(&self, (span, _): (Span, Shard), _: bool, ended: Ended) {
            lock(&self.asked).push((span, ended));
        }
    }

    impl ByHand {
        fn end(&self, at: usize, comes: bool) {
            let (span, ended) = lock(&self.asked).remove(at);
            let range = span.offset as usize..(span.offset + span.end - span.start) as usize;
            ended(comes.then(|| Recycled(self.pack[range].to_vec())));
        }
    }

    /// A reader of one window with two blocks of 90 bytes, of which the second lies in two parts, or in a stripe without a route.
    fn reader(second: u64) -> (Arc<Reader>, Arc<ByHand>) {
        let domains = Domains::new(&Secret::new([1; 32]), &[]);
        let domain = domains.newest();
        let (mut pack, mut entries, mut locations) = (Vec::new(), Vec::new(), Vec::new());
        for (number, stripe) in [(0u8, 3), (1, second)] {
            let plain: Vec<u8> = (0..30).map(|at| at + 30 * number).collect();
            let (key, offset) = (domain.block_key(&plain), pack.len() as u32);
            let length = domain.seal(&key, &plain, 1, &mut pack) as u32;
            let block = Ref { key, birth: 1 << 16 | u64::from(number) };
            entries.push(MapEntry { disk: 30 * u64::from(number), length: 30, in_block: 0, block });
            locations.push(Location { stripe, offset, length });
        }
        let parts = Arc::new(ByHand { pack, ..ByHand::default() });
        let reader = Arc::new(Reader::new(parts.clone(), BlockCache::new(1 << 20), Arc::new(domains)));
        reader.learn(0..=1, &[Arc::new(Page::Map(entries))], &locations).unwrap();
        (reader, parts)
    }

    fn read(reader: &Arc<Reader>, start: u64, end: u64) -> Option<Option<Vec<u8>>> {
        let (tell, told) = channel();
        reader.read(start, end, false, move |bytes| tell.send(bytes.map(|bytes| bytes.to_vec())).unwrap());
        told.try_recv().ok()
    }

    #[test]
    fn a_read_ends_when_the_last_part_has_ended() {
        let (reader, parts) = reader(3);
        let (tell, told) = channel();
        for _ in 0..2 {
            let tell = tell.clone();
            reader.read(0, 60, false, move |bytes| tell.send(bytes.map(|bytes| bytes.to_vec())).unwrap());
        }
        let asked = lock(&parts.asked).len();
        assert_eq!(asked, 2, "one range in two parts, for both readers");
        parts.end(1, true);
        assert!(told.try_recv().is_err());
        parts.end(0, true);
        let wanted: Vec<u8> = (0..60).collect();
        assert_eq!((told.try_recv(), told.try_recv()), (Ok(Some(wanted.clone())), Ok(Some(wanted.clone()))));
        assert_eq!(read(&reader, 10, 50), Some(Some(wanted[10..50].to_vec())), "from the cache");
        assert_eq!(read(&reader, MAP_PAGE_BYTES, MAP_PAGE_BYTES + 9), Some(Some(vec![0; 9])), "a window of zeros");
        assert_eq!(read(&reader, 2 * MAP_PAGE_BYTES, 2 * MAP_PAGE_BYTES + 9), Some(None), "one that is not known");
    }

    #[test]
    fn a_part_that_does_not_come_is_told_and_the_rest_is_kept() {
        let (reader, parts) = reader(3);
        let (tell, told) = channel();
        let window = reader.window(0).unwrap().unwrap();
        reader.fetch(&window, &[0, 1], false, move |missing| tell.send(missing).unwrap());
        parts.end(1, false);
        parts.end(0, true);
        assert_eq!(told.try_recv(), Ok(vec![1]));
        assert_eq!(read(&reader, 0, 30), Some(Some((0..30).collect())));
    }

    #[test]
    fn what_has_no_route_is_told_at_once() {
        let (reader, parts) = reader(4);
        assert_eq!(read(&reader, 30, 60), Some(None));
        assert!(lock(&parts.asked).is_empty());
    }
}
