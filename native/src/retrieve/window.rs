//! Reading a part of the disk: the entries of one map page, where their blocks lie, and a cache of opened blocks that
//! all pages share. Who reads asks what is absent, fetches that, has it opened into the cache, and reads.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::base::error::{Error, Result};
use crate::base::limits::BLOCK_BYTES;
use crate::base::lru::Lru;
use crate::base::pool;
use crate::formats::domains::Domains;
use crate::formats::page::{Gap, MapEntry, Page, Ref};
use crate::formats::record::signature;
use crate::retrieve::records::{Fetched, Location, Range, ranges, record};

/// The blocks used last, under the keys that are their content's hashes: whoever named one wrongly gets another.
pub struct BlockCache(Mutex<Kept>);

/// Blocks that lie closer than this in a pack come in one range.
const GAP_BYTES: u32 = 32 << 10;
/// A range that is so long is followed by another, which is fetched while it is opened.
const RANGE_BYTES: u32 = 1 << 20;
/// Buffers of blocks, 64 KiB each.
const SPARES: usize = 64;

struct Kept {
    /// By their keys.
    blocks: Lru<[u8; 32], Arc<Vec<u8>>>,
    /// Buffers of blocks that left, for those that come. Freed, they would be holes in the allocator's arenas, of which each
    /// thread that opens blocks may have its own.
    spare: VecDeque<Vec<u8>>,
    /// What is on the way, and who waits for it: as which of his entries.
    coming: HashMap<[u8; 32], Vec<(Arc<Wait>, u32)>>,
}

type Done = Box<dyn FnOnce(Vec<u32>) + Send>;

/// Somebody who waits for the blocks of some entries.
pub struct Wait(Mutex<Waiting>);

struct Waiting {
    left: usize,
    missing: Vec<u32>,
    done: Option<Done>,
}

impl Wait {
    /// `done` hears, once so many entries have landed, which of them did not come.
    pub fn new(entries: usize, done: impl FnOnce(Vec<u32>) + Send + 'static) -> Arc<Self> {
        let wait = Waiting { left: entries + 1, missing: vec![], done: Some(Box::new(done)) };
        Arc::new(Self(Mutex::new(wait)))
    }

    fn land(&self, missing: Option<u32>) {
        let mut waiting = self.0.lock().expect("no holder of this lock panics");
        waiting.left -= 1;
        waiting.missing.extend(missing);
        if waiting.left > 0 {
            return;
        }
        let (done, missing) = (waiting.done.take(), std::mem::take(&mut waiting.missing));
        drop(waiting);
        if let Some(done) = done {
            done(missing);
        }
    }
}

impl BlockCache {
    /// `capacity` in bytes.
    pub fn new(capacity: usize) -> Self {
        Self(Mutex::new(Kept { blocks: Lru::new(capacity), spare: VecDeque::new(), coming: HashMap::new() }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("no holder of this lock panics")
    }

    fn put(&self, key: [u8; 32], block: Vec<u8>) {
        let mut kept = self.kept();
        if kept.blocks.get(&key).is_some() {
            return;
        }
        let bytes = block.len();
        for block in kept.blocks.put(key, Arc::new(block), bytes) {
            kept.spare.extend(Arc::into_inner(block));
            if kept.spare.len() > SPARES {
                kept.spare.pop_front();
            }
        }
    }

    /// An empty buffer for so many bytes, and for few more.
    fn buffer(&self, length: usize) -> Vec<u8> {
        let mut kept = self.kept();
        let fits = |buffer: &Vec<u8>| (length..=length + length / 8).contains(&buffer.capacity());
        let found = kept.spare.iter().position(fits).and_then(|at| kept.spare.remove(at));
        drop(kept);
        let mut buffer = found.unwrap_or_else(|| Vec::with_capacity(length));
        buffer.clear();
        buffer
    }

    /// Waits for the blocks of entries. Returns those that nobody fetches: the caller must, and let them `land`.
    pub fn claim(&self, window: &Window, entries: &[u32], wait: &Arc<Wait>) -> Vec<u32> {
        let mut own = Vec::new();
        // One more than entries: nobody is told before all of them are claimed.
        let mut landed = vec![None];
        {
            let mut kept = self.kept();
            for &entry in entries {
                let Some(key) = window.key(entry) else {
                    landed.push(Some(entry));
                    continue;
                };
                if kept.blocks.get(&key).is_some() {
                    landed.push(None);
                    continue;
                }
                let waiting = kept.coming.entry(key).or_default();
                if waiting.is_empty() {
                    own.push(entry);
                }
                waiting.push((wait.clone(), entry));
            }
        }
        landed.into_iter().for_each(|missing| wait.land(missing));
        own
    }

    /// Tells all who wait for the blocks of entries that they have come, or that they are `missing`.
    pub fn land(&self, window: &Window, entries: &[u32], missing: &[u32]) {
        for &entry in entries {
            let Some(key) = window.key(entry) else { continue };
            let waiting = self.kept().coming.remove(&key).unwrap_or_default();
            for (wait, theirs) in waiting {
                wait.land(missing.contains(&entry).then_some(theirs));
            }
        }
    }
}

/// A map page and where its blocks lie.
pub struct Window {
    page: Arc<Page>,
    /// Of each entry; nothing where nothing is stored.
    locations: Vec<Option<Location>>,
}

/// What a read of some bytes still needs.
#[derive(Debug, PartialEq, Eq)]
pub enum Need {
    /// Entries whose blocks are absent.
    Blocks(Vec<u32>),
    /// This part is in no snapshot: disk offset and length, and why.
    Missing(u64, u64, Gap),
}

/// The blocks of a page, in its order.
pub fn stored(entries: &[MapEntry]) -> impl Iterator<Item = &Ref> + Clone {
    entries.iter().map(|entry| &entry.block).filter(|block| block.is_stored())
}

/// Their signatures.
pub fn ids(entries: &[MapEntry]) -> Vec<u8> {
    stored(entries).flat_map(|block| signature(&block.key)).collect()
}

impl Window {
    /// The locations are in the order of `stored`. Throws `Corrupt` for one that the catalog does not know.
    pub fn new(page: Arc<Page>, locations: &[Location]) -> Result<Self> {
        let Page::Map(entries) = &*page else { return Err(Error::corrupt("manifest", 0, "this is no map page")) };
        let mut next = locations.iter().copied();
        let locations = entries
            .iter()
            .map(|entry| entry.block.is_stored().then(|| next.next().unwrap_or_default().of_block()).transpose());
        let locations = locations.collect::<Result<_>>()?;
        Ok(Self { page, locations })
    }

    fn entries(&self) -> &[MapEntry] {
        match &*self.page {
            Page::Map(entries) => entries,
            _ => &[],
        }
    }

    fn key(&self, entry: u32) -> Option<[u8; 32]> {
        self.entries().get(entry as usize).map(|entry| entry.block.key)
    }

    /// The indexes of the entries that meet `start..end`.
    fn meeting(&self, start: u64, end: u64) -> std::ops::Range<usize> {
        let entries = self.entries();
        let from = entries.partition_point(|entry| entry.disk + u64::from(entry.length) <= start);
        let to = entries.partition_point(|entry| entry.disk < end);
        from..to.max(from)
    }

    /// What is to be fetched before `start..end` can be read. What is there counts as used.
    pub fn need(&self, cache: &BlockCache, start: u64, end: u64) -> Need {
        let mut kept = cache.kept();
        let mut absent = Vec::new();
        for index in self.meeting(start, end) {
            let entry = &self.entries()[index];
            if let Some(gap) = entry.block.gap() {
                return Need::Missing(entry.disk, entry.length.into(), gap);
            }
            if entry.block.is_stored() && kept.blocks.get(&entry.block.key).is_none() {
                absent.push(index as u32);
            }
        }
        Need::Blocks(absent)
    }

    /// The ranges to fetch for some entries, by their numbers.
    pub fn ranges(&self, entries: &[u32]) -> Vec<Range> {
        let located = |&entry: &u32| self.locations.get(entry as usize).copied().flatten().map(|found| (found, entry));
        ranges(entries.iter().filter_map(located), GAP_BYTES, RANGE_BYTES)
    }

    /// Some entries with the places where their blocks were found first.
    pub fn placed(&self, entries: &[u32]) -> Vec<(u32, Location)> {
        let place = |&entry: &u32| (entry, self.locations.get(entry as usize).copied().flatten().unwrap_or_default());
        entries.iter().map(place).collect()
    }

    /// Birth numbers and signatures of the blocks of some entries.
    pub fn sought(&self, entries: &[u32]) -> (Vec<u64>, Vec<u8>) {
        let blocks = entries.iter().filter_map(|&entry| Some(self.entries().get(entry as usize)?.block));
        blocks.map(|block| (block.birth, signature(&block.key))).fold((vec![], vec![]), |(mut births, mut ids), one| {
            births.push(one.0);
            ids.extend(one.1);
            (births, ids)
        })
    }

    /// Opens the blocks of entries, each at its place, into the cache; returns those whose record did not verify.
    pub fn open(
        &self,
        cache: &BlockCache,
        domains: &Domains,
        placed: &[(u32, Location)],
        fetched: &[Fetched],
    ) -> Vec<u32> {
        let opened = |&(entry, location): &(u32, Location)| {
            let key = self.key(entry)?;
            let record = record(fetched, location)?;
            let block = domains.open_into(&key, &record, BLOCK_BYTES, |length| cache.buffer(length)).ok()?;
            cache.put(key, block);
            Some(())
        };
        placed.iter().filter(|place| opened(place).is_none()).map(|place| place.0).collect()
    }

    /// The bytes `start..end` of the disk; nothing where a block is absent (again).
    pub fn read(&self, cache: &BlockCache, start: u64, end: u64) -> Result<Option<Vec<u8>>> {
        let mut bytes = pool::take((end - start) as usize);
        for index in self.meeting(start, end) {
            let entry = &self.entries()[index];
            if !entry.block.is_stored() {
                continue;
            }
            let Some(block) = cache.kept().blocks.get(&entry.block.key).cloned() else { return Ok(None) };
            let cut = start.saturating_sub(entry.disk);
            let to = (entry.disk + cut - start) as usize;
            let length = (end.min(entry.disk + u64::from(entry.length)) - entry.disk - cut) as usize;
            let from = entry.in_block as usize + cut as usize;
            let part = block.get(from..from + length);
            let part = part.ok_or_else(|| Error::corrupt("manifest", entry.disk, "an entry longer than its block"))?;
            // Zeros up to it; entries are in order and do not overlap.
            bytes.resize(to, 0);
            bytes.extend_from_slice(part);
        }
        bytes.resize((end - start) as usize, 0);
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;

    struct Lab {
        domains: Domains,
        cache: BlockCache,
        pack: Vec<u8>,
    }

    impl Lab {
        fn new(capacity: usize) -> Self {
            Self { domains: Domains::new(&Secret::new([1; 32]), &[]), cache: BlockCache::new(capacity), pack: vec![] }
        }

        /// An entry for the end of a block, and the place of its record.
        fn entry(&mut self, disk: u64, in_block: u32, plain: &[u8]) -> (MapEntry, (u32, u32)) {
            let key = self.domains.newest().block_key(plain);
            let offset = self.pack.len() as u32;
            let length = self.domains.newest().seal(&key, plain, 1, &mut self.pack) as u32;
            let block = Ref { key, birth: 1 << 16 };
            (MapEntry { disk, length: plain.len() as u32 - in_block, in_block, block }, (offset, length))
        }

        fn open(&self, window: &Window, entries: &[u32]) -> Vec<u32> {
            let fetched = [Fetched { offset: 0, bytes: &self.pack }];
            window.open(&self.cache, &self.domains, &window.placed(entries), &fetched)
        }
    }

    fn window(entries: Vec<MapEntry>, locations: &[(u32, u32)]) -> Window {
        let locations: Vec<Location> =
            locations.iter().map(|&(offset, length)| Location { stripe: 3, offset, length }).collect();
        Window::new(Arc::new(Page::Map(entries)), &locations).unwrap()
    }

    #[test]
    fn bytes_come_from_blocks_and_gaps_are_zeros() {
        let mut lab = Lab::new(1 << 20);
        let (a, at_a) = lab.entry(10, 0, b"aaaa");
        let (b, at_b) = lab.entry(20, 2, b"xxbbbb");
        let zeros = MapEntry { disk: 14, length: 2, in_block: 0, block: Ref::ZEROS };
        let window = window(vec![a, zeros, b], &[at_a, at_b]);
        assert_eq!(window.need(&lab.cache, 0, 30), Need::Blocks(vec![0, 2]));
        assert_eq!(window.read(&lab.cache, 0, 30).unwrap(), None);
        let end = lab.pack.len() as u32;
        assert_eq!(window.ranges(&[2, 0]), [Range { stripe: 3, start: 0, end, members: vec![0, 2] }]);
        assert_eq!(lab.open(&window, &[0, 2]), []);
        assert_eq!(window.need(&lab.cache, 0, 30), Need::Blocks(vec![]));
        let read = |start, end| window.read(&lab.cache, start, end).unwrap().unwrap();
        assert_eq!(read(8, 26), b"\0\0aaaa\0\0\0\0\0\0bbbb\0\0");
        assert_eq!((read(12, 13), read(21, 23), read(24, 30)), (b"a".to_vec(), b"bb".to_vec(), vec![0; 6]));
    }

    #[test]
    fn what_does_not_verify_or_was_not_given_is_told() {
        let mut lab = Lab::new(1 << 20);
        let (a, at_a) = lab.entry(0, 0, b"aaaa");
        let lost = MapEntry { disk: 4, length: 4, in_block: 0, block: Ref::UNREADABLE };
        let left_out = MapEntry { disk: 8, length: 8, in_block: 0, block: Ref::NOT_STORED };
        let window = window(vec![a, lost, left_out], &[at_a]);
        assert_eq!(window.need(&lab.cache, 0, 5), Need::Missing(4, 4, Gap::Unreadable));
        assert_eq!(window.need(&lab.cache, 9, 10), Need::Missing(8, 8, Gap::NotStored));
        assert_eq!(window.need(&lab.cache, 0, 4), Need::Blocks(vec![0]));
        *lab.pack.last_mut().unwrap() ^= 1;
        assert_eq!(lab.open(&window, &[0, 9]), [0, 9]);
        let nowhere = Location { stripe: 0, offset: 0, length: at_a.1 };
        assert!(Window::new(Arc::new(Page::Map(vec![a])), &[nowhere]).is_err());
        let impossible = Location { stripe: 1, offset: 0, length: 1 };
        let elsewhere = Window::new(Arc::new(Page::Map(vec![a])), &[impossible]).unwrap();
        assert_eq!(elsewhere.ranges(&[0])[0].stripe, 0);
        assert!(Window::new(Arc::new(Page::Map(vec![a])), &[]).is_err());
    }

    #[test]
    fn an_entry_past_the_end_of_its_block_is_refused() {
        let mut lab = Lab::new(1 << 20);
        let (mut a, at_a) = lab.entry(0, 0, b"aaaa");
        a.length = 5;
        let window = window(vec![a], &[at_a]);
        assert_eq!(lab.open(&window, &[0]), []);
        assert!(window.read(&lab.cache, 0, 5).is_err());
    }

    #[test]
    fn the_block_used_longest_ago_leaves_first() {
        let mut lab = Lab::new(8);
        let blocks = [lab.entry(0, 0, b"aaaa"), lab.entry(4, 0, b"bbbb"), lab.entry(8, 0, b"cccc")];
        let (entries, locations): (Vec<_>, Vec<_>) = blocks.into_iter().unzip();
        let window = window(entries, &locations);
        assert_eq!(lab.open(&window, &[0, 1]), []);
        assert!(window.read(&lab.cache, 0, 4).unwrap().is_some());
        assert_eq!(lab.open(&window, &[2]), []);
        assert_eq!(window.need(&lab.cache, 0, 12), Need::Blocks(vec![1]));
    }
}
