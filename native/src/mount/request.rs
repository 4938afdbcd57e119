//! One question of the kernel with the right to answer it, exactly once. What is dropped answers EIO: fuser does that.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use fuser::{Errno, Generation, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry, ReplyXattr};

use super::layout::{Entries, decode_attributes, nothing};
use crate::base::bytes::Cursor;
use crate::base::error::{Error, Result};

/// A snapshot never changes: a year is forever.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

#[derive(Debug)]
pub enum Question {
    Lookup {
        name: Vec<u8>,
    },
    Attributes,
    Link,
    Read {
        offset: u64,
        size: u32,
    },
    /// The entries after the one whose cookie is `cookie` (0: from the start).
    Folder {
        cookie: u64,
        with_attributes: bool,
    },
    Xattr {
        name: Vec<u8>,
    },
    XattrNames,
}

#[derive(Debug)]
pub(super) enum Reply {
    Entry(ReplyEntry),
    Attributes(ReplyAttr),
    Data(ReplyData),
    Folder(ReplyDirectory),
    FolderPlus(ReplyDirectoryPlus),
    /// The size of the caller's buffer; 0 asks for the size alone.
    Xattr(ReplyXattr, u32),
}

/// One question of the kernel with the right to answer it.
#[derive(Debug)]
pub struct Request {
    pub inode: u64,
    pub question: Question,
    pub(super) reply: Option<Reply>,
}

impl Request {
    fn take(&mut self) -> Result<Reply> {
        self.reply.take().ok_or_else(|| Error::invalid("FUSE reply", "this request is already answered"))
    }

    /// Answers a question that wants something else than what was given: a bug of the answerer.
    fn mismatch(&self) -> Error {
        Error::invalid("FUSE reply", format!("not an answer to {:?}", self.question))
    }

    /// Answers `Lookup` and `Attributes`.
    pub fn attributes(&mut self, encoded: &[u8]) -> Result<()> {
        let (attributes, generation) = decode_attributes(&mut Cursor::new("FUSE attributes", encoded))?;
        match self.take()? {
            Reply::Entry(reply) => reply.entry(&FOREVER, &attributes, generation),
            Reply::Attributes(reply) => reply.attr(&FOREVER, &attributes),
            _ => return Err(self.mismatch()),
        }
        Ok(())
    }

    /// Answers `Lookup`: there is no such name, and there never will be.
    pub fn missing(&mut self) -> Result<()> {
        match self.take()? {
            // Inode 0 is FUSE's negative entry, which the kernel keeps.
            Reply::Entry(reply) => reply.entry(&FOREVER, &nothing(), Generation(0)),
            _ => return Err(self.mismatch()),
        }
        Ok(())
    }

    /// Answers `Read`, `Link`, `Xattr` and `XattrNames` (each name ends in a zero byte).
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        match self.take()? {
            Reply::Data(reply) => reply.data(bytes),
            Reply::Xattr(reply, 0) => reply.size(bytes.len().min(u32::MAX as usize) as u32),
            Reply::Xattr(reply, room) if bytes.len() > room as usize => reply.error(Errno::ERANGE),
            Reply::Xattr(reply, _) => reply.data(bytes),
            _ => return Err(self.mismatch()),
        }
        Ok(())
    }

    /// Answers `Folder` with as many of the entries as fit; the kernel asks again after the last that did.
    pub fn folder(&mut self, encoded: &[u8]) -> Result<()> {
        let mut entries = Entries(Cursor::new("FUSE folder", encoded));
        match self.take()? {
            Reply::Folder(mut reply) => {
                while let Some(entry) = entries.next()? {
                    let (inode, kind) = (entry.attributes.ino, entry.attributes.kind);
                    if reply.add(inode, entry.cookie, kind, OsStr::from_bytes(entry.name)) {
                        break;
                    }
                }
                reply.ok();
            }
            Reply::FolderPlus(mut reply) => {
                while let Some(entry) = entries.next()? {
                    let life = if entry.known { FOREVER } else { Duration::ZERO };
                    let name = OsStr::from_bytes(entry.name);
                    let (attributes, generation) = (&entry.attributes, entry.generation);
                    if reply.add(attributes.ino, entry.cookie, name, &life, attributes, generation) {
                        break;
                    }
                }
                reply.ok();
            }
            _ => return Err(self.mismatch()),
        }
        Ok(())
    }

    /// Answers anything. A number that is no errno counts as EIO.
    pub fn error(&mut self, errno: i32) -> Result<()> {
        let errno = Errno::from_i32(errno);
        match self.take()? {
            Reply::Entry(reply) => reply.error(errno),
            Reply::Attributes(reply) => reply.error(errno),
            Reply::Data(reply) => reply.error(errno),
            Reply::Folder(reply) => reply.error(errno),
            Reply::FolderPlus(reply) => reply.error(errno),
            Reply::Xattr(reply, _) => reply.error(errno),
        }
        Ok(())
    }
}
