//! How an address becomes a socket. It is passed to the client as a part, so that a test can have it reach whom it likes.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

use super::endpoint::Address;
use crate::base::clock::Clock;
use crate::base::error::is_exhausted;

/// Connects to an address before a moment, or says why not.
pub type Dial = Box<dyn Fn(&Address, Instant) -> Result<TcpStream> + Send + Sync>;

/// Dials over TCP.
pub fn tcp(clock: Clock) -> Dial {
    Box::new(move |address, limit| reach(address, limit, &clock))
}

/// The first of a name's addresses that answers. Each gets a millisecond at least: zero is no timeout for a socket.
fn reach((name, port): &Address, limit: Instant, clock: &Clock) -> Result<TcpStream> {
    let mut failure = Error::new(ErrorKind::NotFound, "the name has no address");
    for address in (name.as_str(), *port).to_socket_addrs().map_err(own_lack)? {
        let left = limit.saturating_duration_since(clock.now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(socket) => return socket.set_nodelay(true).map(|()| socket),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// A resolver that gets no descriptor says that it found nothing: whether one is to be had says whose fault it is.
fn own_lack(unresolved: Error) -> Error {
    match UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) {
        Err(error) if is_exhausted(&error) => error,
        _ => unresolved,
    }
}
