//! The asking end: sockets and TLS. An exchange blocks its thread. What is decided on the way is decided by functions of
//! state and `now`: who may begin (`turns`), which connection is used again (`kept`), which address is dialled and for how
//! long (`endpoint`), what follows from a failure (`outcome`).

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;

use super::broken::Broken;
use super::dial::Dial;
use super::endpoint::{Address, Endpoint, Host};
use super::frames::{read_frame, write_frame};
use super::identity::Identity;
use super::kept::Kept;
use super::outcome::{Failed, Next, Origin, Outcome};
use super::runner::Runner;
use super::stream::{Stream, send};
use super::threads;
use super::timeouts::Timeouts;
use super::turns::Work;
use crate::base::clock::Clock;
use crate::base::limits::SHARD_BYTES;
use crate::base::pool;
use crate::formats::frame::{Fetch, Kind, PREAMBLE, TO_END};
use crate::formats::shard::BODY_OFFSET;

struct Connection {
    stream: Stream<UnbufferedClientConnection>,
    address: Address,
}

/// What is asked, and the body that goes or comes.
enum Exchange<'a> {
    /// In parts, one behind the other.
    Put { question: &'a [u8], parts: &'a [&'a [u8]] },
    /// One of another length is refused before memory is taken.
    Fetch { asked: [u8; 32], lengths: RangeInclusive<u64> },
}

/// Ends an exchange from another thread.
#[derive(Default)]
pub struct Stop {
    stopped: AtomicBool,
    /// Shut down by `stop`, so that whoever waits for it wakes.
    socket: Mutex<Option<TcpStream>>,
}

impl Stop {
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(socket) = lock(&self.socket).take() {
            // It is gone either way.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn watch(&self, socket: &TcpStream) -> Result<(), Broken> {
        *lock(&self.socket) = Some(socket.try_clone().map_err(Broken::Io)?);
        if self.is_stopped() { Err(Broken::Closed) } else { Ok(()) }
    }

    fn forget(&self) {
        lock(&self.socket).take();
    }
}

pub struct Client {
    identity: Identity,
    clock: Clock,
    dial: Dial,
    kept: Mutex<Kept<Connection>>,
    /// Where each host answered last.
    good: Mutex<HashMap<Host, Address>>,
    /// When something came of each host last.
    heard: Mutex<HashMap<Host, Instant>>,
    runner: Arc<Runner>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

impl Client {
    pub fn new(identity: Identity, clock: Clock, dial: Dial) -> Self {
        let runner = Runner::new(clock.clone(), threads::claim);
        let (kept, good, heard) = Default::default();
        Self { identity, clock, dial, kept, good, heard, runner }
    }

    /// When something came of a host last, on whichever connection: an answer, a part of a body.
    pub fn heard(&self, host: &Host) -> Option<Instant> {
        lock(&self.heard).get(host).copied()
    }

    fn hear(&self, host: Host) {
        lock(&self.heard).insert(host, self.clock.now());
    }

    /// As `Runner::queue`.
    pub fn queue(&self, host: Host, most: usize, until: Instant, work: Work) -> std::io::Result<()> {
        self.runner.queue(host, most, until, work)
    }

    /// As `Runner::run_here`.
    pub fn run_here(&self, host: Host, most: usize, work: Work) -> Result<(), Work> {
        self.runner.run_here(host, most, work)
    }

    /// Sends a body, in parts, where the question is granted.
    pub fn put(&self, endpoint: &Endpoint, question: &[u8], parts: &[&[u8]], stop: &Stop) -> Outcome {
        self.run(endpoint, &Exchange::Put { question, parts }, stop)
    }

    /// Exactly these bytes of a shard's file; up to `TO_END` all that are there. Not verified.
    pub fn fetch(&self, endpoint: &Endpoint, shard: &[u8; 16], range: Range<u64>, stop: &Stop) -> Outcome {
        const MOST: u64 = (BODY_OFFSET + SHARD_BYTES) as u64;
        let length = range.end.saturating_sub(range.start);
        let lengths = if range.end == TO_END { 0..=MOST } else { length..=length.min(MOST) };
        let asked = Fetch { shard: *shard, range }.encode();
        self.run(endpoint, &Exchange::Fetch { asked, lengths }, stop)
    }

    fn run(&self, endpoint: &Endpoint, exchange: &Exchange, stop: &Stop) -> Outcome {
        if stop.is_stopped() || endpoint.is_late(self.clock.now()) {
            return Outcome::missed();
        }
        loop {
            let (mut connection, origin) = match self.take(&endpoint.host) {
                Some(connection) => (connection, Origin::Kept),
                None => match self.connect(endpoint, stop) {
                    Ok(connection) => (connection, Origin::Dialled),
                    Err(outcome) => return outcome,
                },
            };
            match self.attempt(&mut connection, endpoint, exchange, stop) {
                Ok(outcome) => {
                    self.keep(connection, endpoint);
                    return outcome;
                }
                Err(failed) => match failed.next(origin, stop.is_stopped(), &connection.address) {
                    Next::Retry => {}
                    Next::End(outcome) => return outcome,
                },
            }
        }
    }

    /// Closes the connections that are kept.
    pub fn close(&self) {
        lock(&self.kept).clear();
    }

    fn take(&self, host: &Host) -> Option<Connection> {
        let now = self.clock.now();
        let next = || lock(&self.kept).take(host, now);
        std::iter::from_fn(next).find(|connection| connection.stream.is_quiet())
    }

    fn keep(&self, mut connection: Connection, endpoint: &Endpoint) {
        if connection.stream.rest() {
            let until = endpoint.kept_until(self.clock.now());
            lock(&self.kept).put(endpoint.host, connection, until);
        }
    }

    fn connect(&self, endpoint: &Endpoint, stop: &Stop) -> Result<Connection, Outcome> {
        let good = lock(&self.good).get(&endpoint.host).cloned();
        let mut failure = Outcome::undialled();
        for address in endpoint.dialled(good.as_ref()) {
            let timeouts = endpoint.dialling(self.clock.now());
            match self.reach(endpoint.host, address, timeouts, stop) {
                Ok(stream) => {
                    lock(&self.good).insert(endpoint.host, address.clone());
                    return Ok(Connection { stream, address: address.clone() });
                }
                Err(outcome) => failure = failure.or(outcome),
            }
        }
        Err(failure)
    }

    /// A connection with this address on which the host has proved its key.
    fn reach(
        &self,
        host: Host,
        address: &Address,
        timeouts: Timeouts,
        stop: &Stop,
    ) -> Result<Stream<UnbufferedClientConnection>, Outcome> {
        let socket = (self.dial)(address, timeouts.deadline).map_err(|error| Outcome::unreached(address, &error))?;
        self.greet(socket, host, timeouts, stop).map_err(|broken| Outcome::ungreeted(address, broken))
    }

    fn greet(
        &self,
        mut socket: TcpStream,
        host: Host,
        timeouts: Timeouts,
        stop: &Stop,
    ) -> Result<Stream<UnbufferedClientConnection>, Broken> {
        stop.watch(&socket)?;
        send(&mut socket, PREAMBLE, timeouts, &self.clock)?;
        let config = self.identity.client(host).map_err(|error| Broken::Tls(error.to_string()))?;
        // Not sent: a host is its key.
        let name = ServerName::try_from("imager").map_err(|error| Broken::Tls(error.to_string()))?;
        let side = UnbufferedClientConnection::new(Arc::new(config), name);
        let side = side.map_err(|error| Broken::Tls(error.to_string()))?;
        let mut stream = Stream::new(socket, side, &[], timeouts, self.clock.clone());
        let actual = stream.shake_hands()?;
        if actual != host {
            return Err(Broken::Stranger(Some(actual)));
        }
        self.hear(host);
        Ok(stream)
    }

    fn attempt(
        &self,
        connection: &mut Connection,
        endpoint: &Endpoint,
        exchange: &Exchange,
        stop: &Stop,
    ) -> Result<Outcome, Failed> {
        let stream = &mut connection.stream;
        // What is put is synced to a disk before it is answered; what is fetched is on its way at once.
        let answering = match exchange {
            Exchange::Put { .. } => endpoint.answering(),
            Exchange::Fetch { .. } => endpoint.carrying(),
        };
        stream.wait_for(answering);
        let mut answered = false;
        let mut run = || {
            stop.watch(stream.socket())?;
            match exchange {
                Exchange::Put { question, .. } => write_frame(stream, Kind::Question, question)?,
                Exchange::Fetch { asked, .. } => write_frame(stream, Kind::Fetch, asked)?,
            }
            let (kind, bytes) = read_frame(stream)?;
            answered = true;
            self.hear(endpoint.host);
            let length = match kind {
                Kind::Refused => return Ok(Outcome::Refused(bytes)),
                Kind::Go => bytes.try_into().map(u64::from_le_bytes).map_err(|_| Broken::Malformed("no length"))?,
                _ => return Err(Broken::Malformed("an answer before there was a body")),
            };
            stream.wait_for(endpoint.carrying());
            let fetched = transfer(stream, length, exchange, || self.hear(endpoint.host))?;
            stream.wait_for(answering);
            match read_frame(stream)? {
                (Kind::Done, said) if matches!(exchange, Exchange::Put { .. }) => Ok(Outcome::Done(said)),
                (Kind::Done, _) => Ok(Outcome::Done(fetched)),
                (Kind::Refused, bytes) => Ok(Outcome::Refused(bytes)),
                _ => Err(Broken::Malformed("no end of an exchange")),
            }
        };
        let outcome = run();
        stop.forget();
        outcome.map_err(|broken| Failed { answered, broken })
    }
}

/// `came` hears of each part of a body that comes.
fn transfer(
    connection: &mut Stream<UnbufferedClientConnection>,
    length: u64,
    exchange: &Exchange,
    came: impl Fn(),
) -> Result<Vec<u8>, Broken> {
    match exchange {
        Exchange::Put { parts, .. } if parts.iter().map(|part| part.len() as u64).sum::<u64>() == length => {
            parts.iter().try_for_each(|part| connection.write_all(part)).map(|()| Vec::new())
        }
        Exchange::Put { .. } => Err(Broken::Malformed("it wants a body of another length")),
        Exchange::Fetch { lengths, .. } if lengths.contains(&length) => {
            // At most a shard's.
            let mut bytes = pool::take_filled(length as usize);
            connection.read_telling(&mut bytes, came)?;
            Ok(bytes)
        }
        Exchange::Fetch { .. } => Err(Broken::Malformed("it answers with more or less than was asked for")),
    }
}
