//! A blocking TLS stream in which every wait ends. Reads and writes are large, and bytes go straight from the socket's
//! buffer through rustls into the caller's: that is where the time of a copy of a shard goes.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard};

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{CertificateError, OtherError};

use super::broken::Broken;
use super::identity::{Stranger, host_of};
use super::timeouts::Timeouts;
use crate::base::clock::Clock;
use crate::formats::frame::ALPN;

/// What one read takes from the socket at most. A handshake's flight (64 KiB at most) fits.
const INCOMING_BYTES: usize = 256 << 10;
/// Plain bytes sealed for one write.
const OUTGOING_BYTES: usize = 128 << 10;
/// Each 16 KiB become a record with header, type and tag, and a key update may come along.
const RECORD_OVERHEAD: usize = (OUTGOING_BYTES / 16_384 + 1) * 64;

/// One end of a TLS connection.
pub trait Side {
    type Data;
    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn certificates(&self) -> Option<&[CertificateDer<'static>]>;
    fn alpn(&self) -> Option<&[u8]>;
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.peer_certificates()
    }
    fn alpn(&self) -> Option<&[u8]> {
        self.alpn_protocol()
    }
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.peer_certificates()
    }
    fn alpn(&self) -> Option<&[u8]> {
        self.alpn_protocol()
    }
}

pub struct Stream<S> {
    socket: TcpStream,
    tls: S,
    /// `start..end` of it was read from the socket and not yet taken by TLS.
    incoming: Vec<u8>,
    start: usize,
    end: usize,
    /// Opened and not yet asked for, from `taken` on.
    plain: Vec<u8>,
    taken: usize,
    outgoing: Vec<u8>,
    /// Written and not yet sent: what is small goes with what follows it.
    waiting: Vec<u8>,
    timeouts: Timeouts,
    clock: Clock,
}

/// Buffers of connections that rest: a short exchange would spend its time on fresh ones.
static SPARE: Mutex<Vec<(Vec<u8>, Vec<u8>)>> = Mutex::new(Vec::new());
const SPARES: usize = 16;

fn spare() -> MutexGuard<'static, Vec<(Vec<u8>, Vec<u8>)>> {
    SPARE.lock().expect("no holder of this lock panics")
}

fn buffers() -> (Vec<u8>, Vec<u8>) {
    spare().pop().unwrap_or_else(|| (vec![0; INCOMING_BYTES], vec![0; OUTGOING_BYTES + RECORD_OVERHEAD]))
}

/// Where TLS stands.
enum Stand {
    /// This many plain bytes were filled in.
    Filled(usize),
    /// It needs bytes from the other side: to go on, or, the handshake being over, for whatever comes next.
    Needs { open: bool },
}

impl<S: Side> Stream<S> {
    /// `head` was read from the socket already.
    pub fn new(socket: TcpStream, tls: S, head: &[u8], timeouts: Timeouts, clock: Clock) -> Self {
        let (mut incoming, outgoing) = buffers();
        incoming.resize(INCOMING_BYTES.max(head.len()), 0);
        incoming[..head.len()].copy_from_slice(head);
        let (start, end) = (0, head.len());
        let (plain, waiting) = (Vec::new(), Vec::new());
        Self { socket, tls, incoming, start, end, plain, taken: 0, outgoing, waiting, timeouts, clock }
    }

    /// From now on waits end so. The first call after `rest` gets buffers.
    pub fn wait_for(&mut self, timeouts: Timeouts) {
        self.timeouts = timeouts;
        if self.incoming.is_empty() {
            (self.incoming, self.outgoing) = buffers();
        }
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Returns the other side's key, which it has proved to hold.
    pub fn shake_hands(&mut self) -> Result<[u8; 32], Broken> {
        while let Stand::Needs { open: false } = self.step(&mut [])? {
            self.receive()?;
        }
        if self.tls.alpn() != Some(ALPN) {
            return Err(Broken::Malformed("a connection for another protocol"));
        }
        let certificate = self.tls.certificates().and_then(<[_]>::first);
        certificate.and_then(|one| host_of(one)).ok_or(Broken::Stranger(None))
    }

    pub fn read_exact(&mut self, wanted: &mut [u8]) -> Result<(), Broken> {
        self.read_telling(wanted, || ())
    }

    /// The same; `came` hears whenever something came from the socket.
    pub fn read_telling(&mut self, mut wanted: &mut [u8], came: impl Fn()) -> Result<(), Broken> {
        while !wanted.is_empty() {
            let kept = &self.plain[self.taken..];
            if kept.is_empty() {
                match self.step(wanted)? {
                    Stand::Filled(filled) => wanted = &mut wanted[filled..],
                    Stand::Needs { .. } => {
                        self.receive()?;
                        came();
                    }
                }
                continue;
            }
            let length = kept.len().min(wanted.len());
            wanted[..length].copy_from_slice(&kept[..length]);
            self.taken += length;
            wanted = &mut wanted[length..];
        }
        Ok(())
    }

    /// What is small may wait until `flush`, or until something is read.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if self.waiting.len() + bytes.len() > OUTGOING_BYTES {
            self.flush()?;
        }
        if bytes.len() < OUTGOING_BYTES {
            self.waiting.extend_from_slice(bytes);
            return Ok(());
        }
        bytes.chunks(OUTGOING_BYTES).try_for_each(|piece| self.send(piece))
    }

    pub fn flush(&mut self) -> Result<(), Broken> {
        let mut waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        let sent = self.send(&waiting);
        waiting.clear();
        self.waiting = waiting;
        sent
    }

    fn send(&mut self, piece: &[u8]) -> Result<(), Broken> {
        let sealed = self.seal(piece)?;
        send(&mut self.socket, &self.outgoing[..sealed], self.timeouts, &self.clock)
    }

    /// Whether nothing has come since `rest`: neither an end nor bytes that nobody asked for.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let peeked = self.socket.set_nonblocking(true).and_then(|()| self.socket.peek(&mut byte));
        let waiting = matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock);
        waiting && self.socket.set_nonblocking(false).is_ok()
    }

    /// Gives the buffers back until `wait_for` begins another exchange. False where bytes came that nobody asked for.
    pub fn rest(&mut self) -> bool {
        let quiet = self.start == self.end && self.taken == self.plain.len();
        let pair = (std::mem::take(&mut self.incoming), std::mem::take(&mut self.outgoing));
        if pair.0.len() == INCOMING_BYTES && spare().len() < SPARES {
            spare().push(pair);
        }
        (self.plain, self.waiting) = (Vec::new(), Vec::new());
        (self.start, self.end, self.taken) = (0, 0, 0);
        quiet
    }

    /// Lets TLS do what it can with what was read; plain bytes go into `wanted`, what does not fit is kept.
    fn step(&mut self, wanted: &mut [u8]) -> Result<Stand, Broken> {
        let mut flight = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.tls.step(&mut self.incoming[self.start..self.end]);
            let stand = match state.map_err(broken)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    let mut filled = 0;
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(broken)?;
                        discard += record.discard;
                        let fits = record.payload.len().min(wanted.len() - filled);
                        wanted[filled..filled + fits].copy_from_slice(&record.payload[..fits]);
                        filled += fits;
                        if self.taken == self.plain.len() {
                            self.plain.clear();
                            self.taken = 0;
                        }
                        self.plain.extend_from_slice(&record.payload[fits..]);
                    }
                    Some(Stand::Filled(filled))
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let encoded = data.encode(&mut self.outgoing[flight..]);
                    flight += encoded.map_err(|error| Broken::Tls(error.to_string()))?;
                    None
                }
                ConnectionState::TransmitTlsData(data) => {
                    send(&mut self.socket, &self.outgoing[..flight], self.timeouts, &self.clock)?;
                    flight = 0;
                    data.done();
                    None
                }
                ConnectionState::BlockedHandshake => Some(Stand::Needs { open: false }),
                ConnectionState::WriteTraffic(_) => Some(Stand::Needs { open: true }),
                _ => return Err(Broken::Closed),
            };
            self.start += discard;
            if let Some(stand) = stand {
                return Ok(stand);
            }
        }
    }

    fn receive(&mut self) -> Result<(), Broken> {
        self.flush()?;
        self.incoming.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let room = &mut self.incoming[self.end..];
        if room.is_empty() {
            return Err(Broken::Malformed("a TLS message that is too long"));
        }
        self.end += receive(&mut self.socket, room, self.timeouts, &self.clock)?;
        Ok(())
    }

    fn seal(&mut self, piece: &[u8]) -> Result<usize, Broken> {
        loop {
            let state = self.tls.step(&mut self.incoming[self.start..self.start]);
            match state.state.map_err(broken)? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let sealed = traffic.encrypt(piece, &mut self.outgoing);
                    return sealed.map_err(|error| Broken::Tls(error.to_string()));
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let length = data.encode(&mut self.outgoing).map_err(|error| Broken::Tls(error.to_string()))?;
                    send(&mut self.socket, &self.outgoing[..length], self.timeouts, &self.clock)?;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                _ => return Err(Broken::Closed),
            }
        }
    }
}

/// A wait that a signal cut short goes on.
fn forgive(error: std::io::Error) -> Result<(), Broken> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(Broken::Late),
        _ => Err(Broken::Io(error)),
    }
}

/// Reads what has come, one byte at least.
pub fn receive(socket: &mut TcpStream, room: &mut [u8], timeouts: Timeouts, clock: &Clock) -> Result<usize, Broken> {
    loop {
        socket.set_read_timeout(Some(timeouts.next_wait(clock.now())?)).map_err(Broken::Io)?;
        match socket.read(room) {
            Ok(0) => return Err(Broken::Closed),
            Ok(length) => return Ok(length),
            Err(error) => forgive(error)?,
        }
    }
}

/// Writes all of it.
pub fn send(socket: &mut TcpStream, mut bytes: &[u8], timeouts: Timeouts, clock: &Clock) -> Result<(), Broken> {
    while !bytes.is_empty() {
        socket.set_write_timeout(Some(timeouts.next_wait(clock.now())?)).map_err(Broken::Io)?;
        match socket.write(bytes) {
            Ok(0) => return Err(Broken::Closed),
            Ok(length) => bytes = &bytes[length..],
            Err(error) => forgive(error)?,
        }
    }
    Ok(())
}

fn broken(error: rustls::Error) -> Broken {
    if let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))) = &error
        && let Some(Stranger(host)) = other.downcast_ref()
    {
        return Broken::Stranger(*host);
    }
    Broken::Tls(error.to_string())
}
