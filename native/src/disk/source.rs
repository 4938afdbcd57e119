//! The disk that is imaged: opened read-only, read at offsets, never written.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use crate::base::device;
use crate::base::error::{Error, Result};
use crate::disk::volume::ReadAt;

const PAGE_BYTES: usize = 4096;

pub struct Source {
    /// Until it is closed: a device that is held open cannot be removed.
    file: RwLock<Option<File>>,
    path: String,
    length: u64,
    /// Of a device: its physical sector.
    sector_bytes: Option<usize>,
}

impl Source {
    /// A block device or a regular file; its length is taken once, here.
    pub fn open(path: &str) -> Result<Self> {
        let failed = |error| Error::io(format!("opening {path}"), error);
        let mut file = File::open(Path::new(path)).map_err(failed)?;
        let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let is_device = file.metadata().map_err(failed)?.file_type().is_block_device();
        let sector_bytes = is_device.then(|| device::physical_sector(&file).unwrap_or(PAGE_BYTES));
        Ok(Self { file: RwLock::new(Some(file)), path: path.into(), length, sector_bytes })
    }

    /// Lets go of the device, whoever still holds this. Waits for reads that are under way; later ones fail.
    pub fn close(&self) {
        drop(self.file.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// For `sandbox::run`, which lets nothing else be read.
    pub fn descriptor(&self) -> RawFd {
        self.file.read().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// A disk that was pulled out answers every read with EIO; its size is 0 then.
    fn is_gone(&self, file: &File) -> bool {
        self.sector_bytes.is_some() && device::size(file).is_some_and(|bytes| bytes != self.length)
    }
}

impl ReadAt for Source {
    fn length(&self) -> u64 {
        self.length
    }

    fn sector_bytes(&self) -> usize {
        self.sector_bytes.unwrap_or(PAGE_BYTES)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = file.as_ref() else { return Err(Error::invalid("source", "it was closed")) };
        let Err(error) = file.read_exact_at(buffer, offset) else { return Ok(()) };
        if self.is_gone(file) {
            return Err(Error::io(format!("{} is gone", self.path), std::io::Error::from_raw_os_error(libc::ENODEV)));
        }
        Err(Error::io(format!("reading {} bytes of {} at {offset}", buffer.len(), self.path), error))
    }
}
