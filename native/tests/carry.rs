//! Data connections between real threads over loopback, and what hostile ends of them can do: nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use imager_native::base::clock::Clock;
use imager_native::base::secret::Secret;
use imager_native::formats::descriptor::Descriptor;
use imager_native::formats::domains::Domains;
use imager_native::formats::frame::{Fetch, Kind, PREAMBLE, TO_END};
use imager_native::formats::names::RunName;
use imager_native::formats::page::{MapEntry, Page, Ref};
use imager_native::formats::shard::BODY_OFFSET;
use imager_native::retrieve::disk_reader::Reader;
use imager_native::retrieve::parts::DirectParts;
use imager_native::retrieve::patience::Patience;
use imager_native::retrieve::records::Location;
use imager_native::retrieve::routes::{Layout, Routes, Shard};
use imager_native::retrieve::window::{BlockCache, Window};
use imager_native::stripes::erasure::Scheme;
use imager_native::stripes::stripe;
use imager_native::wire::broken::Broken;
use imager_native::wire::client::{Client, Stop};
use imager_native::wire::dial;
use imager_native::wire::endpoint::{Address, Endpoint};
use imager_native::wire::frames::{read_frame, write_frame};
use imager_native::wire::identity::{Identity, host_of};
use imager_native::wire::outcome::Outcome;
use imager_native::wire::server::{Asked, Limits, Order, Question, Server, Unsent};
use imager_native::wire::stream::Stream;
use imager_native::wire::timeouts::Timeouts;
use imager_native::wire::turns::Turn;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut field = vec![tag];
    match body.len() {
        0..=0x7f => field.push(body.len() as u8),
        0x80..=0xff => field.extend([0x81, body.len() as u8]),
        length => field.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    [field, body].concat()
}

fn pem(label: &str, bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0, |word, at| (word << 8) | u32::from(chunk.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let digit = DIGITS[((word >> (18 - 6 * at)) & 63) as usize] as char;
            text.push(if at <= chunk.len() { digit } else { '=' });
        }
    }
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// As `src/keys/certificate.ts` makes it.
fn certificate(secret: &Secret) -> Vec<u8> {
    let algorithm = der(0x30, &[&[0x06, 0x03, 0x2b, 0x65, 0x70]]);
    let name = der(0x30, &[&der(0x31, &[&der(0x30, &[&[0x06, 0x03, 0x55, 0x04, 0x03], &der(0x0c, &[b"x"])])])]);
    let validity = der(0x30, &[&der(0x17, &[b"200101000000Z"]), &der(0x18, &[b"99991231235959Z"])]);
    let spki =
        [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], &secret.signing_key()[..]].concat();
    let body = der(0x30, &[&der(0x02, &[&[1]]), &algorithm, &name, &validity, &name, &spki]);
    let signature = der(0x03, &[&[0], &secret.sign(&body)]);
    der(0x30, &[&body, &algorithm, &signature])
}

fn identity(secret: &Secret) -> Identity {
    let key = pem("PRIVATE KEY", &secret.tls_key());
    Identity::from_pem(&key, &pem("CERTIFICATE", &certificate(secret))).unwrap()
}

fn secret(byte: u8) -> Secret {
    Secret::new([byte; 32])
}

fn a_shard(body: usize) -> Vec<u8> {
    let pack: Vec<u8> = (0..body).map(|at| ((at * 7) >> 3) as u8).collect();
    let run = RunName { writer: secret(3).signing_key(), run: [2; 8] };
    let template =
        Descriptor { fleet: [1; 16], run, number: 9, k: 0, m: 0, pack_bytes: 0, trailer: [0; 32], roots: vec![] };
    let stripe = stripe::encode(pack, Scheme::new(1, 1).unwrap(), &template, &secret(3)).unwrap();
    stripe.file(0).unwrap().concat()
}

const SHARD: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255];

const LIMITS: Limits = Limits {
    connections: 4,
    connections_per_host: 3,
    greeting: Duration::from_secs(2),
    idle: Duration::from_millis(400),
    keep: Duration::from_secs(5),
    transfer: Duration::from_secs(3),
};

/// A server behind a port, with a folder of its own. Questions: `put LENGTH`, anything else is refused with its own words. A
/// fetch that it is asked about is answered from the one file that is put, whichever shard it names.
struct Lab {
    server: Arc<Server>,
    port: u16,
    folder: PathBuf,
    /// What became of each body.
    received: Arc<Mutex<Vec<String>>>,
}

static LABS: AtomicUsize = AtomicUsize::new(0);

impl Lab {
    fn new() -> Self {
        let number = LABS.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("imager-carry-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (place, noted) = (folder.clone(), received.clone());
        // One that nobody can answer any more ends its connection; these are held as long as the server is.
        let unanswered = Mutex::new(Vec::new());
        let ask = move |asked: Asked| {
            assert_eq!(asked.host, secret(1).signing_key(), "only the appliance asks in these tests");
            let message = match &asked.question {
                Question::Message(message) => message.clone(),
                Question::Fetch(Fetch { range, .. }) => {
                    let (path, range) = (place.join("shard"), range.clone());
                    let asked = Arc::new(asked);
                    let again = asked.clone();
                    let sent = Box::new(move |result: Result<(), Unsent>| {
                        if let Err(why) = result {
                            again.order(Order::Refuse(format!("{why:?}").into()));
                        }
                    });
                    asked.order(Order::Send { path, range, sent });
                    return;
                }
            };
            let words = String::from_utf8(message.clone()).unwrap();
            let numbers: Vec<usize> = words.split(' ').filter_map(|word| word.parse().ok()).collect();
            match (words.split(' ').next().unwrap(), &numbers[..]) {
                ("put", &[length]) => {
                    let (noted, asked) = (noted.clone(), Arc::new(asked));
                    let again = asked.clone();
                    let received = Box::new(move |result: Result<_, _>| {
                        let text = result.map_or_else(|why| format!("{why:?}"), |_| "sound".to_string());
                        let order =
                            if text == "sound" { Order::Done(vec![]) } else { Order::Refuse(text.clone().into()) };
                        noted.lock().unwrap().push(text);
                        again.order(order);
                    });
                    asked.order(Order::Receive { path: place.join("shard"), length, received });
                }
                ("silence", _) => unanswered.lock().unwrap().push(asked),
                ("out", _) => drop(asked.order(Order::Expel(b"out".to_vec()))),
                _ => drop(asked.order(Order::Refuse(message))),
            }
        };
        let server = Server::new(&identity(&secret(2)), LIMITS, Clock::SYSTEM, Box::new(ask)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepting = server.clone();
        thread::spawn(move || {
            for socket in listener.incoming() {
                let socket = socket.unwrap();
                narrow(&socket);
                accepting.adopt(socket, Vec::new()).unwrap();
            }
        });
        Self { server, port, folder, received }
    }

    fn target(&self) -> Endpoint {
        target(self.port, secret(2).signing_key())
    }

    fn ask(&self, client: &Client, question: &str, parts: &[&[u8]]) -> Outcome {
        client.put(&self.target(), question.as_bytes(), parts, &Stop::default())
    }

    fn fetch(&self, client: &Client, range: Range<u64>) -> Outcome {
        client.fetch(&self.target(), &SHARD, range, &Stop::default())
    }

    /// The file from which readers are answered at once.
    fn shelve(&self, bytes: &[u8]) -> PathBuf {
        let path = self.folder.join("00/000102030405060708090a0b0c0d0eff.shard");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn let_read(&self, readers: &[u8]) {
        let readers = readers.iter().map(|&byte| secret(byte).signing_key()).collect();
        self.server.let_read(self.folder.clone(), readers);
    }

    /// A client without manners, after its handshake.
    fn rude(&self) -> Stream<UnbufferedClientConnection> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        narrow(&socket);
        socket.write_all(PREAMBLE).unwrap();
        let config = Arc::new(identity(&secret(1)).client(secret(2).signing_key()).unwrap());
        let side = UnbufferedClientConnection::new(config, ServerName::try_from("imager").unwrap()).unwrap();
        let soon = Timeouts::within(Duration::from_secs(5), Instant::now());
        let mut stream = Stream::new(socket, side, &[], soon, Clock::SYSTEM);
        assert_eq!(stream.shake_hands().unwrap(), secret(2).signing_key());
        stream
    }

    fn wait_for(&self, connections: usize) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.server.connections() != connections {
            assert!(Instant::now() < deadline, "{} connections", self.server.connections());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.server.close(Duration::ZERO);
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// So that a body that nobody reads is not lost in the kernel's buffers, which may grow to any size.
fn narrow(socket: &TcpStream) {
    let bytes: libc::c_int = 128 << 10;
    for option in [libc::SO_SNDBUF, libc::SO_RCVBUF] {
        let (fd, length) = (socket.as_raw_fd(), size_of_val(&bytes) as libc::socklen_t);
        // SAFETY: the kernel reads one c_int, which lives as long as the call; the descriptor is open.
        let set = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const bytes).cast(), length) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }
}

fn target(port: u16, host: [u8; 32]) -> Endpoint {
    let second = Duration::from_secs(1);
    let deadline = Instant::now() + 10 * second;
    let addresses = vec![("127.0.0.1".to_string(), port)];
    Endpoint { host, addresses, connect: 5 * second, idle: 5 * second, deadline, keep: 5 * second, at_once: 4 }
}

fn client() -> Client {
    Client::new(identity(&secret(1)), Clock::SYSTEM, dial::tcp(Clock::SYSTEM))
}

#[test]
fn a_shard_goes_there_and_comes_back_on_one_connection() {
    let (lab, client) = (Lab::new(), client());
    for body in [1, 65_536, 300_000, 4 << 20] {
        let file = a_shard(body);
        let put = lab.ask(&client, &format!("put {}", file.len()), &[&file]);
        assert_eq!(put, Outcome::Done(vec![]), "{body}");
        assert_eq!(std::fs::read(lab.folder.join("shard")).unwrap(), file);
        for (start, length) in [(0, file.len()), (0, 1), (BODY_OFFSET - 1, 1), (file.len() - 1, 1), (0, 0)] {
            let got = lab.fetch(&client, start as u64..(start + length) as u64);
            assert!(got == Outcome::Done(file[start..start + length].to_vec()), "{length} at {start}");
        }
        assert!(lab.fetch(&client, 0..TO_END) == Outcome::Done(file));
        std::fs::remove_file(lab.folder.join("shard")).unwrap();
    }
    assert_eq!(lab.ask(&client, "why not", &[]), Outcome::Refused(b"why not".to_vec()));
    assert_eq!(lab.server.connections(), 1);
    client.close();
    lab.wait_for(0);
}

#[test]
fn a_damaged_shard_is_noticed_wherever_it_is_and_the_connection_goes_on() {
    let (lab, client) = (Lab::new(), client());
    let sound = a_shard(300_000);
    for at in [0, 20, 40, 100, BODY_OFFSET, 200_000, sound.len() - 1] {
        let mut file = sound.clone();
        file[at] ^= 1;
        let put = lab.ask(&client, &format!("put {}", file.len()), &[&file]);
        // A changed id is for TypeScript to notice; the root of its header covers it all the same.
        assert!(matches!(&put, Outcome::Refused(why) if why.starts_with(b"Damaged")), "byte {at}: {put:?}");
        std::fs::remove_file(lab.folder.join("shard")).unwrap();
    }
    for cut in [1, 95, BODY_OFFSET - 1, BODY_OFFSET, sound.len() - 1] {
        let put = lab.ask(&client, &format!("put {cut}"), &[&sound[..cut]]);
        assert!(matches!(&put, Outcome::Refused(why) if why.starts_with(b"Damaged")), "cut at {cut}: {put:?}");
        std::fs::remove_file(lab.folder.join("shard")).unwrap();
    }
    assert_eq!(lab.server.connections(), 1);
}

#[test]
fn a_disk_that_fails_is_told_and_never_taken_for_zeros() {
    let (lab, client) = (Lab::new(), client());
    let get = |start: u64, length: u64| lab.fetch(&client, start..start + length);
    assert_eq!(get(0, 1), Outcome::Refused(b"Absent".to_vec()));
    std::fs::create_dir(lab.folder.join("shard")).unwrap();
    assert!(matches!(get(0, 10), Outcome::Refused(why) if why.starts_with(b"Disk")));
    std::fs::remove_dir(lab.folder.join("shard")).unwrap();
    std::fs::write(lab.folder.join("shard"), vec![7; 1_000_000]).unwrap();
    for (start, length) in [(0, 1_500_000), (2_000_000, 1), (999_999, 2)] {
        assert_eq!(get(start, length), Outcome::Refused(b"Misfit".to_vec()), "{start}");
    }
    assert_eq!(get(999_990, 10), Outcome::Done(vec![7; 10]));
    assert_eq!(get(5, 0), Outcome::Done(vec![]));
    // The name is taken: nothing is overwritten, and nothing of the body asked for.
    let put = lab.ask(&client, "put 4096", &[&[0; 1000], &[0; 3096]]);
    assert!(matches!(&put, Outcome::Refused(why) if why.starts_with(b"Disk")), "{put:?}");
    assert_eq!(std::fs::read(lab.folder.join("shard")).unwrap(), vec![7; 1_000_000]);
}

#[test]
fn readers_are_answered_at_once_and_everybody_else_is_asked_about() {
    let (lab, client) = (Lab::new(), client());
    lab.shelve(b"at once");
    std::fs::write(lab.folder.join("shard"), b"asked about").unwrap();
    let done = |bytes: &[u8]| Outcome::Done(bytes.to_vec());
    let refused = |why: &[u8]| Outcome::Refused(why.to_vec());
    assert_eq!(lab.fetch(&client, 0..5), done(b"asked"));
    lab.let_read(&[1, 9]);
    assert_eq!(lab.fetch(&client, 3..7), done(b"once"));
    assert_eq!(lab.fetch(&client, 0..TO_END), done(b"at once"));
    // It is asked about with what is known by then, and not tried again.
    for range in [3..8, 8..9, 0..TO_END - 1, TO_END - 2..TO_END - 1, 8..TO_END] {
        assert_eq!(lab.fetch(&client, range.clone()), refused(b"Misfit"), "{range:?}");
    }
    for (start, end) in [(0, 0), (5, 5), (7, 7)] {
        assert_eq!(lab.fetch(&client, start..end), done(b""), "what is no range is no reader's");
    }
    let other = client.fetch(&lab.target(), &[1; 16], 0..5, &Stop::default());
    assert_eq!(other, refused(b"Absent"));
    // Who may read no more is out at once, on the connection that he has.
    lab.let_read(&[9]);
    assert_eq!(lab.fetch(&client, 0..5), done(b"asked"));
    assert_eq!(lab.server.connections(), 1);
}

#[test]
fn a_disk_that_fails_half_way_is_told_behind_zeros() {
    const LENGTH: usize = 4 << 20;
    let lab = Lab::new();
    let path = lab.shelve(&[7; LENGTH]);
    lab.let_read(&[1]);
    let mut stream = lab.rude();
    write_frame(&mut stream, Kind::Fetch, &Fetch { shard: SHARD, range: 0..TO_END }.encode()).unwrap();
    let (kind, length) = read_frame(&mut stream).unwrap();
    assert_eq!((kind, &length[..]), (Kind::Go, &(LENGTH as u64).to_le_bytes()[..]));
    // More is to come than lies in any buffer between.
    std::fs::File::options().write(true).open(path).unwrap().set_len(0).unwrap();
    let mut body = vec![1; LENGTH];
    stream.read_exact(&mut body).unwrap();
    let read = body.iter().take_while(|&&byte| byte == 7).count();
    assert!((256 << 10..LENGTH).contains(&read) && body[read..].iter().all(|&byte| byte == 0), "{read}");
    let (kind, why) = read_frame(&mut stream).unwrap();
    assert_eq!(kind, Kind::Refused);
    assert!(why.starts_with(b"Disk"), "{}", String::from_utf8_lossy(&why));
    write_frame(&mut stream, Kind::Question, b"x").unwrap();
    assert_eq!(read_frame(&mut stream).unwrap(), (Kind::Refused, b"x".to_vec()));
}

#[test]
fn only_the_pinned_host_is_spoken_to() {
    let lab = Lab::new();
    let wrong = target(lab.port, secret(9).signing_key());
    let outcome = client().put(&wrong, b"put 1", &[&[1]], &Stop::default());
    let address = format!("127.0.0.1:{}", lab.port);
    assert_eq!(outcome, Outcome::Lied { address, actual: Some(secret(2).signing_key()) });
    lab.wait_for(0);
    assert!(lab.received.lock().unwrap().is_empty());
}

#[test]
fn what_carries_no_data_is_told_from_what_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers = thread::spawn(move || {
        for answer in [&b""[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x46"] {
            let (mut socket, _) = listener.accept().unwrap();
            let mut preamble = [0; PREAMBLE.len()];
            socket.read_exact(&mut preamble).unwrap();
            assert_eq!(preamble, *PREAMBLE);
            socket.write_all(answer).unwrap();
        }
    });
    let ask = || client().put(&target(port, secret(2).signing_key()), b"x", &[], &Stop::default());
    for _ in 0..3 {
        assert!(matches!(ask(), Outcome::NotCarried { .. }));
    }
    answers.join().unwrap();
    assert!(matches!(ask(), Outcome::Unreachable { .. }));
}

#[test]
fn noise_silence_and_crowds_end_by_themselves() {
    let lab = Lab::new();
    let open = |bytes: &[u8]| {
        let mut socket = TcpStream::connect(("127.0.0.1", lab.port)).unwrap();
        socket.write_all(bytes).unwrap();
        socket
    };
    let noise = [&PREAMBLE[..], &[0x16, 3, 1, 0xff, 0xff, 1, 2, 3]].concat();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &noise, b"imager/2", b"i"] {
        let _ = open(bytes).read_to_end(&mut Vec::new());
    }
    lab.wait_for(0);
    // Handshakes that are never begun fill all places; they are free again soon.
    let silent: Vec<_> = (0..4).map(|_| open(PREAMBLE)).collect();
    lab.wait_for(4);
    let mut refused = open(PREAMBLE);
    let mut nothing = Vec::new();
    assert!(refused.read_to_end(&mut nothing).is_err() || nothing.is_empty());
    lab.wait_for(0);
    drop(silent);
    let file = a_shard(1);
    assert_eq!(lab.ask(&client(), &format!("put {}", file.len()), &[&file]), Outcome::Done(vec![]));
}

#[test]
fn one_host_gets_no_more_than_its_places() {
    let lab = Lab::new();
    let held: Vec<_> = (0..3).map(|_| lab.rude()).collect();
    lab.wait_for(3);
    assert!(matches!(lab.ask(&client(), "x", &[]), Outcome::NotCarried { .. }));
    drop(held);
    lab.wait_for(0);
    assert_eq!(lab.ask(&client(), "x", &[]), Outcome::Refused(b"x".to_vec()));
}

#[test]
fn who_is_expelled_hears_why_and_keeps_no_place() {
    let (lab, client) = (Lab::new(), client());
    for _ in 0..5 {
        assert_eq!(lab.ask(&client, "out", &[]), Outcome::Refused(b"out".to_vec()));
        lab.wait_for(0);
    }
}

#[test]
fn a_client_without_manners_is_cut() {
    let lab = Lab::new();
    type Act = fn(&mut Stream<UnbufferedClientConnection>) -> Result<(), Broken>;
    let acts: [Act; 7] = [
        |stream| stream.write_all(&[9; 100]),
        |stream| stream.write_all(&[&[Kind::Question as u8][..], &u32::MAX.to_le_bytes()].concat()),
        |stream| write_frame(stream, Kind::Go, b"8"),
        |stream| write_frame(stream, Kind::Fetch, &[0; 31]),
        |stream| write_frame(stream, Kind::Fetch, &[0; 33]),
        // A question that never ends, byte by byte and then not at all.
        |stream| stream.write_all(&[Kind::Question as u8, 10, 0, 0, 0, 1]),
        |_| Ok(()),
    ];
    for (index, act) in acts.iter().enumerate() {
        let mut stream = lab.rude();
        act(&mut stream).unwrap();
        let mut byte = [0];
        assert!(matches!(stream.read_exact(&mut byte), Err(Broken::Closed | Broken::Io(_))), "{index}");
        lab.wait_for(0);
    }
    // A body that stops half way is cut, and one that is too long is no question.
    let file = a_shard(300_000);
    for sent in [file[..150_000].to_vec(), [&file[..], &[9; 64]].concat()] {
        let mut stream = lab.rude();
        write_frame(&mut stream, Kind::Question, format!("put {}", file.len()).as_bytes()).unwrap();
        assert_eq!(read_frame(&mut stream).unwrap().0, Kind::Go);
        stream.write_all(&sent).unwrap();
        lab.wait_for(0);
        std::fs::remove_file(lab.folder.join("shard")).unwrap();
    }
    let received = lab.received.lock().unwrap();
    assert!(received[0].starts_with("Cut"), "{received:?}");
    assert_eq!(received[1], "sound");
}

/// A server without manners: after its handshake and a question it does what `act` says.
fn liar(act: fn(&mut Stream<UnbufferedServerConnection>)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut preamble = [0; PREAMBLE.len()];
        socket.read_exact(&mut preamble).unwrap();
        let side = UnbufferedServerConnection::new(Arc::new(identity(&secret(2)).server().unwrap())).unwrap();
        let soon = Timeouts::within(Duration::from_secs(5), Instant::now());
        let mut stream = Stream::new(socket, side, &[], soon, Clock::SYSTEM);
        stream.shake_hands().unwrap();
        read_frame(&mut stream).unwrap();
        act(&mut stream);
        stream.flush().unwrap();
    });
    port
}

#[test]
fn a_server_that_lies_about_a_body_is_found_out() {
    let acts: [fn(&mut Stream<UnbufferedServerConnection>); 6] = [
        |stream| write_frame(stream, Kind::Go, &u64::MAX.to_le_bytes()).unwrap(),
        |stream| write_frame(stream, Kind::Go, &11_u64.to_le_bytes()).unwrap(),
        |stream| write_frame(stream, Kind::Go, &9_u64.to_le_bytes()).unwrap(),
        |stream| write_frame(stream, Kind::Go, b"8").unwrap(),
        |stream| write_frame(stream, Kind::Done, &[]).unwrap(),
        |stream| {
            write_frame(stream, Kind::Go, &10_u64.to_le_bytes()).unwrap();
            stream.write_all(&[7; 10]).unwrap();
            write_frame(stream, Kind::Go, &[]).unwrap();
        },
    ];
    for (index, act) in acts.into_iter().enumerate() {
        let target = target(liar(act), secret(2).signing_key());
        let outcome = client().fetch(&target, &SHARD, 0..10, &Stop::default());
        assert!(matches!(outcome, Outcome::Malformed { .. }), "{index}: {outcome:?}");
    }
    let cut = |stream: &mut Stream<UnbufferedServerConnection>| {
        write_frame(stream, Kind::Go, &10_u64.to_le_bytes()).unwrap();
        stream.write_all(&[7; 9]).unwrap();
    };
    let target = target(liar(cut), secret(2).signing_key());
    let outcome = client().fetch(&target, &SHARD, 0..10, &Stop::default());
    assert!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome:?}");
}

#[test]
fn an_exchange_ends_at_its_deadline_or_when_it_is_stopped() {
    let lab = Lab::new();
    let client = Arc::new(client());
    // But for what is tried it would wait an hour.
    let hour = Duration::from_secs(3600);
    let patient = || Endpoint { deadline: Instant::now() + hour, idle: hour, ..lab.target() };
    let late = Endpoint { deadline: Instant::now() + Duration::from_millis(300), ..patient() };
    let outcome = client.put(&late, b"silence", &[], &Stop::default());
    assert!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome:?}");
    let stop = Arc::new(Stop::default());
    let stopping = stop.clone();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        stopping.stop();
    });
    client.put(&patient(), b"silence", &[], &stop);
}

#[test]
fn a_server_that_closes_lets_an_exchange_end_and_takes_no_other() {
    let (lab, client) = (Lab::new(), client());
    let idle = lab.rude();
    lab.server.close(Duration::from_secs(3600));
    lab.wait_for(0);
    drop(idle);
    assert!(matches!(lab.ask(&client, "x", &[]), Outcome::NotCarried { .. }));
}

#[test]
fn certificates_of_no_host_have_no_key() {
    let good = certificate(&secret(5));
    assert_eq!(host_of(&good), Some(secret(5).signing_key()));
    for cut in 0..good.len() {
        assert_eq!(host_of(&good[..cut]), None, "{cut}");
    }
    // Whatever is changed, it is read without a panic, and the key is what lies in the key's own place or nothing.
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut changed = good.clone();
            changed[at] ^= 1 << bit;
            let _ = host_of(&changed);
        }
    }
    assert_eq!(host_of(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    assert_eq!(host_of(&[]), None);
}

/// Two blocks of a disk in a pack of two shards; the second block's record lies in both.
struct Disk {
    domains: Arc<Domains>,
    page: Arc<Page>,
    locations: Vec<Location>,
    window: Arc<Window>,
    files: [Vec<u8>; 2],
}

const SECOND: [u8; 16] = [1; 16];
const BLOCK: usize = 60_000;

fn disk() -> Disk {
    let domains = Arc::new(Domains::new(&secret(8), &[]));
    let domain = domains.newest();
    let (mut pack, mut entries, mut locations) = (vec![], vec![], vec![]);
    for at in 0..2u64 {
        let plain: Vec<u8> = (0..BLOCK as u64).map(|i| ((i * i * (at + 3)) >> 5) as u8).collect();
        let key = domain.block_key(&plain);
        let offset = pack.len() as u32;
        let length = domain.seal(&key, &plain, 1, &mut pack) as u32;
        locations.push(Location { stripe: 9, offset, length });
        let block = Ref { key, birth: 1 << 40 };
        entries.push(MapEntry { disk: at * BLOCK as u64, length: BLOCK as u32, in_block: 0, block });
    }
    let page = Arc::new(Page::Map(entries));
    let window = Window::new(page.clone(), &locations).unwrap();
    let body = (pack.len() - 1000) as u32;
    let file = |part: &[u8]| [&vec![0; BODY_OFFSET][..], part].concat();
    let files =
        [file(&pack[..body as usize]), file(&[&pack[body as usize..], &vec![0; body as usize - 1000]].concat())];
    Disk { domains: domains.clone(), page, locations, window: Arc::new(window), files }
}

/// A reader of that disk, and the routes it goes by. Without `second` nobody has its second shard.
fn reader_by(
    client: Client,
    target: Option<Endpoint>,
    host: [u8; 32],
    disk: &Disk,
    second: bool,
) -> (Arc<Reader>, Arc<Mutex<Routes>>) {
    let [least, quiet, aside] = [300, 3000, 20_000].map(Duration::from_millis);
    let patience = Patience { least, bytes_per_ms: 4000, quiet, aside };
    let routes = Arc::new(Mutex::new(Routes::default()));
    let shard = |index: u32, id| Shard { index, id, host, root: [0; 32] };
    let shards = vec![shard(0, SHARD), shard(1, SECOND)].into_iter().take(if second { 2 } else { 1 }).collect();
    let pack_bytes = 2 * (disk.files[0].len() - BODY_OFFSET) as u32;
    routes.lock().unwrap().learn(9, Layout { k: 2, m: 0, pack_bytes, shards });
    let parts = DirectParts::new(Arc::new(client), Clock::SYSTEM, patience, routes.clone());
    target.into_iter().for_each(|target| parts.learn_host(target));
    let reader = Arc::new(Reader::new(Arc::new(parts), BlockCache::new(1 << 20), disk.domains.clone()));
    reader.learn(0..=0, std::slice::from_ref(&disk.page), &disk.locations).unwrap();
    (reader, routes)
}

fn reader(client: Client, target: Endpoint, disk: &Disk) -> (Arc<Reader>, Arc<Mutex<Routes>>) {
    let host = target.host;
    reader_by(client, Some(target), host, disk, true)
}

fn is_silent(routes: &Mutex<Routes>, host: [u8; 32]) -> bool {
    routes.lock().unwrap().is_silent(&host, Instant::now())
}

fn wait<T: Send + 'static>(begin: impl FnOnce(Box<dyn FnOnce(T) + Send>)) -> T {
    let (tell, told) = std::sync::mpsc::channel();
    begin(Box::new(move |value| tell.send(value).unwrap()));
    told.recv_timeout(Duration::from_secs(10)).unwrap()
}

fn missing(reader: &Arc<Reader>, disk: &Disk) -> Vec<u32> {
    wait(|done| reader.fetch(&disk.window, &[0, 1], false, done))
}

fn read(reader: &Arc<Reader>, start: u64, end: u64) -> Option<Vec<u8>> {
    wait(|done| reader.read(start, end, true, move |bytes| done(bytes.map(|bytes| bytes.to_vec()))))
}

/// A lab that sends the disk's shards to the reader at once.
fn shelved(disk: &Disk) -> Lab {
    let lab = Lab::new();
    lab.shelve(&disk.files[0]);
    std::fs::create_dir_all(lab.folder.join("01")).unwrap();
    std::fs::write(lab.folder.join(format!("01/{}.shard", "01".repeat(16))), &disk.files[1]).unwrap();
    lab.let_read(&[1]);
    lab
}

#[test]
fn a_disk_is_read_from_the_hosts_alone_and_each_block_is_fetched_once() {
    let disk = disk();
    let lab = shelved(&disk);
    let (reader, _) = reader(client(), Endpoint { at_once: 1, ..lab.target() }, &disk);
    let (tell, told) = std::sync::mpsc::channel();
    for number in 0..20 {
        let (tell, may_wait) = (tell.clone(), number == 1);
        reader.read(59_000, 61_000, may_wait, move |bytes| tell.send(bytes.map(|bytes| bytes.to_vec())).unwrap());
    }
    let wanted = |at: u64, i: u64| ((i * i * (at + 3)) >> 5) as u8;
    let bytes: Vec<u8> = (59_000..60_000).map(|i| wanted(0, i)).chain((0..1000).map(|i| wanted(1, i))).collect();
    for _ in 0..20 {
        assert!(told.recv_timeout(Duration::from_secs(10)).unwrap().as_ref() == Some(&bytes));
    }
    // It is there now, whatever becomes of the host.
    assert_eq!(lab.server.connections(), 1);
    drop(lab);
    assert!(read(&reader, 59_000, 61_000) == Some(bytes));
    assert_eq!(read(&reader, 8 << 20, (8 << 20) + 1), None, "a window that nobody told of");
    reader.learn(1..=1, &[], &[]).unwrap();
    assert_eq!(read(&reader, 8 << 20, (8 << 20) + 3), Some(vec![0; 3]));
    assert_eq!(read(&reader, (8 << 20) - 1, (8 << 20) + 1), None, "in two windows");
}

#[test]
fn what_is_refused_or_damaged_is_told_and_its_host_asked_again() {
    let disk = disk();
    let lab = shelved(&disk);
    let path = lab.shelve(&disk.files[0]);
    let last = disk.files[0].len() - 1;
    let mut damaged = disk.files[0].clone();
    damaged[last] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let (reader, routes) = reader(client(), lab.target(), &disk);
    assert_eq!(missing(&reader, &disk), [1]);
    assert_eq!(read(&reader, 0, 61_000), None);
    assert!(read(&reader, 0, 60_000).is_some());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(missing(&reader, &disk), [1]);
    assert!(!is_silent(&routes, lab.target().host));
    lab.shelve(&disk.files[0]);
    assert!(missing(&reader, &disk).is_empty());
}

#[test]
fn a_host_that_is_silent_costs_its_patience_once_and_is_named() {
    let disk = disk();
    // It takes connections, and that is all.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = secret(2).signing_key();
    let hour = Duration::from_secs(3600);
    let target = target(listener.local_addr().unwrap().port(), host);
    let target = Endpoint { deadline: Instant::now() + hour, connect: hour, idle: hour, ..target };
    let (reader, routes) = reader(client(), target, &disk);
    // It is not waited for as long as the target says.
    assert_eq!(missing(&reader, &disk), [0, 1]);
    assert!(is_silent(&routes, host));
    listener.set_nonblocking(true).unwrap();
    let tried = || listener.incoming().map_while(Result::ok).count();
    assert!(tried() > 0);
    assert_eq!(read(&reader, 0, 10), None);
    assert_eq!(tried(), 0, "it is not asked again");
    // One of whom nothing is known, or whose shard is damaged, is nobody to be avoided.
    for second in [true, false] {
        let (alone, routes) = reader_by(client(), None, host, &disk, second);
        assert_eq!(missing(&alone, &disk), [0, 1]);
        assert!(!is_silent(&routes, host));
    }
}

/// A clock that is set forward by hand.
fn set_forward() -> (Clock, Arc<Mutex<Duration>>) {
    let (began, passed) = (Instant::now(), Arc::new(Mutex::new(Duration::ZERO)));
    let shown = passed.clone();
    (Clock::told_by(move || began + *shown.lock().unwrap()), passed)
}

#[test]
fn addresses_are_dialled_in_turn_and_a_connection_is_kept_for_its_time_by_the_clock_that_is_given() {
    let lab = Lab::new();
    let (clock, passed) = set_forward();
    let dialled = Arc::new(Mutex::new(vec![]));
    let (noted, port) = (dialled.clone(), lab.port);
    // Names that no resolver knows: they mean what this test says.
    let dial = Box::new(move |(name, _): &Address, _| {
        noted.lock().unwrap().push(name.clone());
        if name == "here" { TcpStream::connect(("127.0.0.1", port)) } else { Err(ErrorKind::ConnectionRefused.into()) }
    });
    let client = Client::new(identity(&secret(1)), clock.clone(), dial);
    let ask = |names: &[&str]| {
        let addresses = names.iter().map(|name| (name.to_string(), 1)).collect();
        let deadline = clock.now() + Duration::from_secs(10);
        let outcome = client.put(&Endpoint { addresses, deadline, ..lab.target() }, b"x", &[], &Stop::default());
        (outcome, std::mem::take(&mut *dialled.lock().unwrap()))
    };
    let refused = || Outcome::Refused(b"x".to_vec());
    assert_eq!(ask(&["away", "here", "never"]), (refused(), vec!["away".into(), "here".into()]));
    assert_eq!(ask(&["away", "here"]), (refused(), vec![]), "the connection is kept");
    *passed.lock().unwrap() += lab.target().keep;
    assert_eq!(ask(&["away", "here"]), (refused(), vec!["here".into()]), "where it answered last");
    lab.wait_for(1);
    client.close();
    let (outcome, tried) = ask(&["away", "gone"]);
    assert!(matches!(&outcome, Outcome::Unreachable { address, .. } if address == "gone:1"), "{outcome:?}");
    assert_eq!(tried, ["away", "gone"]);
    assert_eq!(ask(&[]), (Outcome::undialled(), vec![]));
}

#[test]
fn who_gets_no_turn_in_time_is_dropped_and_the_others_go_on() {
    let client = Arc::new(client());
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let now = Instant::now();
    let host = [1; 32];
    let held = Box::new(move |_| gate.recv().unwrap_or_default());
    client.queue(host, 1, now, held).unwrap();
    for (name, until) in [("late", now + Duration::from_millis(100)), ("patient", now + Duration::from_secs(60))] {
        let tell = tell.clone();
        client.queue(host, 1, until, Box::new(move |turn| tell.send((name, turn)).unwrap())).unwrap();
    }
    let hear = || told.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(hear(), ("late", Turn::Missed));
    assert!(now.elapsed() >= Duration::from_millis(100));
    client.queue([2; 32], 1, now, Box::new(move |turn| tell.send(("another host's", turn)).unwrap())).unwrap();
    assert_eq!(hear(), ("another host's", Turn::Begun));
    drop(open);
    assert_eq!(hear(), ("patient", Turn::Begun));
    // None is told twice: nobody is left who could tell.
    assert!(told.recv_timeout(Duration::from_secs(10)).is_err_and(|error| error == RecvTimeoutError::Disconnected));
}

#[test]
fn whoever_may_wait_takes_a_free_turn_himself_and_hands_it_on() {
    let client = Arc::new(client());
    let (tell, told) = std::sync::mpsc::channel();
    let (host, until) = ([1; 32], Instant::now() + Duration::from_secs(60));
    let (inner, late) = (client.clone(), tell.clone());
    let work = move |turn| {
        assert_eq!(turn, Turn::Begun);
        tell.send(std::thread::current().id()).unwrap();
        assert!(inner.run_here(host, 1, Box::new(|_| ())).is_err(), "the only turn is taken");
        inner.queue(host, 1, until, Box::new(move |_| late.send(std::thread::current().id()).unwrap())).unwrap();
    };
    assert!(client.run_here(host, 1, Box::new(work)).is_ok());
    assert_eq!(told.recv().unwrap(), std::thread::current().id());
    assert_ne!(told.recv_timeout(Duration::from_secs(10)).unwrap(), std::thread::current().id());
    while client.run_here(host, 1, Box::new(|_| ())).is_err() {
        assert!(Instant::now() < until, "the turn never comes back");
    }
}
