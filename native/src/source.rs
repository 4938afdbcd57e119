//! The disk that is imaged: opened read-only, read at offsets, never written.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::volume::ReadAt;

pub struct Source {
    file: File,
    path: String,
    length: u64,
}

impl Source {
    /// A block device or a regular file; its length is taken once, here.
    pub fn open(path: &str) -> Result<Self> {
        let failed = |error| Error::io(format!("opening {path}"), error);
        let mut file = File::open(Path::new(path)).map_err(failed)?;
        let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { file, path: path.into(), length })
    }

    /// For `sandbox::run`, which lets nothing else be read.
    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl ReadAt for Source {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(|error| Error::io(format!("reading {} bytes of {} at {offset}", buffer.len(), self.path), error))
    }
}
