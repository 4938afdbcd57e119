//! Parsers of foreign bytes run with dropped rights: on a thread of their own, which before it reads anything gives up
//! files, network, signals and programs. Landlock with no path and no port allowed, as far as the kernel's version goes;
//! then a seccomp filter that lets through reads of the given descriptors, memory that is no code, locks, time, randomness
//! and the thread's own end. All else is refused with EPERM, never by killing, so that a panic still unwinds.
//!
//! A thread, because both can be taken on but never put off again, and the rest of the process needs its rights. What it
//! does not protect from: the thread shares the process's memory. Who turned a parser's bug into running code of his own
//! could write over what other threads use; the parsers are safe Rust so that there is no such bug. Where the kernel
//! offers neither, the work is done all the same, and `Confinement` says so.

use std::any::Any;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use crate::base::device::BLKGETSIZE64;
use crate::base::error::{Error, Result};

/// What libuv gives its threads; parsers recurse to depths that `limits` bounds.
const STACK_BYTES: usize = 8 << 20;
/// The newest that the crate knows; what the kernel lacks is left out.
const LANDLOCK: ABI = ABI::V9;

/// Memory; locks, time and the seeds of hash maps; what a panic asks and what ends a thread; signals that meet it.
const ALWAYS: [libc::c_long; 15] = [
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Which of the two the kernel took on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    pub landlock: bool,
    pub seccomp: bool,
}

/// Does `work`, which may read the descriptors `readable` with pread(2) and touch nothing else of the outside world.
pub fn run<T: Send>(readable: &[RawFd], work: impl FnOnce() -> Result<T> + Send) -> Result<(T, Confinement)> {
    thread::scope(|scope| {
        let confined = || {
            let confinement = confine(readable);
            work().map(|value| (value, confinement))
        };
        let named = thread::Builder::new().name("scan".into()).stack_size(STACK_BYTES);
        let thread = named.spawn_scoped(scope, confined).map_err(|error| Error::io("starting a thread", error))?;
        thread.join().unwrap_or_else(|panic| Err(Error::unsupported(failed(panic.as_ref()))))
    })
}

/// Runs a parser; if it panics, that costs what it was parsing and nothing more.
pub fn caught<T>(parse: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(parse)).unwrap_or_else(|panic| Err(Error::unsupported(failed(panic.as_ref()))))
}

/// Where it happened went to stderr.
fn failed(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
    format!("content on which its parser fails ({text})")
}

/// Binds the calling thread, for as long as it lives. Landlock first: taking it on needs what the filter refuses.
fn confine(readable: &[RawFd]) -> Confinement {
    let landlock = restrict().unwrap_or(false);
    let seccomp = filter(readable).is_ok_and(|filter| apply_filter(&filter).is_ok());
    Confinement { landlock, seccomp }
}

fn restrict() -> std::result::Result<bool, RulesetError> {
    let nothing_allowed = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    Ok(nothing_allowed.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

fn filter(readable: &[RawFd]) -> std::result::Result<BpfProgram, seccompiler::BackendError> {
    // Descriptors are 32 bits of the register, and so is what an ioctl asks for.
    let is = |argument, value: u32| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(value))
    };
    // The third argument of mmap and mprotect; what is read in must not become code.
    let never_code = || {
        let masked = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
        SeccompCondition::new(2, SeccompCmpArgLen::Qword, masked, 0)
    };
    let only = |argument, value| SeccompRule::new(vec![is(argument, value)?]);
    let (mut reads, mut sizes) = (Vec::new(), Vec::new());
    for &descriptor in readable {
        reads.push(only(0, descriptor as u32)?);
        sizes.push(SeccompRule::new(vec![is(0, descriptor as u32)?, is(1, BLKGETSIZE64 as u32)?])?);
    }
    let conditional = [
        (libc::SYS_pread64, reads),
        // Whether the disk is still there.
        (libc::SYS_ioctl, sizes),
        // What a panic says.
        (libc::SYS_write, vec![only(0, libc::STDERR_FILENO as u32)?]),
        // Memory that is no file's.
        (libc::SYS_mmap, vec![SeccompRule::new(vec![is(4, u32::MAX)?, never_code()?])?]),
        (libc::SYS_mprotect, vec![SeccompRule::new(vec![never_code()?])?]),
    ];
    // For the filter, a call without conditions is one that is always let through.
    let conditional = conditional.into_iter().filter(|(_, conditions)| !conditions.is_empty());
    let rules = ALWAYS.into_iter().map(|call| (call, Vec::new())).chain(conditional).collect();
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, refused, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?.try_into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs::File;
    use std::io::ErrorKind::PermissionDenied;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileExt;
    use std::process::Command;

    use super::*;
    use crate::base::memory::{changed_page, new_page};

    const SELF: &str = "/proc/self/exe";

    fn refused<T>(result: std::io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == PermissionDenied)
    }

    /// The four bytes that every ELF file starts with.
    fn reads(file: &File) -> bool {
        let mut magic = [0; 4];
        file.read_exact_at(&mut magic, 0).is_ok() && magic == *b"\x7fELF"
    }

    #[test]
    fn inside_an_open_source_can_be_read_and_nothing_else_be_done() {
        let (source, other) = (File::open(SELF).unwrap(), File::open(SELF).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let attempts = || {
            let read = reads(&source);
            let room: HashMap<u32, Vec<u8>> = (0..2000).map(|key| (key, vec![1; 4096])).collect();
            let refusals = [
                ("another descriptor", !reads(&other)),
                ("open", refused(File::open(SELF))),
                ("create", refused(File::create("/tmp/imager-sandbox"))),
                ("list", refused(std::fs::read_dir("/"))),
                ("connect", refused(TcpStream::connect(address))),
                ("socket", refused(UdpSocket::bind("127.0.0.1:0"))),
                ("accept", refused(listener.accept())),
                ("exec", refused(Command::new("/bin/true").status())),
                ("thread", refused(thread::Builder::new().spawn(|| ()))),
                ("nothing: data is allowed", new_page(libc::PROT_READ).and(changed_page(libc::PROT_READ)).is_ok()),
                ("code", refused(new_page(libc::PROT_EXEC))),
                ("data into code", refused(changed_page(libc::PROT_EXEC))),
            ];
            Ok((read && room.len() == 2000, refusals))
        };
        let ((works, refusals), confinement) = run(&[source.as_raw_fd()], attempts).unwrap();
        assert!(works);
        if confinement.seccomp {
            refusals.iter().for_each(|(what, refused)| assert!(refused, "{what} was let through"));
        } else {
            crate::skips::skipped("no seccomp filters in this kernel");
        }
        let (read, confinement) = run(&[], || Ok(reads(&source))).unwrap();
        assert_eq!(read, !confinement.seccomp, "no descriptor is none, not all");
        // The caller is as free as before.
        assert!(reads(&other) && File::open(SELF).is_ok());
        assert!(TcpStream::connect(address).is_ok());
        assert!(Command::new("/bin/true").status().unwrap().success());
    }

    #[test]
    fn landlock_alone_refuses_files_and_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let source = File::open(SELF).unwrap();
            if !restrict().unwrap() {
                return false;
            }
            assert!(reads(&source));
            assert!(refused(File::open(SELF)));
            assert!(refused(Command::new("/bin/true").status()));
            println!(
                "a connection is {}",
                if refused(TcpStream::connect(address)) { "refused" } else { "let through" }
            );
            true
        });
        if !thread.join().unwrap() {
            crate::skips::skipped("no Landlock in this kernel");
        }
    }

    #[test]
    fn a_panic_is_an_error_with_its_reason() {
        let outcome = run::<()>(&[], || panic!("on purpose, {}", 7));
        let error = outcome.unwrap_err();
        assert_eq!(error.code(), "UNSUPPORTED");
        assert!(error.to_string().contains("on purpose, 7"), "{error}");
        assert!(caught::<()>(|| panic!("plain")).unwrap_err().to_string().contains("plain"));
    }
}
