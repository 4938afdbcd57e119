//! Who has which part of a pack, and the quick way there: ranges straight from the hosts that have them. TypeScript says
//! who is asked for what; whoever is unknown here, late or wrong is TypeScript's business again, which knows other ways.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::base::pool::Recycled;
use crate::formats::shard::BODY_OFFSET;
use crate::wire::client::{Client, Outcome, Stop, Target};
use crate::wire::threads::Work;

/// That all connections to a host are busy is not its fault, but whoever reads shall not wait for that.
const TURN: Duration = Duration::from_secs(1);

pub type Host = [u8; 32];
pub type Shard = [u8; 16];

/// How long a host may take, and for how long one that took longer is not asked.
#[derive(Clone, Copy)]
pub struct Patience {
    pub least: Duration,
    /// And as long as its bytes take at this speed.
    pub bytes_per_ms: u32,
    pub aside: Duration,
}

/// Where the parts of a pack are.
pub struct Layout {
    /// Each data shard's body is so long.
    pub body_bytes: u32,
    /// In the order of the pack; nothing where a shard is known to be damaged.
    pub shards: Vec<Option<(Shard, Host)>>,
}

/// A stretch of one shard's body.
pub struct Span {
    target: Arc<Target>,
    shard: Shard,
    start: u32,
    end: u32,
    /// Where it begins in the pack.
    pub offset: u32,
}

struct Aside {
    until: Instant,
    /// It does not answer, or not in time: another is to be asked, whichever way.
    silent: bool,
}

#[derive(Default)]
struct Known {
    targets: HashMap<Host, Arc<Target>>,
    stripes: HashMap<u64, Layout>,
    aside: HashMap<Host, Aside>,
}

impl Known {
    fn aside(&self, host: &Host) -> Option<&Aside> {
        self.aside.get(host).filter(|aside| aside.until > Instant::now())
    }
}

pub struct Lines {
    client: Arc<Client>,
    patience: Patience,
    known: Mutex<Known>,
}

impl Lines {
    pub fn new(client: Arc<Client>, patience: Patience) -> Self {
        Self { client, patience, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no holder of this lock panics")
    }

    /// How a host is reached; the deadline in it counts for nothing.
    pub fn learn_host(&self, target: Target) {
        self.known().targets.insert(target.host, Arc::new(target));
    }

    pub fn learn_stripe(&self, stripe: u64, layout: Layout) {
        self.known().stripes.insert(stripe, layout);
    }

    pub fn forget_stripes(&self) {
        self.known().stripes.clear();
    }

    /// Not asked for a while, as one that does not answer.
    pub fn avoid(&self, host: Host) {
        self.put_aside(host, true);
    }

    fn put_aside(&self, host: Host, silent: bool) {
        let until = Instant::now() + self.patience.aside;
        self.known().aside.insert(host, Aside { until, silent });
    }

    /// The parts of a range of a pack; nothing where one of them is not to be had this way now.
    pub fn spans(&self, stripe: u64, start: u32, end: u32) -> Option<Vec<Span>> {
        let known = self.known();
        let span = |(offset, shard, start, end): Part| {
            let (shard, host) = shard?;
            let target = known.targets.get(&host).filter(|_| known.aside(&host).is_none())?.clone();
            Some(Span { target, shard, start, end, offset })
        };
        known.stripes.get(&stripe)?.parts(start, end).map(span).collect()
    }

    /// Who was silent and has a part of a range.
    pub fn silent(&self, stripe: u64, start: u32, end: u32) -> Vec<Host> {
        let known = self.known();
        let Some(layout) = known.stripes.get(&stripe) else { return vec![] };
        let hosts = layout.parts(start, end).filter_map(|(_, shard, ..)| shard.map(|(_, host)| host));
        hosts.filter(|host| known.aside(host).is_some_and(|aside| aside.silent)).collect()
    }

    /// Calls `give` with the bytes of a span on the thread that fetched them, or drops it: on the caller's, where that may
    /// wait and the host has a line free, or on another. The host's time begins when it is asked.
    pub fn fetch(self: &Arc<Self>, span: Span, may_wait: bool, give: impl FnOnce(Recycled) + Send + 'static) {
        let (lines, host, at_once) = (self.clone(), span.target.host, span.target.at_once);
        let work: Work = Box::new(move || {
            if lines.known().aside(&host).is_some() {
                return;
            }
            let length = span.end - span.start;
            let patience = lines.patience.least + Duration::from_millis((length / lines.patience.bytes_per_ms).into());
            let target = Target { deadline: Instant::now() + patience, ..Target::clone(&span.target) };
            let start = BODY_OFFSET as u64 + u64::from(span.start);
            match lines.client.fetch(&target, &span.shard, start..start + u64::from(length), &Stop::default()) {
                Outcome::Done(bytes) => give(Recycled(bytes)),
                // Of this shard only; TypeScript hears it again and says what it means.
                Outcome::Refused(_) => {}
                Outcome::Unreachable { .. } => lines.put_aside(host, true),
                Outcome::NotCarried { .. } | Outcome::Lied { .. } | Outcome::Malformed { .. } => {
                    lines.put_aside(host, false);
                }
            }
        });
        let rest = if may_wait { self.client.run_here(host, at_once, work).err() } else { Some(work) };
        if let Some(work) = rest {
            // Without a thread or a turn the span is dropped, as one that was not given.
            let _ = self.client.queue(host, at_once, Instant::now() + TURN, work);
        }
    }
}

/// Where it begins in the pack, the shard, and start and end in its body.
type Part = (u32, Option<(Shard, Host)>, u32, u32);

impl Layout {
    /// The parts of a range, in order; none of a shard that the pack does not have.
    fn parts(&self, start: u32, end: u32) -> impl Iterator<Item = Part> {
        let length = self.body_bytes.max(1);
        (start / length..end.div_ceil(length)).map(move |index| {
            let base = index * length;
            let (from, to) = (start.max(base), end.min(base.saturating_add(length)));
            (from, self.shards.get(index as usize).copied().flatten(), from - base, to - base)
        })
    }
}
