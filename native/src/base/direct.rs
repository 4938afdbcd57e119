//! Writing and reading past the page cache: for what is large and not read again soon. The kernel need not find pages for it, nor
//! push out what other programs use; and what is read so comes from the disk.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::base::error::is_full;

/// What memory, offset and length of a direct write are multiples of: a page, and at least a sector of every disk.
pub const DIRECT_BYTES: usize = 4096;

pub struct Direct {
    file: File,
    /// The same file opened with O_DIRECT, whose writes go past the page cache; `None` where the file system cannot.
    direct: Option<File>,
}

impl std::ops::Deref for Direct {
    type Target = File;
    fn deref(&self) -> &File {
        &self.file
    }
}

impl Direct {
    pub fn new(file: File) -> Self {
        // By its descriptor: the very same file, and a device that is claimed already.
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        let direct = File::options().write(true).custom_flags(libc::O_DIRECT).open(again).ok();
        Self { file, direct }
    }

    /// Pages that are filled as a whole go past the page cache. Nobody else writes to them, so nothing of them is in the cache
    /// either; a page that is filled in parts stays in it until it is complete.
    pub fn write(&self, at: u64, bytes: &[u8]) -> std::io::Result<()> {
        let Some(direct) = &self.direct else { return self.file.write_all_at(bytes, at) };
        let page = DIRECT_BYTES as u64;
        let (start, end) = (at.next_multiple_of(page), (at + bytes.len() as u64) / page * page);
        if start >= end || bytes[(start - at) as usize..].as_ptr().align_offset(DIRECT_BYTES) != 0 {
            return self.file.write_all_at(bytes, at);
        }
        let (head, rest) = bytes.split_at((start - at) as usize);
        let (pages, tail) = rest.split_at((end - start) as usize);
        self.file.write_all_at(head, at)?;
        match direct.write_all_at(pages, start) {
            // Some file systems open what they then do not do.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.file.write_all_at(pages, start)?,
            result => result?,
        }
        self.file.write_all_at(tail, end)
    }

    /// Has the file system set aside what is written soon: it cannot run full half way, the file lies in few pieces, and
    /// several threads write at once, where ext4 lets those that also take room for it wait for each other.
    pub fn reserve(&self, at: u64, length: u64) -> std::io::Result<()> {
        match fallocate(self, libc::FALLOC_FL_KEEP_SIZE, at, length) {
            Err(error) if is_full(&error) => Err(error),
            // Not every file system can; the writing will tell.
            _ => Ok(()),
        }
    }
}

/// Reads what the disk has of a synced file. Where the file system cannot read past its cache, what lies in that is let go of before.
pub struct DirectReader {
    file: File,
    /// The same file opened with O_DIRECT; `None` where the file system cannot.
    direct: Option<File>,
}

impl DirectReader {
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        let direct = File::options().read(true).custom_flags(libc::O_DIRECT).open(again).ok();
        if direct.is_none() {
            forget(&file);
        }
        Ok(Self { file, direct })
    }

    pub fn length(&self) -> std::io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Fills `pages`, which are `aligned` and whole, from an offset that is a multiple of them; fewer bytes where the file ends.
    pub fn read(&mut self, pages: &mut [u8], at: u64) -> std::io::Result<usize> {
        assert!(pages.len().is_multiple_of(DIRECT_BYTES) && at.is_multiple_of(DIRECT_BYTES as u64), "whole pages");
        let mut filled = 0;
        while filled < pages.len() {
            // Only the last piece of a file is no whole number of pages.
            if filled > 0 && !filled.is_multiple_of(DIRECT_BYTES) {
                break;
            }
            let file = self.direct.as_ref().unwrap_or(&self.file);
            match file.read_at(&mut pages[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // Some file systems open what they then do not do.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && self.direct.take().is_some() => {
                    forget(&self.file);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

pub fn fallocate(file: &File, mode: i32, at: u64, length: u64) -> std::io::Result<()> {
    // SAFETY: a plain system call on a descriptor that is open as long as `file`.
    match unsafe { libc::fallocate(file.as_raw_fd(), mode, at as i64, length as i64) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The part of `memory` that direct writes can begin with.
pub fn aligned(memory: &mut [u8]) -> &mut [u8] {
    let head = memory.as_ptr().align_offset(DIRECT_BYTES);
    &mut memory[head..]
}

/// Lets go of what of the file lies in the cache and on the disk too.
pub fn forget(file: &File) {
    // SAFETY: advice about a file that is open here; refused, it changes nothing.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}
