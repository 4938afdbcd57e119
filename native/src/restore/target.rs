//! The disk or file that a restore writes. Checks are made before it is opened for writing (`src/disk/target.ts`);
//! here it is blanked, written and made durable.

use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::sync::Mutex;

use crate::base::direct::{Direct, fallocate};
use crate::base::error::{Error, Result};

const BLANK_BYTES: u64 = 1 << 30;
const ZEROS_BYTES: usize = 1 << 20;

pub struct Target {
    file: Direct,
    path: String,
    length: u64,
    device: bool,
    /// By offset: the hash (a block's key) of what was written of a block that is not whole here. Some 50 bytes each.
    partial: Mutex<HashMap<u64, [u8; 32]>>,
}

impl Target {
    /// A block device of at least `length` bytes, or a file, which is created, or cut to exactly `length`.
    pub fn open(path: &str, length: u64) -> Result<Self> {
        let failed = |error| Error::io(format!("opening {path} for writing"), error);
        let device = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device());
        let mut options = File::options();
        options.read(true).write(true).create(!device);
        if device {
            // A mounted or otherwise claimed device refuses this.
            options.custom_flags(libc::O_EXCL);
        }
        let file = options.open(path).map_err(failed)?;
        Ok(Self { file: Direct::new(file), path: path.into(), length, device, partial: Mutex::default() })
    }

    /// Makes every byte read as zero: a hole in a file, a discarded or zeroed range on a device.
    pub fn blank(&self) -> Result<()> {
        let failed = |error| Error::io(format!("clearing {}", self.path), error);
        if !self.device {
            return self.file.set_len(0).and_then(|()| self.file.set_len(self.length)).map_err(failed);
        }
        self.each_part(
            0,
            self.length,
            |at, length| {
                if self.punch(at, length) { Ok(0) } else { self.write_zeros(at, length) }
            },
        )?;
        Ok(())
    }

    /// Makes the size of a file right, and keeps what it holds.
    pub fn resize(&self) -> Result<()> {
        if self.device {
            return Ok(());
        }
        self.file.set_len(self.length).map_err(|error| Error::io(format!("resizing {}", self.path), error))
    }

    /// Makes these bytes read as zero; where that takes writing, only what is not zero yet. Returns what was written.
    pub fn clear(&self, at: u64, length: u64) -> Result<u64> {
        self.each_part(at, length, |at, length| if self.punch(at, length) { Ok(0) } else { self.zero_rest(at, length) })
    }

    /// `Direct::reserve`, for a file.
    pub fn reserve(&self, at: u64, length: u64) -> Result<()> {
        self.require_inside(at, length)?;
        let failed = |error| Error::io(format!("reserving {length} bytes of {} at {at}", self.path), error);
        if self.device { Ok(()) } else { self.file.reserve(at, length).map_err(failed) }
    }

    fn each_part(&self, at: u64, length: u64, part: impl Fn(u64, u64) -> Result<u64>) -> Result<u64> {
        let parts = (0..length.div_ceil(BLANK_BYTES)).map(|number| number * BLANK_BYTES);
        parts.map(|done| part(at + done, BLANK_BYTES.min(length - done))).sum()
    }

    /// A hole, or a range that the device forgets and then gives zeros for.
    fn punch(&self, at: u64, length: u64) -> bool {
        let ways = [libc::FALLOC_FL_PUNCH_HOLE, libc::FALLOC_FL_ZERO_RANGE];
        ways.iter().any(|way| fallocate(&self.file, way | libc::FALLOC_FL_KEEP_SIZE, at, length).is_ok())
    }

    fn zero_rest(&self, at: u64, length: u64) -> Result<u64> {
        let mut buffer = vec![0; ZEROS_BYTES];
        let (mut done, mut written) = (0, 0);
        while done < length {
            let part = &mut buffer[..ZEROS_BYTES.min((length - done) as usize)];
            if !self.read(at + done, part)? {
                break;
            }
            if part.iter().any(|&byte| byte != 0) {
                written += self.write_zeros(at + done, part.len() as u64)?;
            }
            done += part.len() as u64;
        }
        Ok(written)
    }

    fn write_zeros(&self, at: u64, length: u64) -> Result<u64> {
        let zeros = vec![0; ZEROS_BYTES];
        let end = at + length;
        let mut at = at;
        while at < end {
            let part = (zeros.len() as u64).min(end - at);
            self.write(at, &zeros[..part as usize])?;
            at += part;
        }
        Ok(length)
    }

    /// False where a file ends before all of `buffer` is read.
    pub fn read(&self, at: u64, buffer: &mut [u8]) -> Result<bool> {
        match self.file.read_exact_at(buffer, at) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof && !self.device => Ok(false),
            Err(error) => Err(Error::io(format!("reading {} back at {at}", self.path), error)),
        }
    }

    pub fn note_partial(&self, at: u64, hash: [u8; 32]) {
        self.partial.lock().expect("no holder of this lock panics").insert(at, hash);
    }

    pub fn partial(&self, at: u64) -> Option<[u8; 32]> {
        self.partial.lock().expect("no holder of this lock panics").get(&at).copied()
    }

    /// What is read from now on comes from the medium.
    pub fn forget_cached(&self) -> Result<()> {
        self.sync()?;
        // SAFETY: a plain system call on a descriptor that lives as long as `self`.
        let error = unsafe { libc::posix_fadvise(self.file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        if error == 0 { Ok(()) } else { Err(Error::io(self.path.clone(), std::io::Error::from_raw_os_error(error))) }
    }

    fn require_inside(&self, at: u64, length: u64) -> Result<()> {
        match at.checked_add(length) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(Error::corrupt("manifest", at, "a block past the end of the disk")),
        }
    }

    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.require_inside(at, bytes.len() as u64)?;
        let failed = |error| Error::io(format!("writing {} bytes of {} at {at}", bytes.len(), self.path), error);
        self.file.write(at, bytes).map_err(failed)
    }

    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| Error::io(format!("making {} durable", self.path), error))
    }
}
