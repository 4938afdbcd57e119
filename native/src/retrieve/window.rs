//! Reading a part of the disk: the entries of one map page, where their blocks lie, and a cache of opened blocks that
//! all pages share. Who reads asks what is absent, fetches that, has it opened into the cache, and reads.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::base::error::{Error, Result};
use crate::base::limits::BLOCK_BYTES;
use crate::base::pool;
use crate::formats::page::{MapEntry, Page, Ref};
use crate::formats::record::{Domain, signature};
use crate::retrieve::records::{Fetched, Place, record};

/// The blocks used last, under the keys that are their content's hashes: whoever named one wrongly gets another.
pub struct BlockCache {
    capacity: usize,
    kept: Mutex<Kept>,
}

/// A range that is so long is followed by another, which is fetched while it is opened.
const RANGE_BYTES: u32 = 1 << 20;
/// 64 KiB each.
const SPARES: usize = 64;

#[derive(Default)]
struct Kept {
    blocks: HashMap<[u8; 32], (u64, Arc<Vec<u8>>)>,
    /// By the time of the last use.
    order: BTreeMap<u64, [u8; 32]>,
    bytes: usize,
    now: u64,
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

impl Kept {
    fn get(&mut self, key: &[u8; 32]) -> Option<Arc<Vec<u8>>> {
        let (used, block) = self.blocks.get_mut(key)?;
        self.now += 1;
        self.order.remove(used);
        self.order.insert(self.now, *key);
        *used = self.now;
        Some(block.clone())
    }
}

impl BlockCache {
    /// `capacity` in bytes.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no holder of this lock panics")
    }

    fn put(&self, key: [u8; 32], block: Vec<u8>) {
        let mut kept = self.kept();
        if kept.get(&key).is_some() {
            return;
        }
        kept.now += 1;
        let now = kept.now;
        kept.bytes += block.len();
        kept.order.insert(now, key);
        kept.blocks.insert(key, (now, Arc::new(block)));
        while kept.bytes > self.capacity {
            let Some((_, oldest)) = kept.order.pop_first() else { break };
            let Some((_, block)) = kept.blocks.remove(&oldest) else { continue };
            kept.bytes -= block.len();
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
                if kept.get(&key).is_some() {
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
    places: Vec<Option<Place>>,
}

/// What a read of some bytes still needs.
#[derive(Debug, PartialEq, Eq)]
pub enum Need {
    /// Entries whose blocks are absent.
    Blocks(Vec<u32>),
    /// The source did not give this part: disk offset and length.
    Unreadable(u64, u64),
}

/// A range of a stripe's pack, and the entries whose records lie in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Range {
    pub stripe: u64,
    pub start: u32,
    pub end: u32,
    pub entries: Vec<u32>,
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
    /// The places are in the order of `stored`.
    pub fn new(page: Arc<Page>, stripes: &[u64], offsets: &[u32], lengths: &[u32]) -> Result<Self> {
        let Page::Map(entries) = &*page else { return Err(Error::corrupt("manifest", 0, "this is no map page")) };
        let mut located = stripes.iter().zip(offsets).zip(lengths);
        let mut place = |entry: &MapEntry| match located.next() {
            Some(((0, _), _)) | None => Err(Error::corrupt("catalog", entry.disk, "it does not know a block")),
            Some(((&stripe, &offset), &length)) => Place::of_block(stripe, offset, length),
        };
        let places = entries.iter().map(|entry| entry.block.is_stored().then(|| place(entry)).transpose());
        let places = places.collect::<Result<_>>()?;
        Ok(Self { page, places })
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
            if entry.block == Ref::UNREADABLE {
                return Need::Unreadable(entry.disk, entry.length.into());
            }
            if entry.block.is_stored() && kept.get(&entry.block.key).is_none() {
                absent.push(index as u32);
            }
        }
        Need::Blocks(absent)
    }

    /// The ranges to fetch for some entries: records closer than `gap` share one, up to a size.
    pub fn ranges(&self, entries: &[u32], gap: u32) -> Vec<Range> {
        let place = |entry: u32| self.places.get(entry as usize).copied().flatten().map(|place| (place, entry));
        let mut places: Vec<(Place, u32)> = entries.iter().filter_map(|&entry| place(entry)).collect();
        places.sort_unstable_by_key(|(place, _)| (place.stripe, place.offset));
        let mut ranges: Vec<Range> = Vec::new();
        for (Place { stripe, offset, length }, entry) in places {
            match ranges.last_mut() {
                Some(last)
                    if last.stripe == stripe
                        && offset <= last.end.saturating_add(gap)
                        && offset - last.start < RANGE_BYTES =>
                {
                    last.end = last.end.max(offset + length);
                    last.entries.push(entry);
                }
                _ => ranges.push(Range { stripe, start: offset, end: offset + length, entries: vec![entry] }),
            }
        }
        ranges
    }

    /// Opens the blocks of entries into the cache; returns those whose record did not verify.
    pub fn open(&self, cache: &BlockCache, domain: &Domain, entries: &[u32], fetched: &[Fetched]) -> Vec<u32> {
        let opened = |&entry: &u32| {
            let place = self.places.get(entry as usize).copied().flatten()?;
            let key = self.entries()[entry as usize].block.key;
            let record = record(fetched, place)?;
            let block = domain.open_into(&key, &record, BLOCK_BYTES, |length| cache.buffer(length)).ok()?;
            cache.put(key, block);
            Some(())
        };
        entries.iter().copied().filter(|entry| opened(entry).is_none()).collect()
    }

    /// The bytes `start..end` of the disk; nothing where a block is absent (again).
    pub fn read(&self, cache: &BlockCache, start: u64, end: u64) -> Result<Option<Vec<u8>>> {
        let mut bytes = pool::take((end - start) as usize);
        for index in self.meeting(start, end) {
            let entry = &self.entries()[index];
            if !entry.block.is_stored() {
                continue;
            }
            let Some(block) = cache.kept().get(&entry.block.key) else { return Ok(None) };
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
        domain: Domain,
        cache: BlockCache,
        pack: Vec<u8>,
    }

    impl Lab {
        fn new(capacity: usize) -> Self {
            Self { domain: Domain::blocks(&Secret::new([1; 32])), cache: BlockCache::new(capacity), pack: vec![] }
        }

        /// An entry for the end of a block, and the place of its record.
        fn entry(&mut self, disk: u64, in_block: u32, plain: &[u8]) -> (MapEntry, (u32, u32)) {
            let key = self.domain.block_key(plain);
            let offset = self.pack.len() as u32;
            let length = self.domain.seal(&key, plain, 1, &mut self.pack) as u32;
            let block = Ref { key, birth: 1 << 16 };
            (MapEntry { disk, length: plain.len() as u32 - in_block, in_block, block }, (offset, length))
        }

        fn open(&self, window: &Window, entries: &[u32]) -> Vec<u32> {
            let fetched = [Fetched { offset: 0, bytes: &self.pack }];
            window.open(&self.cache, &self.domain, entries, &fetched)
        }
    }

    fn window(entries: Vec<MapEntry>, places: &[(u32, u32)]) -> Window {
        let (offsets, lengths): (Vec<u32>, Vec<u32>) = places.iter().copied().unzip();
        Window::new(Arc::new(Page::Map(entries)), &vec![3; places.len()], &offsets, &lengths).unwrap()
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
        assert_eq!(window.ranges(&[2, 0], 0), [Range { stripe: 3, start: 0, end, entries: vec![0, 2] }]);
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
        let window = window(vec![a, lost], &[at_a]);
        assert_eq!(window.need(&lab.cache, 0, 5), Need::Unreadable(4, 4));
        assert_eq!(window.need(&lab.cache, 0, 4), Need::Blocks(vec![0]));
        *lab.pack.last_mut().unwrap() ^= 1;
        assert_eq!(lab.open(&window, &[0, 9]), [0, 9]);
        for (stripe, length) in [(0, at_a.1), (1, 1)] {
            assert!(Window::new(Arc::new(Page::Map(vec![a])), &[stripe], &[0], &[length]).is_err());
        }
        assert!(Window::new(Arc::new(Page::Map(vec![a])), &[], &[], &[]).is_err());
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
        let (entries, places): (Vec<_>, Vec<_>) = blocks.into_iter().unzip();
        let window = window(entries, &places);
        assert_eq!(lab.open(&window, &[0, 1]), []);
        assert!(window.read(&lab.cache, 0, 4).unwrap().is_some());
        assert_eq!(lab.open(&window, &[2]), []);
        assert_eq!(window.need(&lab.cache, 0, 12), Need::Blocks(vec![1]));
    }
}
