//! Mounts. JavaScript is woken and takes the requests that wait; no thread of the mount waits for JavaScript.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use napi::bindgen_prelude::{AsyncTask, Buffer, Function, Uint8Array};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;

use super::body::Body;
use super::retrieve::DiskReader;
use super::{Job, Result, job, thrown};
use crate::mount::image::Image;
use crate::mount::inbox::{Inbox, SequentialRead};
use crate::mount::request::{Question, Request};
use crate::mount::session::{Session, Shown, detach};

/// What a mount shows of itself: `totalBytes` is the size that `df` prints.
#[napi(object)]
pub struct MountOptions {
    /// The source column of `mount`: A-Z a-z 0-9 : . _ - only.
    pub name: String,
    pub total_bytes: f64,
}

/// A mounted file system.
#[napi]
pub struct FuseSession(Session);

#[napi]
impl FuseSession {
    /// The requests that came since the last call.
    #[napi]
    pub fn take(&self) -> Vec<FuseRequest> {
        self.0.inbox().take().into_iter().map(FuseRequest).collect()
    }

    /// What was read in order, and answered without a request to take, since the last call.
    #[napi]
    pub fn take_sequential_reads(&self) -> Vec<FuseSequentialRead> {
        let told = |SequentialRead { inode, start, end }| {
            let (volume, number) = (volume_of(inode), number_of(inode));
            FuseSequentialRead { volume, number, offset: start as f64, length: (end - start) as f64 }
        };
        self.0.inbox().take_sequential_reads().into_iter().map(told).collect()
    }

    /// From now on reads of this file, which is pieces of the disk one behind the other, are answered in the addon where
    /// nothing needs deciding.
    #[napi]
    pub fn show(&self, volume: u32, number: f64, starts: Vec<f64>, lengths: Vec<f64>, reader: &DiskReader) {
        let pieces = starts.iter().zip(lengths).map(|(&start, length)| (start as u64, length as u64)).collect();
        let inode = u64::from(volume) << NUMBER_BITS | number as u64;
        self.0.show(inode, Image { reader: reader.0.clone(), pieces });
    }

    /// True once the kernel let go: nothing comes any more.
    #[napi(getter)]
    pub fn ended(&self) -> bool {
        self.0.inbox().ended()
    }

    /// Ends the threads and closes the device of a session that `ended`; before that it does nothing.
    #[napi]
    pub fn release(&self) -> Result<()> {
        self.0.release().map_err(thrown)
    }
}

/// Bytes of a file that were read in order: `length` of them from `offset` on.
#[napi(object)]
pub struct FuseSequentialRead {
    pub volume: u32,
    pub number: f64,
    pub offset: f64,
    pub length: f64,
}

/// One question of the kernel, to be answered exactly once; one that is dropped answers EIO.
#[napi]
pub struct FuseRequest(Request);

/// Inode numbers are `volume * 2^48 + number`.
const NUMBER_BITS: u32 = 48;

fn volume_of(inode: u64) -> u32 {
    (inode >> NUMBER_BITS) as u32
}

fn number_of(inode: u64) -> f64 {
    (inode & ((1 << NUMBER_BITS) - 1)) as f64
}

#[napi]
impl FuseRequest {
    /// What the kernel asks, and the method beside `error` that answers it: lookup (of `name`: attributes or missing),
    /// attributes, link (data), read (`size` bytes at `offset`: data, shorter at the end of the file only), folder and
    /// folderWithAttributes (entries after cookie `offset`: folder), xattr (of `name`: data), xattrNames (data, each
    /// name ended by a zero byte).
    #[napi(
        getter,
        ts_return_type = "'lookup' | 'attributes' | 'link' | 'read' | 'folder' | 'folderWithAttributes' | 'xattr' | 'xattrNames'"
    )]
    pub fn question(&self) -> &'static str {
        match &self.0.question {
            Question::Lookup { .. } => "lookup",
            Question::Attributes => "attributes",
            Question::Link => "link",
            Question::Read { .. } => "read",
            Question::Folder { with_attributes: false, .. } => "folder",
            Question::Folder { with_attributes: true, .. } => "folderWithAttributes",
            Question::Xattr { .. } => "xattr",
            Question::XattrNames => "xattrNames",
        }
    }

    /// The upper 16 bits of the inode number.
    #[napi(getter)]
    pub fn volume(&self) -> u32 {
        volume_of(self.0.inode)
    }

    /// The lower 48 bits of the inode number.
    #[napi(getter)]
    pub fn number(&self) -> f64 {
        number_of(self.0.inode)
    }

    /// Of `lookup` and `xattr`: the name that is asked for, as bytes; else empty.
    #[napi(getter)]
    pub fn name(&self) -> Buffer {
        match &self.0.question {
            Question::Lookup { name } | Question::Xattr { name } => name.clone().into(),
            _ => Buffer::from(Vec::new()),
        }
    }

    /// Of `read`: the first byte. Of the questions for a folder: the cookie of the last entry that the kernel has, 0 at
    /// the start. Else 0.
    #[napi(getter)]
    pub fn offset(&self) -> f64 {
        match self.0.question {
            Question::Read { offset, .. } => offset as f64,
            Question::Folder { cookie, .. } => cookie as f64,
            _ => 0.0,
        }
    }

    /// Of `read`: bytes; else 0.
    #[napi(getter)]
    pub fn size(&self) -> u32 {
        match self.0.question {
            Question::Read { size, .. } => size,
            _ => 0,
        }
    }

    /// Answers `lookup` and `attributes` with 72 bytes as `src/mount/attributes.ts` writes them. Like the other answers
    /// it throws INVALID where the question was answered already or wants another kind, and CORRUPT for bytes that make
    /// no sense.
    #[napi]
    pub fn attributes(&mut self, encoded: Uint8Array) -> Result<()> {
        self.0.attributes(&encoded).map_err(thrown)
    }

    /// Answers `lookup`: there is no such name, and the kernel may remember it.
    #[napi]
    pub fn missing(&mut self) -> Result<()> {
        self.0.missing().map_err(thrown)
    }

    /// Answers `read`, `link`, `xattr` and `xattrNames`. An attribute that is longer than the asker has room for fails
    /// with ERANGE.
    #[napi]
    pub fn data(&mut self, bytes: Uint8Array) -> Result<()> {
        self.0.data(&bytes).map_err(thrown)
    }

    /// The same with bytes that are outside of JavaScript, which are used up.
    #[napi]
    pub fn body(&mut self, bytes: &Body) -> Result<()> {
        self.0.data(&bytes.spend()?).map_err(thrown)
    }

    /// Answers `folder` and `folderWithAttributes` with entries as `src/mount/attributes.ts` writes them; the kernel
    /// takes as many as fit, and asks again after the last of them.
    #[napi]
    pub fn folder(&mut self, encoded: Uint8Array) -> Result<()> {
        self.0.folder(&encoded).map_err(thrown)
    }

    /// Answers any question with an errno above 0; a number that is none counts as EIO.
    #[napi]
    pub fn error(&mut self, errno: i32) -> Result<()> {
        self.0.error(errno).map_err(thrown)
    }
}

/// Mounts on a folder, read-only. `wake` is called when requests wait to be taken, and when the session ended; until
/// then it keeps the process alive.
#[napi(ts_return_type = "Promise<FuseSession>")]
pub fn mount_file_system(
    mountpoint: Uint8Array,
    options: MountOptions,
    wake: Function<(), ()>,
) -> Result<AsyncTask<Job<FuseSession>>> {
    let wake = wake.build_threadsafe_function::<()>().build()?;
    let inbox = Inbox::new(Box::new(move || {
        wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
    }));
    let shown = Shown { name: options.name, total_bytes: options.total_bytes as u64 };
    Ok(job(move || {
        let mountpoint = Path::new(std::ffi::OsStr::from_bytes(&mountpoint));
        Session::mount(mountpoint, &shown, Arc::clone(&inbox)).map(FuseSession)
    }))
}

/// Takes a mount away from its name, busy or dead. `abort`: those who use it get errors at once; else they may finish.
#[napi(ts_return_type = "Promise<void>")]
pub fn detach_mount(mountpoint: Uint8Array, abort: bool) -> AsyncTask<Job<()>> {
    job(move || detach(&mountpoint, abort))
}
