//! The failures of the addon. Three kinds of the outside world (`Io`, `Unsupported`, `Corrupt`), one of
//! cryptography (`Forged`), one of the caller (`Invalid`). Our own bugs are assertions. Each has a code that
//! `src/base/errors.ts` lists; `detail` never carries a secret.

use std::fmt;
use std::io::{self, ErrorKind};

#[derive(Debug)]
pub enum Error {
    /// The operating system refused; perhaps a retry helps.
    Io { doing: String, source: io::Error },
    /// Well-formed, but a feature that imager does not read.
    Unsupported { feature: String },
    /// Foreign bytes that contradict themselves. `at` is a byte offset in what was being read.
    Corrupt { what: &'static str, at: u64, why: String },
    /// Sealed bytes that do not open: wrong key, or changed since they were sealed.
    Forged { what: &'static str },
    /// An argument outside its documented range.
    Invalid { what: &'static str, why: String },
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn corrupt(what: &'static str, at: u64, why: impl Into<String>) -> Self {
        Self::Corrupt { what, at, why: why.into() }
    }

    pub fn unsupported(feature: impl Into<String>) -> Self {
        Self::Unsupported { feature: feature.into() }
    }

    pub fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io { doing: doing.into(), source }
    }

    pub fn invalid(what: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { what, why: why.into() }
    }

    /// The medium refused these bytes, others may do: EIO, and what Linux makes of reports of media, integrity and targets.
    pub fn is_bad_medium(&self) -> bool {
        const ERRNOS: [i32; 5] = [libc::EIO, libc::ENODATA, libc::EREMOTEIO, libc::EILSEQ, libc::EBADMSG];
        matches!(self, Self::Io { source, .. } if source.raw_os_error().is_some_and(|errno| ERRNOS.contains(&errno)))
    }

    /// The code under which `docs/errors.md` explains this failure.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { source, .. } if is_full(source) => "SYSTEM",
            Self::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => "DENIED",
            Self::Io { source, .. } if is_exhausted(source) => "EXHAUSTED",
            Self::Io { .. } => "IO",
            Self::Unsupported { .. } => "UNSUPPORTED",
            Self::Corrupt { .. } => "CORRUPT",
            Self::Forged { .. } => "FORGED",
            Self::Invalid { .. } => "INVALID",
        }
    }
}

/// Nothing is broken; there is no room.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// This computer has no more of something: descriptors, memory, threads, ports. Whoever was to be asked knows nothing of it.
pub fn is_exhausted(error: &io::Error) -> bool {
    const ERRNOS: [i32; 6] =
        [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EAGAIN, libc::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|errno| ERRNOS.contains(&errno))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
            Self::Unsupported { feature } => write!(f, "{feature} is not supported"),
            Self::Corrupt { what, at, why } => write!(f, "{what} at byte {at}: {why}"),
            Self::Forged { what } => write!(f, "{what} does not open with its key"),
            Self::Invalid { what, why } => write!(f, "{what}: {why}"),
        }
    }
}

impl std::error::Error for Error {}
