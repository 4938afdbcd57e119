//! Whom to ask for which part of a pack, and whole shards that are checked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use napi::bindgen_prelude::{AsyncTask, Either, Null, Result};
use napi_derive::napi;

use super::super::body::Body;
use super::super::wire::milliseconds;
use super::super::{Job, decoded, hex, job, lock, thrown};
use crate::base::clock::Clock;
use crate::base::pool::Recycled;
use crate::retrieve::patience::{Fetching, Patience};
use crate::retrieve::routes::{self, Aside, Fault, Layout, Shard, Span};
use crate::retrieve::sound::Sound;

/// Deadlines of a fetch. Where somebody waits for it, it may take `leastMs` and as long as its bytes at `bytesPerMs`, otherwise as
/// long as something comes of its host every `quietMs`. A host that took longer is left alone for `asideMs`.
#[napi(object)]
pub struct RoutePatience {
    pub least_ms: u32,
    pub bytes_per_ms: u32,
    pub quiet_ms: u32,
    pub aside_ms: u32,
}

/// A fetch that is under way: somebody waits for it (`eager`); `askedMs` ago its host was asked, `silentMs` ago anything came
/// of the host (null: never).
#[napi(object)]
pub struct RouteFetch {
    pub bytes: u32,
    pub eager: bool,
    pub asked_ms: f64,
    pub silent_ms: Either<f64, Null>,
}

impl RouteFetch {
    fn decode(&self) -> Fetching {
        let millis = |count: f64| Duration::from_secs_f64(count.clamp(0.0, 1e9) / 1000.0);
        let silent = match self.silent_ms {
            Either::A(silent) => Some(millis(silent)),
            Either::B(Null) => None,
        };
        Fetching { bytes: self.bytes, eager: self.eager, asked: millis(self.asked_ms), silent }
    }
}

/// A shard on a host that answers, and what is wrong with it.
#[napi(object)]
pub struct RouteFault {
    pub shard: RouteShard,
    #[napi(ts_type = "'damaged' | 'missing' | 'refused'")]
    pub what: String,
}

/// Why a stripe cannot be read: shards on hosts that do not answer, shards that are faulty, how many are `needed`; and whether
/// hosts that come back would be enough.
#[napi(object)]
pub struct RouteLack {
    pub needed: u32,
    pub silent: Vec<RouteShard>,
    pub faulty: Vec<RouteFault>,
    pub can_pass: bool,
}

impl RouteLack {
    fn of(lack: &routes::Lack) -> Self {
        let fault = |(shard, fault): &(Shard, Fault)| {
            let what = match fault {
                Fault::Damaged => "damaged",
                Fault::Missing => "missing",
                Fault::Refused => "refused",
            };
            RouteFault { shard: RouteShard::of(shard), what: what.into() }
        };
        Self {
            needed: lack.needed,
            silent: lack.silent.iter().map(RouteShard::of).collect(),
            faulty: lack.faulty.iter().map(fault).collect(),
            can_pass: lack.can_pass(),
        }
    }
}

/// A shard as the catalog names it. Ids in hexadecimal.
#[napi(object)]
pub struct RouteShard {
    pub index: u32,
    pub shard: String,
    pub host: String,
    pub root: String,
}

impl RouteShard {
    fn of(shard: &Shard) -> Self {
        Self { index: shard.index, shard: hex(&shard.id), host: hex(&shard.host), root: hex(&shard.root) }
    }

    fn decode(&self) -> Result<Shard> {
        let (id, host) = (decoded("shard", &self.shard)?, decoded("host", &self.host)?);
        Ok(Shard { index: self.index, id, host, root: decoded("root", &self.root)? })
    }
}

/// A part of a range of a pack: bytes `start` to `end` of a data shard's body, which begin at `offset` of the pack. `own` has
/// them as they are, if it is not damaged; `silent`: it did not answer of late.
#[napi(object)]
pub struct RouteSpan {
    pub index: u32,
    pub start: u32,
    pub end: u32,
    pub offset: u32,
    pub own: Either<RouteShard, Null>,
    pub silent: bool,
}

/// Files of a stripe's shards that were checked whole: only those count whose every slice and root are right.
#[napi]
pub struct SoundRead {
    sound: Arc<Mutex<Sound<Recycled>>>,
    state: Arc<Mutex<routes::Routes>>,
}

#[napi]
impl SoundRead {
    /// Checks the file of a shard, keeps it if it is right, and tells the routes. Uses the file up.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn keep(&self, shard: RouteShard, file: &Body) -> Result<AsyncTask<Job<bool>>> {
        let (shard, file) = (shard.decode()?, file.spend()?);
        let (sound, state) = (self.sound.clone(), self.state.clone());
        Ok(job(move || {
            let right = lock(&sound).keep(&shard, file);
            let mut state = lock(&state);
            if right {
                state.find_right(&shard.id)
            } else {
                state.find_fault(shard.id, Fault::Damaged)
            }
            Ok(right)
        }))
    }

    /// The indexes of the shards that are right.
    #[napi]
    pub fn right(&self) -> Vec<u32> {
        lock(&self.sound).indexes()
    }

    /// Bytes of the pack; null where too few shards are right. Throws CORRUPT for bytes outside of it.
    #[napi(ts_return_type = "Promise<Body | null>")]
    pub fn read(&self, start: u32, end: u32) -> AsyncTask<Job<Either<Body, Null>>> {
        let sound = self.sound.clone();
        job(move || Ok(lock(&sound).read(start, end)?.map_or(Either::B(Null), |bytes| Either::A(bytes.into()))))
    }
}

/// Which hosts have which parts of packs, who of them does not answer, which shards are damaged (`retrieve/routes.rs`).
#[napi]
pub struct Routes {
    pub(super) state: Arc<Mutex<routes::Routes>>,
    pub(super) patience: Patience,
}

#[napi]
impl Routes {
    /// Routes that know no stripe yet.
    #[napi(constructor)]
    pub fn new(patience: RoutePatience) -> Self {
        let patience = Patience {
            least: milliseconds(patience.least_ms),
            bytes_per_ms: patience.bytes_per_ms,
            quiet: milliseconds(patience.quiet_ms),
            aside: milliseconds(patience.aside_ms),
        };
        Self { state: Arc::default(), patience }
    }

    /// Those of these stripes whose layout is not known.
    #[napi]
    pub fn unknown(&self, stripes: Vec<f64>) -> Vec<f64> {
        let stripes: Vec<u64> = stripes.into_iter().map(|stripe| stripe as u64).collect();
        lock(&self.state).unknown(&stripes).into_iter().map(|stripe| stripe as f64).collect()
    }

    /// Throws INVALID for ids that are none.
    #[napi]
    pub fn learn(&self, stripe: f64, k: u32, m: u32, pack_bytes: u32, shards: Vec<RouteShard>) -> Result<()> {
        let shards = shards.iter().map(RouteShard::decode).collect::<Result<_>>()?;
        lock(&self.state).learn(stripe as u64, Layout { k, m, pack_bytes, shards });
        Ok(())
    }

    /// The parts of a range of a pack, in order. Throws CORRUPT for one outside of it, and for an unknown stripe.
    #[napi]
    pub fn spans(&self, stripe: f64, start: u32, end: u32) -> Result<Vec<RouteSpan>> {
        let (mut state, now) = (lock(&self.state), Clock::SYSTEM.now());
        let layout = state.layout(stripe as u64).map_err(thrown)?;
        let span = |Span { index, start, end, offset }| {
            let own = state.own(&layout, index);
            let silent = own.is_some_and(|own| state.is_silent(&own.host, now));
            let own = own.map_or(Either::B(Null), |own| Either::A(RouteShard::of(&own)));
            RouteSpan { index, start, end, offset, own, silent }
        };
        Ok(layout.spans(start, end).map_err(thrown)?.into_iter().map(span).collect())
    }

    /// All shards of a stripe, damaged ones too.
    #[napi]
    pub fn shards(&self, stripe: f64) -> Result<Vec<RouteShard>> {
        let layout = lock(&self.state).layout(stripe as u64).map_err(thrown)?;
        Ok(layout.shards.iter().map(RouteShard::of).collect())
    }

    /// Shards of which any k rebuild the one at `index`, in the order in which they are asked.
    #[napi]
    pub fn others(&self, stripe: f64, index: u32) -> Result<Vec<RouteShard>> {
        let mut state = lock(&self.state);
        let layout = state.layout(stripe as u64).map_err(thrown)?;
        Ok(state.others(&layout, index, Clock::SYSTEM.now()).iter().map(RouteShard::of).collect())
    }

    /// k, m, and how long each shard's body is.
    #[napi]
    pub fn shape(&self, stripe: f64) -> Result<Vec<u32>> {
        let layout = lock(&self.state).layout(stripe as u64).map_err(thrown)?;
        Ok(vec![layout.k, layout.m, layout.body_bytes()])
    }

    /// For a read from whole shard files.
    #[napi]
    pub fn sound(&self, stripe: f64) -> Result<SoundRead> {
        let layout = lock(&self.state).layout(stripe as u64).map_err(thrown)?;
        Ok(SoundRead { sound: Arc::new(Mutex::new(Sound::new(layout))), state: self.state.clone() })
    }

    /// How long a host may still take for a fetch, in ms, before others are asked too.
    #[napi]
    pub fn left_ms(&self, host: String, fetch: RouteFetch) -> Result<f64> {
        let left = lock(&self.state).left(&decoded("host", &host)?, &self.patience, fetch.decode());
        Ok(left.as_secs_f64() * 1000.0)
    }

    /// A host gave something of this shard.
    #[napi]
    pub fn gave(&self, shard: RouteShard) -> Result<()> {
        lock(&self.state).gave(&shard.decode()?);
        Ok(())
    }

    /// A host that answers does not give what it should.
    #[napi]
    pub fn find_fault(&self, fault: RouteFault) -> Result<()> {
        let what = match fault.what.as_str() {
            "damaged" => Fault::Damaged,
            "missing" => Fault::Missing,
            _ => Fault::Refused,
        };
        lock(&self.state).find_fault(fault.shard.decode()?.id, what);
        Ok(())
    }

    /// Why a stripe cannot be read of which only these shards, by index, gave something that may be used.
    #[napi]
    pub fn lack(&self, stripe: f64, came: Vec<u32>) -> Result<RouteLack> {
        let mut state = lock(&self.state);
        let layout = state.layout(stripe as u64).map_err(thrown)?;
        Ok(RouteLack::of(&state.lack(&layout, &came)))
    }

    /// This host does not answer: for a while it is asked last.
    #[napi]
    pub fn avoid(&self, host: String) -> Result<()> {
        let host = decoded("host", &host)?;
        lock(&self.state).put_aside(host, Aside::Silent, Clock::SYSTEM.now() + self.patience.aside);
        Ok(())
    }
}
