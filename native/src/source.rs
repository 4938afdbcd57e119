//! The disk that is imaged: opened read-only, read at offsets, never written.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use crate::error::{Error, Result};
use crate::volume::ReadAt;

const BLKPBSZGET: libc::Ioctl = 0x127b;
pub const BLKGETSIZE64: libc::Ioctl = 0x8008_1272u32 as libc::Ioctl;
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
        let device = file.metadata().map_err(failed)?.file_type().is_block_device();
        let sector_bytes = device.then(|| physical_sector(&file));
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
        let mut bytes = 0u64;
        // SAFETY: BLKGETSIZE64 writes one u64, which outlives the call.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), BLKGETSIZE64, &raw mut bytes) };
        self.sector_bytes.is_some() && done == 0 && bytes != self.length
    }
}

fn physical_sector(file: &File) -> usize {
    let mut bytes: libc::c_uint = 0;
    // SAFETY: BLKPBSZGET writes one unsigned int, which outlives the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), BLKPBSZGET, &raw mut bytes) };
    let known = done == 0 && (512..=65536).contains(&bytes) && bytes.is_power_of_two();
    if known { bytes as usize } else { PAGE_BYTES }
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
