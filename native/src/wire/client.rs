//! The asking end: connections to each host, kept for the next exchange. An exchange blocks its thread.

use std::collections::{HashMap, VecDeque};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::ops::{Range, RangeInclusive};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;

use super::broken::Broken;
use super::frames::{read_frame, write_frame};
use super::identity::Identity;
use super::stream::{Stream, send};
use super::threads::{self, Work};
use super::timeouts::Timeouts;
use crate::base::clock::Clock;
use crate::base::limits::SHARD_BYTES;
use crate::base::pool;
use crate::formats::frame::{Fetch, Kind, PREAMBLE, TO_END};
use crate::formats::shard::BODY_OFFSET;

struct Connection {
    stream: Stream<UnbufferedClientConnection>,
    address: Address,
}

/// A host's Ed25519 key.
pub type Host = [u8; 32];

/// Name and port.
pub type Address = (String, u16);

/// Whom to ask, and how long to wait.
#[derive(Clone)]
pub struct Target {
    pub host: Host,
    /// Tried in turn, the last one that worked first.
    pub addresses: Vec<Address>,
    pub connect: Duration,
    pub idle: Duration,
    pub deadline: Instant,
    /// An unused connection is not used again after this long.
    pub keep: Duration,
    /// Exchanges with this host that `queue` has under way at once.
    pub at_once: usize,
}

/// What is asked, and the body that goes or comes.
enum Exchange<'a> {
    /// In parts, one behind the other.
    Put { question: &'a [u8], parts: &'a [&'a [u8]] },
    /// One of another length is refused before memory is taken.
    Fetch { asked: [u8; 32], lengths: RangeInclusive<u64> },
}

#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With the body that was fetched.
    Done(Vec<u8>),
    /// The other side's error, as its TypeScript encoded it.
    Refused(Vec<u8>),
    Unreachable {
        address: String,
        why: String,
    },
    /// Another host answers there, or one without a key.
    Lied {
        address: String,
        actual: Option<Host>,
    },
    /// It answers, but does not carry data; it may do over HTTPS what it was asked.
    NotCarried {
        why: String,
    },
    Malformed {
        what: String,
    },
}

/// Ends an exchange from another thread.
#[derive(Default)]
pub struct Stop {
    stopped: AtomicBool,
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

    fn watch(&self, socket: &TcpStream) -> Result<(), Broken> {
        *lock(&self.socket) = Some(socket.try_clone().map_err(Broken::Io)?);
        if self.stopped.load(Ordering::SeqCst) { Err(Broken::Closed) } else { Ok(()) }
    }

    fn forget(&self) {
        lock(&self.socket).take();
    }
}

pub struct Client {
    identity: Identity,
    clock: Clock,
    kept: Mutex<HashMap<Host, Vec<Kept>>>,
    /// Where each host answered last.
    good: Mutex<HashMap<Host, Address>>,
    turns: Mutex<Turns>,
}

#[derive(Default)]
struct Turns {
    hosts: HashMap<Host, Line>,
    /// A thread looks after those who wait.
    watched: bool,
}

/// Exchanges with one host: so many are under way, the others wait, first come first served.
#[derive(Default)]
struct Line {
    busy: usize,
    /// Until when each waits.
    waiting: VecDeque<(Instant, Work)>,
}

/// How often those who wait are looked at.
const LOOK: Duration = Duration::from_millis(50);

struct Kept {
    connection: Connection,
    until: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

impl Client {
    pub fn new(identity: Identity, clock: Clock) -> Self {
        Self { identity, clock, kept: Mutex::default(), good: Mutex::default(), turns: Mutex::default() }
    }

    /// Runs an exchange with a host on a thread, once fewer than `most` others with it are under way. Where that takes too
    /// long, it is dropped.
    pub fn queue(self: &Arc<Self>, host: Host, most: usize, until: Instant, work: Work) -> std::io::Result<()> {
        let client = self.clone();
        let mut turns = lock(&self.turns);
        let line = turns.hosts.entry(host).or_default();
        if line.busy >= most {
            line.waiting.push_back((until, work));
            if std::mem::replace(&mut turns.watched, true) {
                return Ok(());
            }
            return threads::run(move || client.watch()).inspect_err(|_| turns.watched = false);
        }
        line.busy += 1;
        threads::run(move || client.work(host, work)).inspect_err(|_| turns.hosts.entry(host).or_default().busy -= 1)
    }

    /// The same on the caller's thread, where it need not wait for its turn; otherwise gives it back.
    pub fn run_here(self: &Arc<Self>, host: Host, most: usize, work: Work) -> Result<(), Work> {
        {
            let mut turns = lock(&self.turns);
            let line = turns.hosts.entry(host).or_default();
            if line.busy >= most {
                return Err(work);
            }
            line.busy += 1;
        }
        exchange(work);
        while let Some(next) = self.next(host) {
            let client = self.clone();
            // Without a thread it is dropped, as one that has waited too long.
            if threads::run(move || client.work(host, next)).is_ok() {
                break;
            }
        }
        Ok(())
    }

    /// Runs an exchange with a host whose turn has begun, and then those that wait for a turn.
    fn work(&self, host: Host, work: Work) {
        let mut next = Some(work);
        while let Some(work) = next {
            exchange(work);
            next = self.next(host);
        }
    }

    fn next(&self, host: Host) -> Option<Work> {
        let mut turns = lock(&self.turns);
        let line = turns.hosts.entry(host).or_default();
        let next = line.waiting.pop_front();
        if next.is_none() {
            line.busy -= 1;
        }
        next.map(|(_, work)| work)
    }

    /// Drops those who have waited too long, until nobody waits.
    fn watch(&self) {
        loop {
            thread::sleep(LOOK);
            let mut late = Vec::new();
            let mut turns = lock(&self.turns);
            let now = self.clock.now();
            for line in turns.hosts.values_mut() {
                for one in std::mem::take(&mut line.waiting) {
                    if one.0 > now { line.waiting.push_back(one) } else { late.push(one) }
                }
            }
            turns.watched = turns.hosts.values().any(|line| !line.waiting.is_empty());
            let over = !turns.watched;
            // Whoever hears that he was dropped may ask for something else at once.
            drop(turns);
            drop(late);
            if over {
                return;
            }
        }
    }

    /// Sends a body, in parts, where the question is granted.
    pub fn put(&self, target: &Target, question: &[u8], parts: &[&[u8]], stop: &Stop) -> Outcome {
        self.run(target, &Exchange::Put { question, parts }, stop)
    }

    /// Exactly these bytes of a shard's file; up to `TO_END` all that are there. Not verified.
    pub fn fetch(&self, target: &Target, shard: &[u8; 16], range: Range<u64>, stop: &Stop) -> Outcome {
        const MOST: u64 = (BODY_OFFSET + SHARD_BYTES) as u64;
        let length = range.end.saturating_sub(range.start);
        let lengths = if range.end == TO_END { 0..=MOST } else { length..=length.min(MOST) };
        let asked = Fetch { shard: *shard, range }.encode();
        self.run(target, &Exchange::Fetch { asked, lengths }, stop)
    }

    fn run(&self, target: &Target, exchange: &Exchange, stop: &Stop) -> Outcome {
        if stop.stopped.load(Ordering::SeqCst) || self.clock.now() >= target.deadline {
            return Outcome::Unreachable { address: "no address".into(), why: "it did not get its turn".into() };
        }
        while let Some(mut connection) = self.take(target) {
            match attempt(&mut connection, target, exchange, stop) {
                Ok(outcome) => return self.keep(connection, target, outcome),
                // The other side may close a kept connection at the very moment it is used again.
                Err(failed) if failed.is_unheard() && !stop.stopped.load(Ordering::SeqCst) => {}
                Err(failed) => return failed.outcome(&connection),
            }
        }
        let mut connection = match self.connect(target, stop) {
            Ok(connection) => connection,
            Err(outcome) => return outcome,
        };
        match attempt(&mut connection, target, exchange, stop) {
            Ok(outcome) => self.keep(connection, target, outcome),
            // It has no place for one more connection of ours, or does not take our key.
            Err(failed) if failed.is_unheard() => Outcome::NotCarried { why: failed.broken.to_string() },
            Err(failed) => failed.outcome(&connection),
        }
    }

    pub fn close(&self) {
        lock(&self.kept).clear();
    }

    fn take(&self, target: &Target) -> Option<Connection> {
        let mut kept = lock(&self.kept);
        let now = self.clock.now();
        for connections in kept.values_mut() {
            connections.retain(|one| one.until > now);
        }
        let mine = kept.get_mut(&target.host)?;
        while let Some(Kept { connection, .. }) = mine.pop() {
            if connection.stream.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, mut connection: Connection, target: &Target, outcome: Outcome) -> Outcome {
        if connection.stream.rest() {
            let one = Kept { connection, until: self.clock.now() + target.keep };
            lock(&self.kept).entry(target.host).or_default().push(one);
        }
        outcome
    }

    fn connect(&self, target: &Target, stop: &Stop) -> Result<Connection, Outcome> {
        let good = lock(&self.good).get(&target.host).cloned();
        let mut addresses: Vec<&Address> = target.addresses.iter().collect();
        addresses.sort_by_key(|&address| good.as_ref() != Some(address));
        let mut failure = Outcome::Unreachable { address: "no address".into(), why: "it has none".into() };
        for address in addresses {
            let limit = target.deadline.min(self.clock.now() + target.connect);
            match self.dial(target, address, limit, stop) {
                Ok(stream) => {
                    lock(&self.good).insert(target.host, address.clone());
                    return Ok(Connection { stream, address: address.clone() });
                }
                // That somebody answers is worth more to know than that nobody answers elsewhere.
                Err(outcome) if matches!(failure, Outcome::Unreachable { .. }) => failure = outcome,
                Err(_) => {}
            }
        }
        Err(failure)
    }

    fn dial(
        &self,
        target: &Target,
        address: &Address,
        limit: Instant,
        stop: &Stop,
    ) -> Result<Stream<UnbufferedClientConnection>, Outcome> {
        let unreachable = |why: String| Outcome::Unreachable { address: shown(address), why };
        let socket = reach(address, limit, &self.clock).map_err(|error| unreachable(error.to_string()))?;
        self.greet(socket, target, limit, stop).map_err(|broken| match broken {
            Broken::Stranger(actual) => Outcome::Lied { address: shown(address), actual },
            Broken::Late => unreachable(broken.to_string()),
            _ => Outcome::NotCarried { why: broken.to_string() },
        })
    }

    fn greet(
        &self,
        mut socket: TcpStream,
        target: &Target,
        limit: Instant,
        stop: &Stop,
    ) -> Result<Stream<UnbufferedClientConnection>, Broken> {
        stop.watch(&socket)?;
        let timeouts = Timeouts { idle: target.connect, deadline: limit };
        send(&mut socket, PREAMBLE, timeouts, &self.clock)?;
        let config = self.identity.client(target.host).map_err(|error| Broken::Tls(error.to_string()))?;
        // Not sent: a host is its key.
        let name = ServerName::try_from("imager").map_err(|error| Broken::Tls(error.to_string()))?;
        let side = UnbufferedClientConnection::new(Arc::new(config), name);
        let side = side.map_err(|error| Broken::Tls(error.to_string()))?;
        let mut stream = Stream::new(socket, side, &[], timeouts, self.clock.clone());
        let host = stream.shake_hands()?;
        if host == target.host { Ok(stream) } else { Err(Broken::Stranger(Some(host))) }
    }
}

/// A panic ends one exchange, and not those that wait behind it.
fn exchange(work: Work) {
    let _ = catch_unwind(AssertUnwindSafe(work));
}

fn shown((name, port): &Address) -> String {
    if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") }
}

fn attempt(connection: &mut Connection, target: &Target, exchange: &Exchange, stop: &Stop) -> Result<Outcome, Failed> {
    let stream = &mut connection.stream;
    // An answer may take its time: behind it a disk is synced.
    let answering = Timeouts { idle: Duration::MAX, deadline: target.deadline };
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
        let length = match kind {
            Kind::Refused => return Ok(Outcome::Refused(bytes)),
            Kind::Go => bytes.try_into().map(u64::from_le_bytes).map_err(|_| Broken::Malformed("no length"))?,
            _ => return Err(Broken::Malformed("an answer before there was a body")),
        };
        stream.wait_for(Timeouts { idle: target.idle, deadline: target.deadline });
        let fetched = transfer(stream, length, exchange)?;
        stream.wait_for(answering);
        match read_frame(stream)? {
            (Kind::Done, _) => Ok(Outcome::Done(fetched)),
            (Kind::Refused, bytes) => Ok(Outcome::Refused(bytes)),
            _ => Err(Broken::Malformed("no end of an exchange")),
        }
    };
    let outcome = run();
    stop.forget();
    outcome.map_err(|broken| Failed { answered, broken })
}

/// The first of a name's addresses that answers.
fn reach((name, port): &Address, limit: Instant, clock: &Clock) -> std::io::Result<TcpStream> {
    let mut failure = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for address in (name.as_str(), *port).to_socket_addrs()? {
        let left = limit.saturating_duration_since(clock.now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(socket) => return socket.set_nodelay(true).map(|()| socket),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn transfer(
    connection: &mut Stream<UnbufferedClientConnection>,
    length: u64,
    exchange: &Exchange,
) -> Result<Vec<u8>, Broken> {
    match exchange {
        Exchange::Put { parts, .. } if parts.iter().map(|part| part.len() as u64).sum::<u64>() == length => {
            parts.iter().try_for_each(|part| connection.write_all(part)).map(|()| Vec::new())
        }
        Exchange::Put { .. } => Err(Broken::Malformed("it wants a body of another length")),
        Exchange::Fetch { lengths, .. } if lengths.contains(&length) => {
            // At most a shard's.
            let mut bytes = pool::take_filled(length as usize);
            connection.read_exact(&mut bytes)?;
            Ok(bytes)
        }
        Exchange::Fetch { .. } => Err(Broken::Malformed("it answers with more or less than was asked for")),
    }
}

struct Failed {
    /// Something of an answer had come.
    answered: bool,
    broken: Broken,
}

impl Failed {
    /// The other side ended the connection without a word.
    fn is_unheard(&self) -> bool {
        !self.answered && matches!(self.broken, Broken::Closed | Broken::Io(_) | Broken::Tls(_))
    }

    fn outcome(self, connection: &Connection) -> Outcome {
        match self.broken {
            Broken::Malformed(what) => Outcome::Malformed { what: what.into() },
            broken => Outcome::Unreachable { address: shown(&connection.address), why: broken.to_string() },
        }
    }
}
