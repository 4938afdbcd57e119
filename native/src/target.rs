//! The disk or file that a restore writes. Checks are made before it is opened for writing (`src/disk/target.ts`);
//! here it is blanked, written and made durable.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt};

use crate::error::{Error, Result};

const BLANK_BYTES: u64 = 1 << 30;

pub struct Target {
    file: File,
    path: String,
    length: u64,
    device: bool,
}

impl Target {
    /// A block device of at least `length` bytes, or a file, which is created, or cut to exactly `length`.
    pub fn open(path: &str, length: u64) -> Result<Self> {
        let failed = |error| Error::io(format!("opening {path} for writing"), error);
        let device = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device());
        let mut options = File::options();
        options.write(true).create(!device);
        if device {
            use std::os::unix::fs::OpenOptionsExt;
            // A mounted or otherwise claimed device refuses this.
            options.custom_flags(libc::O_EXCL);
        }
        let file = options.open(path).map_err(failed)?;
        Ok(Self { file, path: path.into(), length, device })
    }

    /// Makes every byte read as zero: a hole in a file, a discarded or zeroed range on a device.
    pub fn blank(&self) -> Result<()> {
        let failed = |error| Error::io(format!("clearing {}", self.path), error);
        if !self.device {
            return self.file.set_len(0).and_then(|()| self.file.set_len(self.length)).map_err(failed);
        }
        let mut at = 0;
        while at < self.length {
            let length = BLANK_BYTES.min(self.length - at);
            if !self.fallocate(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, at, length)
                && !self.fallocate(libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE, at, length)
            {
                self.write_zeros(at, length)?;
            }
            at += length;
        }
        Ok(())
    }

    fn fallocate(&self, mode: i32, at: u64, length: u64) -> bool {
        // SAFETY: a plain system call on a descriptor that lives as long as `self`.
        unsafe { libc::fallocate(self.file.as_raw_fd(), mode, at as i64, length as i64) == 0 }
    }

    fn write_zeros(&self, at: u64, length: u64) -> Result<()> {
        let zeros = vec![0; 1 << 20];
        let end = at + length;
        let mut at = at;
        while at < end {
            let part = (zeros.len() as u64).min(end - at);
            self.write(at, &zeros[..part as usize])?;
            at += part;
        }
        Ok(())
    }

    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        if at.checked_add(bytes.len() as u64).is_none_or(|end| end > self.length) {
            return Err(Error::corrupt("manifest", at, "a block past the end of the disk"));
        }
        let failed = |error| Error::io(format!("writing {} bytes of {} at {at}", bytes.len(), self.path), error);
        self.file.write_all_at(bytes, at).map_err(failed)
    }

    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| Error::io(format!("making {} durable", self.path), error))
    }
}
