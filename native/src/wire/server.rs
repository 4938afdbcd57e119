//! The serving end: a thread for each connection, which asks TypeScript about every question and then receives a shard
//! into a file, or sends a part of one. Readers whom TypeScript has named are sent what they fetch without a turn through
//! it; whatever cannot be sent so, it is asked about.
//!
//! Nobody can take more than his share: connections are counted, over all and for each host; every wait has an end;
//! of a shard, no more than a few slices are in memory.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use rustls::server::{ServerConfig, UnbufferedServerConnection};

use super::admission::Admission;
use super::broken::Broken;
use super::endpoint::Host;
use super::frames::{read_frame_of, write_frame};
use super::identity::Identity;
use super::stream::{self, Stream};
use super::timeouts::Timeouts;
use crate::base::clock::Clock;
use crate::base::direct::{Direct, aligned, forget};
use crate::base::error::{Error, Result};
use crate::base::limits::SHARD_BYTES;
use crate::formats::frame::{Fetch, Kind, PREAMBLE, TO_END};
use crate::formats::shard::{BODY_OFFSET, Header};
use crate::stripes::stored::{Came, PIECE_BYTES, Unsound, room};

/// rustls and the file system need little; what is large lies on the heap.
const STACK_BYTES: usize = 256 << 10;

/// Caps and timeouts. The numbers stand in `src/base/limits.ts`.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Cap on connections of all hosts: each has a thread, and 0.5 MB of memory at most.
    pub connections: usize,
    /// Cap on connections of one host, so that it leaves some to the others.
    pub connections_per_host: usize,
    /// Timeout of the handshake, and then of the first question: who never speaks counts no longer.
    pub greeting: Duration,
    /// Timeout of each wait for a byte while a question or a body is on its way.
    pub idle: Duration,
    /// Timeout of the wait for another question. More than `Endpoint::keep`, so that the client lets go first.
    pub keep: Duration,
    /// Deadline of one exchange, from its question's first byte on; timeout of each order for it.
    pub transfer: Duration,
}

impl Limits {
    /// Of the handshake.
    fn greeting(&self, now: Instant) -> Timeouts {
        Timeouts::within(self.greeting, now)
    }

    /// Of the wait for a question.
    fn asking(&self, is_first: bool, now: Instant) -> Timeouts {
        Timeouts::within(if is_first { self.greeting } else { self.keep }, now)
    }

    /// Of an exchange whose question's first byte came now.
    fn exchange(&self, now: Instant) -> Timeouts {
        Timeouts { idle: self.idle, deadline: now + self.transfer }
    }
}

/// What a connection asks. One order is followed, and a second one where the first leaves something to say; without one
/// the connection ends.
pub struct Asked {
    /// The key that TLS has proved.
    pub host: Host,
    pub question: Question,
    orders: Sender<Order>,
}

pub enum Question {
    /// For TypeScript alone to read.
    Message(Vec<u8>),
    Fetch(Fetch),
}

pub enum Order {
    /// An error as TypeScript encodes it.
    Refuse(Vec<u8>),
    /// The same, and the connection ends: a stranger keeps no place.
    Expel(Vec<u8>),
    /// A body of `length` bytes, synced to a new file, read back and checked as a shard; `received` is called in any case, and then
    /// Done or Refuse must follow.
    Receive { path: PathBuf, length: usize, received: Received },
    /// A part of a file; `sent` is called in any case, and where it is not told `Ok` or `Cut`, Refuse must follow.
    Send { path: PathBuf, range: Range<u64>, sent: Sent },
    /// What was received is kept; with what the host says of it.
    Done(Vec<u8>),
}

pub type Sent = Box<dyn FnOnce(std::result::Result<(), Unsent>) + Send>;

/// Why a part of a file did not go out.
#[derive(Debug)]
pub enum Unsent {
    Cut(Broken),
    Absent,
    /// It ends before the range does, or is longer than any shard.
    Misfit,
    Disk(std::io::Error),
}

pub type Received = Box<dyn FnOnce(std::result::Result<Header, Unreceived>) + Send>;

/// Why there is no shard.
#[derive(Debug)]
pub enum Unreceived {
    Cut(Broken),
    /// What came is no sound shard.
    Damaged(Error),
    Disk(std::io::Error),
    /// What was synced does not read back as it came.
    Lost(Error),
}

impl Asked {
    /// False where the connection is gone.
    pub fn order(&self, order: Order) -> bool {
        self.orders.send(order).is_ok()
    }
}

type Ask = Box<dyn Fn(Asked) + Send + Sync>;

pub struct Server {
    config: Arc<ServerConfig>,
    limits: Limits,
    clock: Clock,
    ask: Ask,
    shelf: RwLock<Shelf>,
    /// Who is connected, each with its socket, by which another thread ends it.
    open: Mutex<Admission<TcpStream>>,
    /// A connection has ended.
    changed: Condvar,
}

/// A folder of shards, and who is sent parts of them at once.
#[derive(Default)]
struct Shelf {
    folder: PathBuf,
    readers: HashSet<Host>,
}

impl Server {
    pub fn new(identity: &Identity, limits: Limits, clock: Clock, ask: Ask) -> Result<Arc<Self>> {
        let config = Arc::new(identity.server()?);
        Ok(Arc::new(Self {
            config,
            limits,
            clock,
            ask,
            shelf: RwLock::default(),
            open: Mutex::new(Admission::new(limits.connections, limits.connections_per_host)),
            changed: Condvar::new(),
        }))
    }

    /// From now on these hosts, and no others, are sent what they fetch from the folder without a question.
    pub fn let_read(&self, folder: PathBuf, readers: HashSet<Host>) {
        *self.shelf.write().expect("no holder of this lock panics") = Shelf { folder, readers };
    }

    /// Takes over a connection of which `head` was read already. For one too many the oldest that was served nothing yet ends, or
    /// else that one.
    pub fn adopt(self: &Arc<Self>, socket: TcpStream, head: Vec<u8>) -> Result<()> {
        let io = |error| Error::io("taking over a connection", error);
        socket.set_nonblocking(false).map_err(io)?;
        socket.set_nodelay(true).map_err(io)?;
        let kept = socket.try_clone().map_err(io)?;
        let mut open = self.lock();
        if let Some(oldest) = open.make_room() {
            cut(&oldest);
        }
        let Some(id) = open.enter(kept) else { return Ok(()) };
        drop(open);
        let server = Arc::clone(self);
        let work = move || {
            // Whoever is at the other end notices, and nobody else cares how a connection ended.
            let _ = server.serve(id, socket, &head);
            server.lock().leave(id);
            server.changed.notify_all();
        };
        thread::Builder::new().name("carry".into()).stack_size(STACK_BYTES).spawn(work).map(drop).map_err(|error| {
            self.lock().leave(id);
            io(error)
        })
    }

    /// Ends connections: idle ones now, the others when their exchange is over, all after `grace`.
    pub fn close(&self, grace: Duration) {
        let mut open = self.lock();
        open.close().for_each(cut);
        let wait = self.changed.wait_timeout_while(open, grace, |open| open.count() > 0);
        let (open, _) = wait.expect("no holder of this lock panics");
        open.all().for_each(cut);
    }

    pub fn connections(&self) -> usize {
        self.lock().count()
    }

    fn lock(&self) -> MutexGuard<'_, Admission<TcpStream>> {
        self.open.lock().expect("no holder of this lock panics")
    }

    fn serve(&self, id: u64, mut socket: TcpStream, head: &[u8]) -> std::result::Result<(), Broken> {
        let greeting = self.limits.greeting(self.clock.now());
        let head = skip_preamble(&mut socket, head, greeting, &self.clock)?;
        let tls =
            UnbufferedServerConnection::new(self.config.clone()).map_err(|error| Broken::Tls(error.to_string()))?;
        let mut stream = Stream::new(socket, tls, &head, greeting, self.clock.clone());
        let host = stream.shake_hands()?;
        if !self.lock().identify(id, host) {
            return Err(Broken::Malformed("too many connections of one host"));
        }
        let mut is_first = true;
        loop {
            stream.wait_for(self.limits.asking(is_first, self.clock.now()));
            let mut first = [0];
            stream.read_exact(&mut first)?;
            stream.wait_for(self.limits.exchange(self.clock.now()));
            let question = read_question(first[0], &mut stream)?;
            if !self.lock().begin(id) {
                return Ok(());
            }
            let answered = self.answer(&mut stream, host, question);
            stream.flush()?;
            answered?;
            if !self.lock().end(id) {
                return Ok(());
            }
            is_first = false;
        }
    }

    fn answer(
        &self,
        stream: &mut Stream<UnbufferedServerConnection>,
        host: Host,
        question: Question,
    ) -> std::result::Result<(), Broken> {
        let mut tried = None;
        if let Question::Fetch(fetch) = &question
            && let Some(path) = self.readable(&host, fetch)
        {
            match send(stream, &path, &fetch.range) {
                Ok(()) => return Ok(()),
                Err(Unsent::Cut(broken)) => return Err(broken),
                Err(unsent) => tried = Some(unsent),
            }
        }
        let (orders, ordered) = channel();
        (self.ask)(Asked { host, question, orders });
        self.follow(stream, &ordered, tried)
    }

    /// Where the shard lies (src/peers/store.ts), if this host is sent it at once.
    fn readable(&self, host: &Host, Fetch { shard, range }: &Fetch) -> Option<PathBuf> {
        let shelf = self.shelf.read().expect("no holder of this lock panics");
        let name = format!("{:032x}", u128::from_be_bytes(*shard));
        let may = shelf.readers.contains(host) && !range.is_empty();
        may.then(|| shelf.folder.join(&name[..2]).join(format!("{name}.shard")))
    }

    /// `tried`: why it cannot be sent, where that is known already. It is not tried again, as half of it may be out.
    fn follow(
        &self,
        stream: &mut Stream<UnbufferedServerConnection>,
        orders: &Receiver<Order>,
        mut tried: Option<Unsent>,
    ) -> std::result::Result<(), Broken> {
        let mut had_body = false;
        loop {
            match orders.recv_timeout(self.limits.transfer).map_err(|_| Broken::Late)? {
                Order::Refuse(error) => return write_frame(stream, Kind::Refused, &error),
                Order::Expel(error) => return write_frame(stream, Kind::Refused, &error).and(Err(Broken::Closed)),
                Order::Done(said) => return write_frame(stream, Kind::Done, &said),
                _ if std::mem::replace(&mut had_body, true) => {
                    return Err(Broken::Malformed("two bodies for one question"));
                }
                Order::Receive { path, length, received } => received(receive(stream, &path, length)),
                Order::Send { path, range, sent } => {
                    let outcome = tried.take().map_or_else(|| send(stream, &path, &range), Err);
                    let ended = match &outcome {
                        Ok(()) => Some(Ok(())),
                        Err(Unsent::Cut(_)) => Some(Err(Broken::Closed)),
                        Err(_) => None,
                    };
                    sent(outcome);
                    if let Some(ended) = ended {
                        return ended;
                    }
                }
            }
        }
    }
}

/// It is gone either way.
fn cut(socket: &TcpStream) {
    let _ = socket.shutdown(Shutdown::Both);
}

/// What of `head` lies behind the preamble, which may itself not be there in full yet.
fn skip_preamble(
    socket: &mut TcpStream,
    head: &[u8],
    timeouts: Timeouts,
    clock: &Clock,
) -> std::result::Result<Vec<u8>, Broken> {
    let mut preamble = [0; PREAMBLE.len()];
    let given = head.len().min(preamble.len());
    preamble[..given].copy_from_slice(&head[..given]);
    let mut filled = given;
    while filled < preamble.len() {
        filled += stream::receive(socket, &mut preamble[filled..], timeouts, clock)?;
    }
    if preamble != *PREAMBLE {
        return Err(Broken::Malformed("no connection of ours"));
    }
    Ok(head[given..].to_vec())
}

fn read_question(kind: u8, stream: &mut Stream<UnbufferedServerConnection>) -> std::result::Result<Question, Broken> {
    match read_frame_of(kind, stream)? {
        (Kind::Question, question) => Ok(Question::Message(question)),
        (Kind::Fetch, fetch) => {
            Fetch::decode(&fetch).map(Question::Fetch).ok_or(Broken::Malformed("a fetch of another length"))
        }
        _ => Err(Broken::Malformed("an answer where a question should be")),
    }
}

/// Takes the whole body in any case, so that the connection can go on and the other side hears why. Slices are checked once,
/// as the disk gives them back.
fn receive(
    stream: &mut Stream<UnbufferedServerConnection>,
    path: &Path,
    length: usize,
) -> std::result::Result<Header, Unreceived> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = file.map(Direct::new).map_err(Unreceived::Disk)?;
    file.reserve(0, length as u64).map_err(Unreceived::Disk)?;
    write_frame(stream, Kind::Go, &(length as u64).to_le_bytes()).map_err(Unreceived::Cut)?;
    let mut memory = room();
    let buffer = aligned(&mut memory);
    let mut intake = Intake { file, came: None, at: 0 };
    let mut failure = None;
    let mut left = length;
    while left > 0 {
        // The header alone, so that all later pieces begin with a slice.
        let want = if left == length { BODY_OFFSET.min(length) } else { left.min(PIECE_BYTES) };
        let piece = &mut buffer[..want];
        stream.read_exact(piece).map_err(Unreceived::Cut)?;
        if failure.is_none() {
            failure = intake.take(piece, length).err();
        }
        left -= want;
    }
    let Intake { file, came, .. } = intake;
    if let Some(failure) = failure {
        return Err(failure);
    }
    let came = came.ok_or_else(|| Unreceived::Damaged(Error::corrupt("shard", 0, "it has no header")))?;
    file.sync_all().map_err(Unreceived::Disk)?;
    // It is not read soon: what the host's owner works with stays in the cache.
    forget(&file);
    came.read_back(path, buffer).map_err(|unsound| match unsound {
        Unsound::Came(error) => Unreceived::Damaged(error),
        Unsound::Stored(error) => Unreceived::Lost(error),
    })?;
    Ok(came.header)
}

struct Intake {
    file: Direct,
    came: Option<Came>,
    at: u64,
}

impl Intake {
    fn take(&mut self, piece: &[u8], length: usize) -> std::result::Result<(), Unreceived> {
        match &mut self.came {
            None => self.came = Some(Came::new(piece, length).map_err(Unreceived::Damaged)?),
            Some(came) => came.add(piece),
        }
        self.file.write(self.at, piece).map_err(Unreceived::Disk)?;
        self.at += piece.len() as u64;
        Ok(())
    }
}

/// Where the disk fails half way, zeros fill the rest; what follows them is no `done`.
fn send(
    stream: &mut Stream<UnbufferedServerConnection>,
    path: &Path,
    range: &Range<u64>,
) -> std::result::Result<(), Unsent> {
    let (file, start, length) = open(path, range)?;
    let mut buffer = vec![0; PIECE_BYTES.min(length)];
    let mut failure = None;
    for at in (0..length.max(1)).step_by(PIECE_BYTES) {
        let piece = &mut buffer[..PIECE_BYTES.min(length - at)];
        if failure.is_none() {
            failure = file.read_exact_at(piece, start + at as u64).err();
        }
        match (&failure, at) {
            (Some(_), 0) => break,
            (Some(_), _) => piece.fill(0),
            (None, 0) => write_frame(stream, Kind::Go, &(length as u64).to_le_bytes()).map_err(Unsent::Cut)?,
            (None, _) => {}
        }
        stream.write_all(piece).map_err(Unsent::Cut)?;
    }
    match failure {
        Some(error) => Err(Unsent::Disk(error)),
        None => write_frame(stream, Kind::Done, &[]).map_err(Unsent::Cut),
    }
}

/// The file, and where in it how much is to be sent.
fn open(path: &Path, range: &Range<u64>) -> std::result::Result<(File, u64, usize), Unsent> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Unsent::Absent,
        _ => Unsent::Disk(error),
    };
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let end = if range.end == TO_END { size } else { range.end };
    let length =
        end.checked_sub(range.start).filter(|&length| end <= size && length <= (BODY_OFFSET + SHARD_BYTES) as u64);
    length.map(|length| (file, range.start, length as usize)).ok_or(Unsent::Misfit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_greeted_asks_and_is_served_each_for_its_own_time() {
        let second = Duration::from_secs(1);
        let limits = Limits {
            connections: 1,
            connections_per_host: 1,
            greeting: 5 * second,
            idle: 2 * second,
            keep: 30 * second,
            transfer: 60 * second,
        };
        let now = Instant::now();
        assert_eq!(limits.greeting(now).next_wait(now).ok(), Some(5 * second));
        assert_eq!(limits.asking(true, now).next_wait(now).ok(), Some(5 * second), "the first question");
        assert_eq!(limits.asking(false, now).next_wait(now).ok(), Some(30 * second));
        let exchange = limits.exchange(now);
        assert_eq!(exchange.next_wait(now).ok(), Some(2 * second));
        assert_eq!(exchange.next_wait(now + 59 * second).ok(), Some(second));
        assert!(exchange.next_wait(now + 60 * second).is_err());
    }
}
