//! A copy of parts of a disk, taken while it holds still and used when that is over. It lies in an unlinked temporary file.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::base::error::{Error, Result};
use crate::base::limits::MIB;
use crate::base::ranges::{ByteRange, coalesce, without};
use crate::disk::salvage;
use crate::disk::volume::ReadAt;
use crate::snapshot::spill::unlinked;

/// Bytes copied between two checks whether the disk still holds still.
const STEP_BYTES: u64 = 16 * MIB as u64;
const READ_BYTES: u64 = MIB as u64;

pub struct Copy {
    file: File,
    disk_bytes: u64,
    /// What is not copied, in the order in which it is to be.
    left: VecDeque<ByteRange>,
    /// What the medium refused.
    refused: Vec<ByteRange>,
    /// Where in the file the copy of each range begins.
    parts: Vec<(ByteRange, u64)>,
    written: u64,
    /// Parts before the last step.
    kept: usize,
}

impl Copy {
    /// `folder` takes the copy.
    pub fn new(folder: &str, disk_bytes: u64, ranges: impl Iterator<Item = ByteRange>) -> Result<Self> {
        let file = unlinked(folder).map_err(|error| Error::io("opening a temporary copy", error))?;
        Ok(Self { file, disk_bytes, left: ranges.collect(), refused: vec![], parts: vec![], written: 0, kept: 0 })
    }

    /// Copies some MiB more; false when nothing is left.
    pub fn step(&mut self, source: &dyn ReadAt) -> Result<bool> {
        self.kept = self.parts.len();
        let end = self.written + STEP_BYTES;
        let mut buffer = vec![0; READ_BYTES as usize];
        while self.written < end {
            let Some(range) = self.left.pop_front() else { return Ok(false) };
            let part = ByteRange { start: range.start, length: range.length.min(READ_BYTES) };
            if part.length < range.length {
                self.left.push_front(ByteRange { start: part.end(), length: range.length - part.length });
            }
            let bytes = &mut buffer[..part.length as usize];
            self.refused.extend(salvage::read(source, part.start, bytes)?);
            let failed = |error| Error::io("writing a temporary copy", error);
            self.file.write_all_at(bytes, self.written).map_err(failed)?;
            self.parts.push((part, self.written));
            self.written += part.length;
        }
        Ok(!self.left.is_empty())
    }

    /// Bytes of the temporary file.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Undoes the last step.
    pub fn drop_last(&mut self) {
        for (part, _) in self.parts.drain(self.kept..).rev() {
            self.left.push_front(part);
        }
    }

    /// Gives the space back; nothing can be read after that.
    pub fn release(&self) {
        // Where it fails, the space comes back with the last handle.
        let _ = self.file.set_len(0);
    }

    /// What was copied: a set. What the medium refused is not.
    pub fn copied(&self) -> Vec<ByteRange> {
        without(&coalesce(self.parts.iter().map(|(part, _)| *part).collect()), &coalesce(self.refused.clone()))
    }

    /// Ready to be read, with the parts in the order of the disk.
    pub fn finish(mut self) -> Self {
        self.parts.sort_unstable();
        self
    }
}

impl ReadAt for Copy {
    fn length(&self) -> u64 {
        self.disk_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let (mut at, mut rest) = (offset, buffer);
        let mut next = self.parts.partition_point(|(part, _)| part.end() <= offset);
        while !rest.is_empty() {
            let Some((part, from)) = self.parts.get(next).filter(|(part, _)| part.start <= at) else {
                return Err(Error::invalid("copy", format!("the bytes at {at} were not copied")));
            };
            let length = rest.len().min((part.end() - at) as usize);
            let (here, after) = rest.split_at_mut(length);
            let failed = |error| Error::io("reading a temporary copy", error);
            self.file.read_exact_at(here, from + (at - part.start)).map_err(failed)?;
            at += length as u64;
            rest = after;
            next += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_copied_reads_as_it_was() {
        let disk: Vec<u8> = (0..40 * MIB).map(|at| (at / 4096 + at % 251) as u8).collect();
        let range = |from: u64, to: u64| ByteRange { start: from, length: to - from };
        let ranges = [range(30 << 20, 38 << 20), range(5, 17 << 20), range(20 << 20, (20 << 20) + 3)];
        let folder = std::env::temp_dir();
        let mut copy = Copy::new(folder.to_str().unwrap(), disk.len() as u64, ranges.into_iter()).unwrap();
        assert!(copy.step(&disk).unwrap());
        let first = copy.copied();
        assert!(copy.step(&vec![0; disk.len()]).is_ok(), "from a disk that moved");
        copy.drop_last();
        assert_eq!(copy.copied(), first);
        while copy.step(&disk).unwrap() {}
        let copy = copy.finish();
        assert_eq!(copy.copied(), coalesce(ranges.to_vec()));
        for range in ranges {
            let mut bytes = vec![0; range.length as usize];
            copy.read_at(range.start, &mut bytes).unwrap();
            assert!(bytes == disk[range.start as usize..range.end() as usize]);
        }
        assert!(copy.read_at(0, &mut [0; 10]).is_err() && copy.read_at((17 << 20) - 1, &mut [0; 2]).is_err());
    }
}
