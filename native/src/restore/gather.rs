//! Blocks that lie next to each other on the target, written as one. Past the page cache, where target and offset allow it:
//! a restore writes more than memory holds, reads nothing of it again, and need not push out what other programs use.

use crate::base::direct::DIRECT_BYTES;
use crate::base::error::Result;
use crate::base::limits::MIB;
use crate::base::pool;
use crate::restore::target::Target;

/// Bytes of one write, at most.
const WRITE_BYTES: usize = MIB;

pub struct Gather<'t> {
    target: &'t Target,
    /// What is gathered, from `head` on: it lies in its page of memory as it will lie in its page of the target.
    buffer: Vec<u8>,
    head: usize,
    start: u64,
}

impl<'t> Gather<'t> {
    pub fn new(target: &'t Target) -> Self {
        Self { target, buffer: pool::take(WRITE_BYTES + 2 * DIRECT_BYTES), head: 0, start: 0 }
    }

    /// Gathers bytes for `at`; what they do not continue is written first. At most `WRITE_BYTES`.
    pub fn push(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let length = self.buffer.len() - self.head;
        if at != self.start + length as u64 || length + bytes.len() > WRITE_BYTES {
            self.flush()?;
            self.begin(at);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Whatever is gathered is written.
    pub fn flush(&mut self) -> Result<()> {
        let gathered = &self.buffer[self.head..];
        let written = self.target.write(self.start, gathered);
        self.begin(self.start + gathered.len() as u64);
        written
    }

    fn begin(&mut self, at: u64) {
        self.buffer.clear();
        let aligned = self.buffer.as_ptr().align_offset(DIRECT_BYTES);
        self.head = aligned + (at % DIRECT_BYTES as u64) as usize;
        self.buffer.resize(self.head, 0);
        self.start = at;
    }
}

impl Drop for Gather<'_> {
    fn drop(&mut self) {
        pool::give(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_every_length_and_place_are_written_as_they_came() {
        // A file on a disk, where direct writes are possible; the folder of the build is on one as a rule.
        let path = std::env::current_exe().unwrap().with_extension("gather");
        let length = 3 * WRITE_BYTES + 1234;
        let mut wanted = vec![0; length];
        blake3::Hasher::new().finalize_xof().fill(&mut wanted);
        let target = Target::open(path.to_str().unwrap(), length as u64).unwrap();
        target.blank().unwrap();
        let mut gather = Gather::new(&target);
        // Odd pieces, in two interleaved walks, so that writes begin and end inside of pages.
        let pieces: Vec<(usize, usize)> = (0..length).step_by(70_001).map(|at| (at, 70_001.min(length - at))).collect();
        for parity in [0, 1] {
            for (number, &(at, length)) in pieces.iter().enumerate() {
                // Runs of four.
                if number / 4 % 2 == parity {
                    gather.push(at as u64, &wanted[at..at + length]).unwrap();
                }
            }
        }
        gather.flush().unwrap();
        gather.flush().unwrap();
        assert!(std::fs::read(&path).unwrap() == wanted);
        assert!(gather.push(length as u64 - 1, &[1, 2]).and_then(|()| gather.flush()).is_err(), "past the end");
        std::fs::remove_file(&path).unwrap();
    }
}
