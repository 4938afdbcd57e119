//! What the kernel says of an open block device.

use std::fs::File;
use std::os::fd::AsRawFd;

const BLKPBSZGET: libc::Ioctl = 0x127b;
pub const BLKGETSIZE64: libc::Ioctl = 0x8008_1272u32 as libc::Ioctl;

/// In bytes; nothing where the kernel does not say. A disk that was pulled out has 0.
pub fn size(file: &File) -> Option<u64> {
    let mut bytes = 0u64;
    // SAFETY: BLKGETSIZE64 writes one u64, which outlives the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), BLKGETSIZE64, &raw mut bytes) };
    (done == 0).then_some(bytes)
}

/// In bytes; nothing where the kernel does not say, or says what no disk has.
pub fn physical_sector(file: &File) -> Option<usize> {
    let mut bytes: libc::c_uint = 0;
    // SAFETY: BLKPBSZGET writes one unsigned int, which outlives the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), BLKPBSZGET, &raw mut bytes) };
    let known = done == 0 && (512..=65536).contains(&bytes) && bytes.is_power_of_two();
    known.then_some(bytes as usize)
}
