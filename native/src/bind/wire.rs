//! Data connections: TypeScript decides, threads of the addon carry.

use std::collections::HashSet;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use napi::bindgen_prelude::{AsyncTask, Buffer, Function, Object, Result, ToNapiValue, Uint8Array};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Env, JsDeferred};
use napi_derive::napi;

use super::body::Body;
use super::snapshot::packs::StripeShard;
use super::stripes::{ShardFacts, facts};
use super::{Job, fixed, hex, job, thrown};
use crate::base::clock::Clock;
use crate::base::error::Error;
use crate::formats::frame::TO_END;
use crate::wire::broken::Broken;
use crate::wire::endpoint::Endpoint;
use crate::wire::identity::Identity;
use crate::wire::outcome::Outcome;
use crate::wire::server::{self, Asked, Order, Question, Unreceived, Unsent};
use crate::wire::turns::Turn;
use crate::wire::{client, dial};

pub(super) type Settled<T> = JsDeferred<T, Box<dyn FnOnce(Env) -> Result<T>>>;

pub(super) fn settle<T: ToNapiValue + Send + 'static>(promise: Settled<T>, value: T) {
    promise.resolve(Box::new(move |_| Ok(value)));
}

pub(super) fn milliseconds(count: u32) -> Duration {
    Duration::from_millis(count.into())
}

/// The first byte of a data connection; TLS begins with another.
#[napi]
pub const DATA_PREAMBLE: u8 = crate::formats::frame::PREAMBLE[0];

/// How a host is reached: its key, its addresses, its deadlines (`wire/endpoint.rs`).
#[napi(object)]
pub struct DataEndpoint {
    /// 32 bytes, the key that must answer.
    pub host: Buffer,
    /// Of each address, dialled in turn; the one that answered last first.
    pub names: Vec<String>,
    /// In the order of `names`.
    pub ports: Vec<u16>,
    /// Timeout of one dial with its TLS handshake.
    pub connect_ms: u32,
    /// Timeout of each wait for bytes of a body.
    pub idle_ms: u32,
    /// Deadline of the exchange, the wait for its turn included.
    pub timeout_ms: u32,
    /// Pool: a connection that was unused for so long is not used again.
    pub keep_ms: u32,
    /// Cap on exchanges with this host at once, of whichever kind; others wait for their turn.
    pub at_once: u32,
}

impl DataEndpoint {
    /// The deadline counts from now on.
    pub(super) fn decode(self) -> Result<Endpoint> {
        Ok(Endpoint {
            host: fixed("host", &self.host)?,
            addresses: self.names.into_iter().zip(self.ports).collect(),
            connect: milliseconds(self.connect_ms),
            idle: milliseconds(self.idle_ms),
            deadline: Clock::SYSTEM.now() + milliseconds(self.timeout_ms),
            keep: milliseconds(self.keep_ms),
            at_once: self.at_once as usize,
        })
    }
}

/// How an exchange ended. `body`: of `done`, what was fetched, or what the host says of what was put. `bytes`: of `refused` the error as it was encoded, of `lied`
/// the key that answered. `why` for people.
#[napi(object, object_from_js = false)]
pub struct DataOutcome {
    #[napi(
        ts_type = "'done' | 'refused' | 'unreachable' | 'lied' | 'notCarried' | 'malformed' | 'exhausted' | 'stopped'"
    )]
    pub kind: String,
    pub body: Option<Body>,
    pub bytes: Buffer,
    pub address: String,
    pub why: String,
}

impl DataOutcome {
    fn new(kind: &str, bytes: Vec<u8>, address: String, why: String) -> Self {
        Self { kind: kind.into(), body: None, bytes: bytes.into(), address, why }
    }
}

impl From<Outcome> for DataOutcome {
    fn from(outcome: Outcome) -> Self {
        let none = String::new;
        match outcome {
            Outcome::Done(body) => Self { body: Some(body.into()), ..Self::new("done", vec![], none(), none()) },
            Outcome::Refused(error) => Self::new("refused", error, none(), none()),
            Outcome::Unreachable { address, why } => Self::new("unreachable", vec![], address, why),
            Outcome::Lied { address, actual } => {
                Self::new("lied", actual.map(Vec::from).unwrap_or_default(), address, none())
            }
            Outcome::NotCarried { why } => Self::new("notCarried", vec![], none(), why),
            Outcome::Malformed { what } => Self::new("malformed", vec![], none(), what),
            Outcome::Exhausted { why } => Self::new("exhausted", vec![], none(), why),
        }
    }
}

/// Ends one exchange, which then is `stopped` at once, whatever it waits for.
#[napi]
pub struct DataStop {
    stop: Arc<client::Stop>,
    promise: Arc<Mutex<Option<Settled<DataOutcome>>>>,
}

#[napi]
impl DataStop {
    /// For one exchange.
    #[napi(constructor)]
    pub fn new() -> Self {
        Self { stop: Arc::default(), promise: Arc::default() }
    }

    /// At any time; once the exchange is over, nothing happens.
    #[napi]
    pub fn stop(&self) {
        self.stop.stop();
        finish(&self.promise, || DataOutcome::new("stopped", vec![], String::new(), String::new()));
    }
}

fn finish(promise: &Mutex<Option<Settled<DataOutcome>>>, outcome: impl FnOnce() -> DataOutcome) {
    let promise = promise.lock().expect("no holder of this lock panics").take();
    if let Some(promise) = promise {
        settle(promise, outcome());
    }
}

/// This host's data connections to others. Each exchange has a thread once it has its turn.
#[napi]
pub struct DataClient(pub(super) Arc<client::Client>);

#[napi]
impl DataClient {
    /// Key and certificate in PEM, as TLS has them everywhere.
    #[napi(constructor)]
    pub fn new(key: String, certificate: String) -> Result<Self> {
        let identity = Identity::from_pem(&key, &certificate).map_err(thrown)?;
        let (clock, dial) = (Clock::SYSTEM, dial::tcp(Clock::SYSTEM));
        Ok(Self(Arc::new(client::Client::new(identity, clock, dial))))
    }

    /// Sends `body` where the question is granted. It must not change meanwhile. A `stop` is used once.
    #[napi(ts_return_type = "Promise<DataOutcome>")]
    pub fn put<'env>(
        &self,
        env: &'env Env,
        target: DataEndpoint,
        question: Uint8Array,
        body: Uint8Array,
        stop: &DataStop,
    ) -> Result<Object<'env>> {
        self.start(env, target, stop, move |client, endpoint, stop| client.put(endpoint, &question, &[&body], stop))
    }

    /// The same with a shard of a stripe, which is held until it is sent or given up.
    #[napi(ts_return_type = "Promise<DataOutcome>")]
    pub fn put_shard<'env>(
        &self,
        env: &'env Env,
        target: DataEndpoint,
        question: Uint8Array,
        shard: &StripeShard,
        stop: &DataStop,
    ) -> Result<Object<'env>> {
        let (stripe, index) = shard.held()?;
        self.start(env, target, stop, move |client, endpoint, stop| {
            let parts = stripe.file(index).unwrap_or_default();
            client.put(endpoint, &question, &parts, stop)
        })
    }

    /// Fetches bytes `start..end` of a shard's file, or all that follow where `end` is left out.
    #[napi(ts_return_type = "Promise<DataOutcome>")]
    pub fn fetch<'env>(
        &self,
        env: &'env Env,
        target: DataEndpoint,
        shard: Uint8Array,
        start: f64,
        end: Option<f64>,
        stop: &DataStop,
    ) -> Result<Object<'env>> {
        let shard = fixed("shard", &shard)?;
        let range = start as u64..end.map_or(TO_END, |end| end as u64);
        self.start(env, target, stop, move |client, endpoint, stop| client.fetch(endpoint, &shard, range, stop))
    }

    /// For how long nothing has come of a host (32 bytes), in ms; null where nothing ever did.
    #[napi]
    pub fn silent_ms(&self, host: Uint8Array) -> Result<Option<f64>> {
        let heard = self.0.heard(&fixed("host", &host)?);
        let silent = |heard| Clock::SYSTEM.now().saturating_duration_since(heard).as_secs_f64() * 1000.0;
        Ok(heard.map(silent))
    }

    /// Closes what is kept and unused.
    #[napi]
    pub fn close(&self) {
        self.0.close();
    }

    fn start<'env>(
        &self,
        env: &'env Env,
        target: DataEndpoint,
        stop: &DataStop,
        exchange: impl FnOnce(&client::Client, &Endpoint, &client::Stop) -> Outcome + Send + 'static,
    ) -> Result<Object<'env>> {
        let endpoint = target.decode()?;
        let (settled, promise) = env.create_deferred()?;
        *stop.promise.lock().expect("no holder of this lock panics") = Some(settled);
        let (client, stop, settled) = (self.0.clone(), stop.stop.clone(), stop.promise.clone());
        let (host, at_once, deadline) = (endpoint.host, endpoint.at_once, endpoint.deadline);
        let work = move |turn| {
            let outcome = match turn {
                Turn::Begun => exchange(&client, &endpoint, &stop),
                Turn::Missed => Outcome::missed(),
            };
            finish(&settled, || outcome.into());
        };
        self.0
            .queue(host, at_once, deadline, Box::new(work))
            .map_err(|error| thrown(Error::io("starting a thread", error)))?;
        Ok(promise)
    }
}

/// Caps and timeouts of a server (`src/base/limits.ts`).
#[napi(object)]
pub struct DataLimits {
    /// Cap on connections of all hosts.
    pub connections: u32,
    /// Cap on connections of one host.
    pub connections_per_host: u32,
    /// Timeout of the handshake, and then of the first question.
    pub greeting_ms: u32,
    /// Timeout of each wait for a byte while a question or a body is on its way.
    pub idle_ms: u32,
    /// Timeout of the wait for another question.
    pub keep_ms: u32,
    /// Deadline of one exchange, from its question's first byte on.
    pub transfer_ms: u32,
}

/// Serves data connections that are handed over; listens nowhere itself.
#[napi]
pub struct DataServer(Arc<server::Server>);

#[napi]
impl DataServer {
    /// `ask` gets the questions of every connection, whoever they are from, but for what `letRead` answers.
    #[napi(constructor)]
    pub fn new(key: String, certificate: String, limits: DataLimits, ask: Function<DataQuestion, ()>) -> Result<Self> {
        let identity = Identity::from_pem(&key, &certificate).map_err(thrown)?;
        let limits = server::Limits {
            connections: limits.connections as usize,
            connections_per_host: limits.connections_per_host as usize,
            greeting: milliseconds(limits.greeting_ms),
            idle: milliseconds(limits.idle_ms),
            keep: milliseconds(limits.keep_ms),
            transfer: milliseconds(limits.transfer_ms),
        };
        // Weak: questions that may come are no reason for a process to go on.
        let ask = ask.build_threadsafe_function().weak::<true>().build()?;
        let ask = move |asked| {
            ask.call(DataQuestion(asked), ThreadsafeFunctionCallMode::NonBlocking);
        };
        server::Server::new(&identity, limits, Clock::SYSTEM, Box::new(ask)).map(Self).map_err(thrown)
    }

    /// From now on these hosts (32 bytes each), and no others, are sent what they fetch from a folder of shards without a
    /// question.
    #[napi]
    pub fn let_read(&self, folder: String, readers: Vec<Uint8Array>) -> Result<()> {
        let readers: Result<HashSet<_>> = readers.iter().map(|host| fixed("host", host)).collect();
        self.0.let_read(folder.into(), readers?);
        Ok(())
    }

    /// Takes over the connection behind a descriptor, which its owner closes right after. `head` was read from it.
    #[napi]
    pub fn adopt(&self, descriptor: i32, head: Uint8Array) -> Result<()> {
        let socket = duplicate(descriptor)?;
        self.0.adopt(socket.into(), head.to_vec()).map_err(thrown)
    }

    /// How many are open, before their handshake too.
    #[napi(getter)]
    pub fn connections(&self) -> u32 {
        self.0.connections() as u32
    }

    /// Ends idle connections now, the others after their exchange or after `graceMs`.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close(&self, grace_ms: u32) -> AsyncTask<Job<()>> {
        let server = self.0.clone();
        job(move || {
            server.close(milliseconds(grace_ms));
            Ok(())
        })
    }
}

fn duplicate(descriptor: i32) -> Result<OwnedFd> {
    if descriptor < 0 {
        return Err(thrown(Error::invalid("descriptor", "it is closed")));
    }
    // SAFETY: it is only borrowed for the call that duplicates it; the caller owns it and has it open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    borrowed.try_clone_to_owned().map_err(|error| thrown(Error::io("taking over a descriptor", error)))
}

/// What became of a body: `sound` with its facts, as the disk gave it back, or why not. `cut`: the connection is gone; `lost`: the
/// disk gave back something else than came.
#[napi(object)]
pub struct DataReceived {
    #[napi(ts_type = "'sound' | 'cut' | 'damaged' | 'full' | 'disk' | 'lost'")]
    pub kind: String,
    pub facts: Option<ShardFacts>,
    pub why: String,
}

/// What became of bytes that were to be sent.
#[napi(object)]
pub struct DataSent {
    #[napi(ts_type = "'sent' | 'cut' | 'absent' | 'misfit' | 'disk'")]
    pub kind: String,
    pub why: String,
}

fn sent(result: std::result::Result<(), Unsent>) -> DataSent {
    let (kind, why) = match result {
        Ok(()) => ("sent", String::new()),
        Err(Unsent::Cut(_)) => ("cut", String::new()),
        Err(Unsent::Absent) => ("absent", String::new()),
        Err(Unsent::Misfit) => ("misfit", String::new()),
        Err(Unsent::Disk(error)) => ("disk", error.to_string()),
    };
    DataSent { kind: kind.into(), why }
}

/// Tells what became of a body in any case, also where its connection ended before it was begun.
struct Receipt<T: ToNapiValue + Send + 'static> {
    promise: Option<Settled<T>>,
    lost: fn() -> T,
}

impl<T: ToNapiValue + Send + 'static> Receipt<T> {
    fn new(promise: Settled<T>, lost: fn() -> T) -> Self {
        Self { promise: Some(promise), lost }
    }

    fn settle(&mut self, outcome: T) {
        if let Some(promise) = self.promise.take() {
            settle(promise, outcome);
        }
    }
}

impl<T: ToNapiValue + Send + 'static> Drop for Receipt<T> {
    fn drop(&mut self) {
        let lost = (self.lost)();
        self.settle(lost);
    }
}

fn received(result: std::result::Result<crate::formats::shard::Header, Unreceived>) -> DataReceived {
    let failed = |kind: &str, why: String| DataReceived { kind: kind.into(), facts: None, why };
    match result {
        Ok(header) => DataReceived { kind: "sound".into(), facts: Some(facts(header)), why: String::new() },
        Err(Unreceived::Cut(broken)) => failed("cut", broken.to_string()),
        Err(Unreceived::Damaged(error)) => failed("damaged", error.to_string()),
        Err(Unreceived::Lost(error)) => failed("lost", error.to_string()),
        Err(Unreceived::Disk(error)) => {
            let full = [libc::ENOSPC, libc::EDQUOT, libc::EFBIG].map(Some).contains(&error.raw_os_error());
            failed(if full { "full" } else { "disk" }, error.to_string())
        }
    }
}

/// Which bytes of a shard's file are fetched; without an `end` all that follow.
#[napi(object, object_from_js = false)]
pub struct DataFetch {
    /// Hexadecimal.
    pub shard: String,
    pub start: f64,
    pub end: Option<f64>,
}

/// A question that waits for an order; one that is dropped ends its connection.
#[napi]
pub struct DataQuestion(Asked);

#[napi]
impl DataQuestion {
    /// Who asks: the key that TLS has proved, in hexadecimal.
    #[napi(getter)]
    pub fn host(&self) -> String {
        hex(&self.0.host)
    }

    /// Empty where it is a `fetch`.
    #[napi(getter)]
    pub fn question(&self) -> Buffer {
        match &self.0.question {
            Question::Message(bytes) => bytes.clone().into(),
            Question::Fetch(_) => Buffer::from(vec![]),
        }
    }

    /// Which bytes of which shard are fetched; null where it is a `question`.
    #[napi(getter)]
    pub fn fetch(&self) -> Option<DataFetch> {
        let Question::Fetch(fetch) = &self.0.question else { return None };
        let Range { start, end } = fetch.range;
        let end = (end != TO_END).then_some(end as f64);
        Some(DataFetch { shard: hex(&fetch.shard), start: start as f64, end })
    }

    /// Receives a shard of so many bytes into a new file, syncs it, reads it back and checks it; then `done` or `refuse` must follow.
    #[napi(ts_return_type = "Promise<DataReceived>")]
    pub fn receive<'env>(&self, env: &'env Env, path: String, length: u32) -> Result<Object<'env>> {
        let (settled, promise): (Settled<DataReceived>, _) = env.create_deferred()?;
        let mut receipt = Receipt::new(settled, || received(Err(Unreceived::Cut(Broken::Closed))));
        let received = Box::new(move |result| receipt.settle(received(result)));
        self.order(Order::Receive { path: PathBuf::from(path), length: length as usize, received })?;
        Ok(promise)
    }

    /// Sends what is fetched, from this file, and `done`. Where it is neither `sent` nor `cut`, `refuse` must follow.
    #[napi(ts_return_type = "Promise<DataSent>")]
    pub fn send<'env>(&self, env: &'env Env, path: String) -> Result<Object<'env>> {
        let Question::Fetch(fetch) = &self.0.question else {
            return Err(thrown(Error::invalid("question", "it fetches nothing")));
        };
        let (settled, promise): (Settled<DataSent>, _) = env.create_deferred()?;
        let mut receipt = Receipt::new(settled, || sent(Err(Unsent::Cut(Broken::Closed))));
        let sent = Box::new(move |result| receipt.settle(sent(result)));
        self.order(Order::Send { path: PathBuf::from(path), range: fetch.range.clone(), sent })?;
        Ok(promise)
    }

    /// What was received is kept, of which `receipt` is sent: the exchange is over. Throws IO where the connection is gone,
    /// like the others.
    #[napi]
    pub fn done(&self, receipt: Uint8Array) -> Result<()> {
        self.order(Order::Done(receipt.to_vec()))
    }

    /// An error, encoded; also after a body.
    #[napi]
    pub fn refuse(&self, error: Uint8Array) -> Result<()> {
        self.order(Order::Refuse(error.to_vec()))
    }

    /// The same, and the connection ends.
    #[napi]
    pub fn expel(&self, error: Uint8Array) -> Result<()> {
        self.order(Order::Expel(error.to_vec()))
    }

    fn order(&self, order: Order) -> Result<()> {
        let gone = || thrown(Error::io("a data connection", std::io::ErrorKind::NotConnected.into()));
        self.0.order(order).then_some(()).ok_or_else(gone)
    }
}
