//! Whom to ask for which part of a pack: layouts of stripes, hosts to leave alone, shards that are damaged. The one head of
//! the read path: TypeScript and the threads that fetch tell it facts and ask it.
//!
//! Pure state: no thread, no socket, no clock. What depends on time is asked with `now`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::error::{Error, Result};
use crate::base::limits::SHARD_BYTES;
use crate::base::lru::Lru;
use crate::retrieve::patience::{Fetching, Patience};

pub type Host = [u8; 32];
pub type ShardId = [u8; 16];

/// 5 shards each come to 50 MB.
const LAYOUTS_KEPT: usize = 100_000;

/// A shard as the catalog names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Below k: it carries its part of the pack as it is.
    pub index: u32,
    pub id: ShardId,
    pub host: Host,
    pub root: [u8; 32],
}

/// Where the parts of a pack are.
pub struct Layout {
    pub k: u32,
    pub m: u32,
    pub pack_bytes: u32,
    pub shards: Vec<Shard>,
}

/// A part of a range: a stretch of one data shard's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub index: u32,
    /// In the shard's body, `end` exclusive.
    pub start: u32,
    pub end: u32,
    /// In the pack.
    pub offset: u32,
}

impl Layout {
    /// Length of each shard's body.
    pub fn body_bytes(&self) -> u32 {
        self.pack_bytes.div_ceil(self.k.max(1)).min(SHARD_BYTES as u32)
    }

    /// The parts of a range of the pack, in order. Throws `Corrupt` for bytes outside of it.
    pub fn spans(&self, start: u32, end: u32) -> Result<Vec<Span>> {
        let length = self.body_bytes();
        let held = u64::from(self.k) * u64::from(length);
        if start >= end || end > self.pack_bytes || u64::from(end) > held {
            return Err(Error::corrupt("pack", start.into(), format!("bytes {start} to {end} are outside of it")));
        }
        let span = |index: u32| {
            let base = index * length;
            let offset = start.max(base);
            Span { index, start: offset - base, end: end.min(base.saturating_add(length)) - base, offset }
        };
        Ok((start / length..end.div_ceil(length)).map(span).collect())
    }
}

/// Why a host is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// It does not answer, or not in time: asked last, whichever way.
    Silent,
    /// It answers, but carries nothing over data connections: not asked that way.
    NotCarried,
}

/// What is wrong with a shard on a host that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its bytes are not those that the catalog names: an erasure, until it is found right.
    Damaged,
    /// The host does not hold it.
    Missing,
    /// The host does not give it.
    Refused,
}

/// Why a stripe cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Lack {
    /// So many shards more are needed.
    pub needed: u32,
    /// On hosts that do not answer.
    pub silent: Vec<Shard>,
    pub faulty: Vec<(Shard, Fault)>,
}

impl Lack {
    /// Whether hosts that come back would be enough: nothing else is worth waiting for.
    pub fn can_pass(&self) -> bool {
        self.silent.len() >= self.needed as usize
    }
}

pub struct Routes {
    /// Those that were used last: a reader finds the stripe it is at, however many others are learnt meanwhile.
    layouts: Lru<u64, Arc<Layout>>,
    /// Until when. Whoever was silent is doubted after that too, until it answers.
    aside: HashMap<Host, (Instant, Aside)>,
    faults: HashMap<ShardId, Fault>,
}

impl Default for Routes {
    fn default() -> Self {
        Self { layouts: Lru::new(LAYOUTS_KEPT), aside: HashMap::new(), faults: HashMap::new() }
    }
}

impl Routes {
    pub fn learn(&mut self, stripe: u64, layout: Layout) {
        self.layouts.put(stripe, Arc::new(layout), 1);
    }

    /// Those of `stripes` whose layout is not known (any more).
    pub fn unknown(&mut self, stripes: &[u64]) -> Vec<u64> {
        stripes.iter().copied().filter(|stripe| self.layouts.get(stripe).is_none()).collect()
    }

    /// Throws `Corrupt` where it was never learnt.
    pub fn layout(&mut self, stripe: u64) -> Result<Arc<Layout>> {
        let unknown = || Error::corrupt("catalog", 0, format!("it does not know stripe {stripe}"));
        self.layouts.get(&stripe).cloned().ok_or_else(unknown)
    }

    /// From now on a damaged shard is an erasure.
    pub fn find_fault(&mut self, shard: ShardId, fault: Fault) {
        self.faults.insert(shard, fault);
    }

    /// It was compared, and is what the catalog names.
    pub fn find_right(&mut self, shard: &ShardId) {
        self.faults.remove(shard);
    }

    fn is_damaged(&self, shard: &Shard) -> bool {
        self.faults.get(&shard.id) == Some(&Fault::Damaged)
    }

    /// A host gave something of a shard. Whether that is right nobody has looked at.
    pub fn gave(&mut self, shard: &Shard) {
        if matches!(self.aside.get(&shard.host), Some((_, Aside::Silent))) {
            self.aside.remove(&shard.host);
        }
        if !self.is_damaged(shard) {
            self.faults.remove(&shard.id);
        }
    }

    /// Why a stripe cannot be read of which only the shards `came` gave something that may be used.
    pub fn lack(&self, layout: &Layout, came: &[u32]) -> Lack {
        let absent = layout.shards.iter().copied().filter(|shard| !came.contains(&shard.index));
        let mut lack = Lack { needed: layout.k.saturating_sub(came.len() as u32), silent: vec![], faulty: vec![] };
        for shard in absent {
            match self.faults.get(&shard.id) {
                Some(fault) => lack.faulty.push((shard, *fault)),
                None => lack.silent.push(shard),
            }
        }
        lack
    }

    /// How long a host may still take for a fetch before others are asked as well; nothing where it was silent last.
    pub fn left(&self, host: &Host, patience: &Patience, fetching: Fetching) -> Duration {
        match self.aside.get(host) {
            Some((_, Aside::Silent)) => Duration::ZERO,
            _ => patience.left(fetching),
        }
    }

    pub fn put_aside(&mut self, host: Host, why: Aside, until: Instant) {
        self.aside.insert(host, (until, why));
    }

    fn aside(&self, host: &Host, now: Instant) -> Option<Aside> {
        self.aside.get(host).filter(|(until, _)| *until > now).map(|(_, why)| *why)
    }

    /// Whether it is left alone for any reason.
    pub fn is_aside(&self, host: &Host, now: Instant) -> bool {
        self.aside(host, now).is_some()
    }

    pub fn is_silent(&self, host: &Host, now: Instant) -> bool {
        self.aside(host, now) == Some(Aside::Silent)
    }

    /// The shard that has a part of a pack as it is, if it is not damaged.
    pub fn own(&self, layout: &Layout, index: u32) -> Option<Shard> {
        layout.shards.iter().copied().find(|shard| shard.index == index && !self.is_damaged(shard))
    }

    /// Shards of which any k rebuild the one at `index`, in the order in which they are asked: silent hosts last.
    pub fn others(&self, layout: &Layout, index: u32, now: Instant) -> Vec<Shard> {
        let fit = |shard: &&Shard| shard.index != index && !self.is_damaged(shard);
        let mut others: Vec<Shard> = layout.shards.iter().filter(fit).copied().collect();
        others.sort_by_key(|shard| self.is_silent(&shard.host, now));
        others
    }

    /// The parts of a range and who has each as it is; nothing where one of them is not to be had over a data connection now.
    pub fn direct(&mut self, stripe: u64, start: u32, end: u32, now: Instant) -> Option<Vec<(Span, Shard)>> {
        let layout = self.layouts.get(&stripe).cloned()?;
        let route = |span: Span| {
            let own = self.own(&layout, span.index).filter(|own| self.aside(&own.host, now).is_none())?;
            Some((span, own))
        };
        layout.spans(start, end).ok()?.into_iter().map(route).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWHILE: Duration = Duration::from_secs(30);

    fn shard(index: u32) -> Shard {
        Shard { index, id: [index as u8; 16], host: [index as u8; 32], root: [0; 32] }
    }

    /// 3+2 with one shard a host.
    fn routes() -> (Routes, Instant) {
        let mut routes = Routes::default();
        routes.learn(7, Layout { k: 3, m: 2, pack_bytes: 299, shards: (0..5).map(shard).collect() });
        (routes, Instant::now())
    }

    fn indexes(shards: &[Shard]) -> Vec<u32> {
        shards.iter().map(|shard| shard.index).collect()
    }

    #[test]
    fn a_range_is_cut_where_shards_begin() {
        let (mut routes, _) = routes();
        let layout = routes.layout(7).unwrap();
        let spans =
            |start, end| layout.spans(start, end).unwrap().into_iter().map(|one| (one.index, one.start, one.end));
        assert_eq!(spans(0, 100).collect::<Vec<_>>(), [(0, 0, 100)]);
        assert_eq!(spans(99, 201).collect::<Vec<_>>(), [(0, 99, 100), (1, 0, 100), (2, 0, 1)]);
        assert_eq!(spans(298, 299).collect::<Vec<_>>(), [(2, 98, 99)]);
        assert_eq!(layout.spans(99, 201).unwrap().iter().map(|one| one.offset).collect::<Vec<_>>(), [99, 100, 200]);
        for (start, end) in [(0, 300), (5, 5), (6, 5), (299, 300), (u32::MAX - 1, u32::MAX)] {
            assert!(layout.spans(start, end).is_err(), "{start} to {end}");
        }
        let odd = Layout { k: 1, m: 0, pack_bytes: u32::MAX, shards: vec![] };
        assert!(odd.spans(0, 1).is_ok() && odd.spans(0, u32::MAX).is_err(), "more than its shards can hold");
        assert!(Layout { k: 0, ..odd }.spans(0, 1).is_err());
        assert!(routes.layout(8).is_err());
        assert_eq!(routes.unknown(&[6, 7, 8]), [6, 8]);
    }

    #[test]
    fn a_host_that_is_set_aside_is_asked_last_until_its_time_is_over() {
        let (mut routes, now) = routes();
        routes.put_aside([1; 32], Aside::Silent, now + AWHILE);
        let layout = routes.layout(7).unwrap();
        assert_eq!(indexes(&routes.others(&layout, 0, now)), [2, 3, 4, 1]);
        assert_eq!(indexes(&routes.others(&layout, 0, now + AWHILE)), [1, 2, 3, 4]);
        assert!(routes.direct(7, 0, 100, now).is_some());
        assert!(routes.direct(7, 0, 101, now).is_none(), "a part of it is at the silent host");
        assert!(routes.direct(7, 0, 101, now + AWHILE).is_some());
    }

    #[test]
    fn who_carries_nothing_is_asked_another_way() {
        let (mut routes, now) = routes();
        routes.put_aside([1; 32], Aside::NotCarried, now + AWHILE);
        assert!(routes.direct(7, 100, 101, now).is_none());
        assert!(!routes.is_silent(&[1; 32], now));
        let layout = routes.layout(7).unwrap();
        assert_eq!(indexes(&routes.others(&layout, 0, now)), [1, 2, 3, 4]);
    }

    #[test]
    fn a_damaged_shard_is_an_erasure() {
        let (mut routes, now) = routes();
        routes.find_fault([0; 16], Fault::Damaged);
        let layout = routes.layout(7).unwrap();
        assert!(routes.own(&layout, 0).is_none());
        assert_eq!(routes.own(&layout, 1).unwrap().host, [1; 32]);
        assert_eq!(indexes(&routes.others(&layout, 1, now)), [2, 3, 4]);
        assert!(routes.direct(7, 0, 1, now).is_none());
        routes.find_right(&[0; 16]);
        assert!(routes.direct(7, 0, 1, now).is_some(), "it was mended");
        routes.find_fault([0; 16], Fault::Missing);
        assert!(routes.own(&layout, 0).is_some(), "it may be put there again");
        routes.gave(&shard(0));
        assert!(routes.lack(&layout, &[]).faulty.is_empty());
        routes.find_fault([0; 16], Fault::Damaged);
        routes.gave(&shard(0));
        assert!(routes.own(&layout, 0).is_none(), "that something came says nothing");
    }

    #[test]
    fn only_hosts_that_can_come_back_are_worth_waiting_for() {
        let (mut routes, _) = routes();
        let layout = routes.layout(7).unwrap();
        let lack = routes.lack(&layout, &[0]);
        assert_eq!((lack.needed, indexes(&lack.silent), lack.faulty.len()), (2, vec![1, 2, 3, 4], 0));
        assert!(lack.can_pass());
        routes.find_fault([1; 16], Fault::Damaged);
        routes.find_fault([2; 16], Fault::Missing);
        assert!(routes.lack(&layout, &[0]).can_pass(), "both of the others");
        routes.find_fault([3; 16], Fault::Refused);
        let lack = routes.lack(&layout, &[0]);
        assert_eq!((lack.needed, indexes(&lack.silent), lack.can_pass()), (2, vec![4], false));
        let faults: Vec<_> = lack.faulty.iter().map(|(shard, fault)| (shard.index, *fault)).collect();
        assert_eq!(faults, [(1, Fault::Damaged), (2, Fault::Missing), (3, Fault::Refused)]);
        assert!(routes.lack(&layout, &[0, 4]).silent.is_empty());
    }

    #[test]
    fn whoever_was_silent_is_late_at_once_until_it_gives_something() {
        let (mut routes, now) = routes();
        let second = Duration::from_secs(1);
        let patience = Patience { least: second, bytes_per_ms: 1000, quiet: second, aside: AWHILE };
        let fetching = Fetching { bytes: 0, eager: true, asked: Duration::ZERO, silent: None };
        let left = |routes: &Routes| routes.left(&[1; 32], &patience, fetching);
        assert_eq!(left(&routes), second);
        routes.put_aside([1; 32], Aside::Silent, now + AWHILE);
        assert_eq!(left(&routes), Duration::ZERO);
        assert!(!routes.is_silent(&[1; 32], now + AWHILE));
        assert_eq!(left(&routes), Duration::ZERO, "it is asked again, and doubted");
        routes.gave(&shard(1));
        assert_eq!(left(&routes), second);
        routes.put_aside([1; 32], Aside::NotCarried, now + AWHILE);
        routes.gave(&shard(1));
        assert!(routes.is_aside(&[1; 32], now), "that it answers is nothing new");
    }

    #[test]
    fn a_stripe_that_is_in_use_outlives_those_that_are_only_learnt() {
        let (mut routes, _) = routes();
        for stripe in 100..100 + 2 * LAYOUTS_KEPT as u64 {
            routes.learn(stripe, Layout { k: 1, m: 0, pack_bytes: 10, shards: vec![] });
            if stripe % 1000 == 0 {
                assert!(routes.layout(7).is_ok(), "{stripe}");
            }
        }
        assert_eq!(routes.unknown(&[7, 100]), [100]);
    }
}
