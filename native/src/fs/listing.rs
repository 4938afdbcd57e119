//! The names of one directory, as a parser meets them.

use super::shared::Doubts;
use super::volume_map::DirectoryEntry;
use crate::base::error::Error;

/// Names and children of one directory, in the order of the disk.
pub struct Listing {
    /// For errors: "xfs directory".
    what: &'static str,
    directory: u64,
    /// The highest number that a child can have.
    last_child: u64,
    pub entries: Vec<DirectoryEntry>,
    /// Blocks and names left out, and why the last one was.
    left_out: u32,
    why: Option<Error>,
}

impl Listing {
    pub fn new(what: &'static str, directory: u64, last_child: u64) -> Self {
        Self { what, directory, last_child, entries: Vec::new(), left_out: 0, why: None }
    }

    /// A name or a block of them.
    pub fn leave_out(&mut self, why: Error) {
        self.left_out += 1;
        self.why = Some(why);
    }

    /// Ciphertext may hold any byte; other names hold neither NUL nor a slash.
    pub fn take(&mut self, child: u64, name: &[u8], ciphertext: bool) {
        if name == b"." || name == b".." {
            return;
        }
        if name.is_empty() || (!ciphertext && name.iter().any(|byte| matches!(byte, 0 | b'/'))) {
            self.leave_out(self.corrupt("a name is empty or holds NUL or a slash"));
        } else if child > self.last_child {
            self.leave_out(self.corrupt(format!("a name leads to inode {child}")));
        } else {
            self.entries.push(DirectoryEntry { parent: self.directory, name: name.to_vec(), child });
        }
    }

    fn corrupt(&self, why: impl Into<String>) -> Error {
        Error::corrupt(self.what, self.directory, why)
    }

    /// Appends its entries, and says how much is missing.
    pub fn finish(self, entries: &mut Vec<DirectoryEntry>, doubts: &mut Doubts) {
        if let Some(why) = self.why {
            let Self { directory, left_out, .. } = self;
            doubts.push(format!("inode {directory}: {left_out} blocks or names were left out; {why}"));
        }
        entries.extend(self.entries);
    }
}
