//! Fetches parts of packs over data connections, on the client's threads. A part that does not come this way is told at once;
//! TypeScript then fetches it another way.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::base::clock::Clock;
use crate::base::pool::Recycled;
use crate::formats::shard::BODY_OFFSET;
use crate::retrieve::patience::Patience;
use crate::retrieve::routes::{Aside, Host, Routes, Shard, Span};
use crate::wire::client::{Client, Stop};
use crate::wire::endpoint::Endpoint;
use crate::wire::outcome::Outcome;
use crate::wire::turns::{Turn, Work};

/// How long a part waits for one of a host's connections: that all are busy is not its fault, but a reader shall not wait for it.
const TURN: Duration = Duration::from_secs(1);

/// Hears once what became of a part: its bytes, or nothing.
pub type Ended = Box<dyn FnOnce(Option<Recycled>) + Send>;

/// The parts of a range of a pack, from whoever has them. The disk reader asks no more of the network than this.
pub trait Parts: Send + Sync {
    /// Nothing where one of them is not to be had this way now.
    fn direct(&self, stripe: u64, start: u32, end: u32) -> Option<Vec<(Span, Shard)>>;

    /// `may_wait`: the caller's thread may do it, which saves two turns of the scheduler.
    fn fetch(&self, part: (Span, Shard), may_wait: bool, ended: Ended);
}

pub struct DirectParts {
    client: Arc<Client>,
    clock: Clock,
    patience: Patience,
    /// How each host is reached.
    endpoints: Mutex<HashMap<Host, Arc<Endpoint>>>,
    routes: Arc<Mutex<Routes>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

impl DirectParts {
    pub fn new(client: Arc<Client>, clock: Clock, patience: Patience, routes: Arc<Mutex<Routes>>) -> Self {
        Self { client, clock, patience, endpoints: Mutex::default(), routes }
    }

    /// The deadline in it counts for nothing: each part has its own.
    pub fn learn_host(&self, endpoint: Endpoint) {
        lock(&self.endpoints).insert(endpoint.host, Arc::new(endpoint));
    }
}

impl Parts for DirectParts {
    fn direct(&self, stripe: u64, start: u32, end: u32) -> Option<Vec<(Span, Shard)>> {
        let parts = lock(&self.routes).direct(stripe, start, end, self.clock.now())?;
        let endpoints = lock(&self.endpoints);
        parts.iter().all(|(_, shard)| endpoints.contains_key(&shard.host)).then_some(parts)
    }

    /// The host's time begins when it is asked.
    fn fetch(&self, (span, shard): (Span, Shard), may_wait: bool, ended: Ended) {
        let Some(endpoint) = lock(&self.endpoints).get(&shard.host).cloned() else { return ended(None) };
        let (client, clock) = (self.client.clone(), self.clock.clone());
        let (routes, patience) = (self.routes.clone(), self.patience);
        let at_once = endpoint.at_once;
        let work: Work = Box::new(move |turn| {
            let ask = || exchange(&client, &clock, &routes, patience, &endpoint, (span, shard));
            // A panic is a bug of ours; whoever waits for the part must not wait for ever.
            ended(if turn == Turn::Begun { catch_unwind(AssertUnwindSafe(ask)).ok().flatten() } else { None });
        });
        let rest = if may_wait { self.client.run_here(shard.host, at_once, work).err() } else { Some(work) };
        if let Some(work) = rest {
            // Without a thread the part has ended already.
            let _ = self.client.queue(shard.host, at_once, self.clock.now() + TURN, work);
        }
    }
}

/// Asks one host for one part, and remembers how it took that.
fn exchange(
    client: &Client,
    clock: &Clock,
    routes: &Mutex<Routes>,
    patience: Patience,
    endpoint: &Endpoint,
    (span, shard): (Span, Shard),
) -> Option<Recycled> {
    let now = clock.now();
    if lock(routes).is_aside(&shard.host, now) {
        return None;
    }
    let length = span.end - span.start;
    let endpoint = Endpoint { deadline: now + patience.for_bytes(length), ..endpoint.clone() };
    let start = BODY_OFFSET as u64 + u64::from(span.start);
    let why = match client.fetch(&endpoint, &shard.id, start..start + u64::from(length), &Stop::default()) {
        Outcome::Done(bytes) => {
            lock(routes).gave(&shard);
            return Some(Recycled(bytes));
        }
        // Of this shard only, or of this computer; TypeScript hears it again and says what it means.
        Outcome::Refused(_) | Outcome::Exhausted { .. } => return None,
        Outcome::Unreachable { .. } => Aside::Silent,
        Outcome::NotCarried { .. } | Outcome::Lied { .. } | Outcome::Malformed { .. } => Aside::NotCarried,
    };
    lock(routes).put_aside(shard.host, why, clock.now() + patience.aside);
    None
}
