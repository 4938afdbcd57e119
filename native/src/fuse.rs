//! A read-only FUSE file system that knows nothing: each request of the kernel becomes a `Request` in an `Inbox`, and
//! whoever empties the inbox answers, in any order, from any thread. No thread of fuser ever waits for an answer.
//!
//! Invariants: a request is answered exactly once, and one that is dropped answers EIO. Nothing ever changes, so the
//! kernel may keep names, attributes, folders and data for as long as it likes. A panic ends a request, not a thread.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, SessionACL,
};

use crate::bytes::Cursor;
use crate::error::{Error, Result};

/// A snapshot never changes: a year is forever.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);
/// Read-ahead requests that the kernel may have under way; each is up to 1 MiB.
const BACKGROUND_REQUESTS: u16 = 32;
/// The unit of `st_blocks`, whatever `st_blksize` says.
const BLOCK_UNIT: u32 = 512;
const NAME_BYTES: u32 = 255;
/// NTFS names have up to 255 UTF-16 units, which is more in UTF-8; the kernel takes this many.
const LONGEST_NAME_BYTES: usize = 1024;

/// What `mount` shows of a file system.
pub struct Shown {
    /// The source column of `mount`: letters, digits and `:._-` only, because it travels among mount options.
    pub name: String,
    /// What `statfs` answers.
    pub total_bytes: u64,
}

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
    /// The entries after the one whose cookie is `cookie` (0: from the start). `handle` differs for each opened folder.
    Folder {
        handle: u64,
        cookie: u64,
        with_attributes: bool,
    },
    Xattr {
        name: Vec<u8>,
    },
    XattrNames,
}

#[derive(Debug)]
enum Reply {
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
    reply: Option<Reply>,
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

/// Attributes as `src/mount/attributes.ts` writes them, 72 bytes, little-endian:
///
/// ```text
///  0 u64 inode     8 u64 size      16 u64 blocks of 512   24 i64 modified, s   32 i64 changed, s
/// 40 u32 modified, ns   44 u32 changed, ns   48 u32 generation   52 u32 mode with its type bits
/// 56 u32 links   60 u32 uid   64 u32 gid   68 u32 device
/// ```
fn decode_attributes(cursor: &mut Cursor) -> Result<(FileAttr, Generation)> {
    let (inode, size, blocks) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
    let (modified_s, changed_s) = (cursor.u64()? as i64, cursor.u64()? as i64);
    let modified = time(modified_s, cursor.u32()?);
    let changed = time(changed_s, cursor.u32()?);
    let generation = Generation(u64::from(cursor.u32()?));
    let mode = cursor.u32()?;
    let kind = kind(mode).ok_or_else(|| cursor.corrupt(format!("mode {mode:o} has no known type")))?;
    let attributes = FileAttr {
        ino: INodeNo(inode),
        size,
        blocks,
        atime: modified,
        mtime: modified,
        ctime: changed,
        crtime: SystemTime::UNIX_EPOCH,
        kind,
        perm: (mode & 0o7777) as u16,
        nlink: cursor.u32()?,
        uid: cursor.u32()?,
        gid: cursor.u32()?,
        rdev: cursor.u32()?,
        blksize: 4096,
        flags: 0,
    };
    Ok((attributes, generation))
}

/// A time that this machine cannot say is shown as 1970.
fn time(seconds: i64, nanoseconds: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = SystemTime::UNIX_EPOCH;
    let shifted = if seconds < 0 { base.checked_sub(whole) } else { base.checked_add(whole) };
    shifted.and_then(|at| at.checked_add(Duration::from_nanos(u64::from(nanoseconds)))).unwrap_or(base)
}

fn kind(mode: u32) -> Option<FileType> {
    Some(match mode & libc::S_IFMT {
        libc::S_IFREG => FileType::RegularFile,
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFBLK => FileType::BlockDevice,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        _ => return None,
    })
}

fn nothing() -> FileAttr {
    let epoch = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// A folder's entries, back to back: attributes (72 bytes), u64 cookie, u8 known (0: only inode and type are true, the
/// kernel must ask for the rest), u16 length of the name, name.
struct Entries<'a>(Cursor<'a>);

struct Entry<'a> {
    attributes: FileAttr,
    generation: Generation,
    cookie: u64,
    known: bool,
    name: &'a [u8],
}

impl<'a> Entries<'a> {
    fn next(&mut self) -> Result<Option<Entry<'a>>> {
        let cursor = &mut self.0;
        if cursor.remaining() == 0 {
            return Ok(None);
        }
        let (attributes, generation) = decode_attributes(cursor)?;
        let cookie = cursor.u64()?;
        let known = cursor.u8()? != 0;
        let length = usize::from(cursor.u16()?);
        let name = cursor.bytes(length)?;
        if length == 0 || length > LONGEST_NAME_BYTES {
            return Err(cursor.corrupt(format!("a name of {length} bytes")));
        }
        Ok(Some(Entry { attributes, generation, cookie, known, name }))
    }
}

/// Requests that wait for someone to take them. `wake` is called when the inbox stops being empty, and at the end.
pub struct Inbox {
    queue: Mutex<VecDeque<Request>>,
    wake: Mutex<Option<Box<dyn Fn() + Send>>>,
    ended: AtomicBool,
}

impl Inbox {
    pub fn new(wake: Box<dyn Fn() + Send>) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), wake: Mutex::new(Some(wake)), ended: AtomicBool::new(false) })
    }

    pub fn take(&self) -> Vec<Request> {
        locked(&self.queue).drain(..).collect()
    }

    /// The kernel let go of the file system: nothing comes any more.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn put(&self, request: Request) {
        let first = {
            let mut queue = locked(&self.queue);
            queue.push_back(request);
            queue.len() == 1
        };
        if first {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(wake) = locked(&self.wake).as_ref() {
            wake();
        }
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.wake();
        *locked(&self.wake) = None;
    }
}

/// A panic elsewhere does not make a queue of requests wrong.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Forwarder {
    inbox: Arc<Inbox>,
    total_bytes: u64,
    folders: AtomicU64,
}

impl Forwarder {
    /// A panic drops the reply, which answers EIO, and spares fuser's thread.
    fn ask(&self, inode: INodeNo, reply: Reply, question: impl FnOnce() -> Question) {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            self.inbox.put(Request { inode: inode.0, question: question(), reply: Some(reply) });
        }));
    }
}

impl Filesystem for Forwarder {
    fn init(&mut self, _: &fuser::Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Each is an optimisation that an older kernel may lack.
        for wanted in [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_CACHE_SYMLINKS,
        ] {
            let _ = config.add_capabilities(wanted);
        }
        let _ = config.set_max_background(BACKGROUND_REQUESTS);
        Ok(())
    }

    fn destroy(&mut self) {
        self.inbox.end();
    }

    fn lookup(&self, _: &fuser::Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.ask(parent, Reply::Entry(reply), || Question::Lookup { name: name.as_bytes().to_vec() });
    }

    fn getattr(&self, _: &fuser::Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.ask(inode, Reply::Attributes(reply), || Question::Attributes);
    }

    fn readlink(&self, _: &fuser::Request, inode: INodeNo, reply: ReplyData) {
        self.ask(inode, Reply::Data(reply), || Question::Link);
    }

    fn open(&self, _: &fuser::Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH);
    }

    fn read(
        &self,
        _: &fuser::Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.ask(inode, Reply::Data(reply), || Question::Read { offset, size });
    }

    fn flush(&self, _: &fuser::Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn opendir(&self, _: &fuser::Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let handle = FileHandle(self.folders.fetch_add(1, Ordering::Relaxed));
        reply.opened(handle, FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR);
    }

    fn readdir(&self, _: &fuser::Request, inode: INodeNo, handle: FileHandle, cookie: u64, reply: ReplyDirectory) {
        let question = || Question::Folder { handle: handle.0, cookie, with_attributes: false };
        self.ask(inode, Reply::Folder(reply), question);
    }

    fn readdirplus(
        &self,
        _: &fuser::Request,
        inode: INodeNo,
        handle: FileHandle,
        cookie: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let question = || Question::Folder { handle: handle.0, cookie, with_attributes: true };
        self.ask(inode, Reply::FolderPlus(reply), question);
    }

    fn statfs(&self, _: &fuser::Request, _: INodeNo, reply: ReplyStatfs) {
        let blocks = self.total_bytes.div_ceil(u64::from(BLOCK_UNIT));
        reply.statfs(blocks, 0, 0, 0, 0, BLOCK_UNIT, NAME_BYTES, BLOCK_UNIT);
    }

    fn getxattr(&self, _: &fuser::Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.ask(inode, Reply::Xattr(reply, size), || Question::Xattr { name: name.as_bytes().to_vec() });
    }

    fn listxattr(&self, _: &fuser::Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        self.ask(inode, Reply::Xattr(reply, size), || Question::XattrNames);
    }
}

/// A mounted file system. Dropping it leaves the mount: fuser would unmount by name, which may have become another's.
pub struct Session {
    inbox: Arc<Inbox>,
    background: Mutex<Option<BackgroundSession>>,
}

impl Session {
    /// Mounts on a folder. As root every user may look, with the permissions that the files have; otherwise only the
    /// mounting user.
    pub fn mount(mountpoint: &Path, shown: &Shown, inbox: Arc<Inbox>) -> Result<Self> {
        if shown.name.is_empty() || !shown.name.bytes().all(|b| b.is_ascii_alphanumeric() || b":._-".contains(&b)) {
            return Err(Error::invalid("mount name", format!("{:?} holds other than A-Z a-z 0-9 : . _ -", shown.name)));
        }
        // SAFETY: no arguments, cannot fail.
        let root = unsafe { libc::geteuid() } == 0;
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::RO,
            MountOption::NoSuid,
            MountOption::NoDev,
            MountOption::DefaultPermissions,
            MountOption::FSName(shown.name.clone()),
            // Not `Subtype`: fuser hands that to fusermount only, and mount(2) understands it too.
            MountOption::CUSTOM("subtype=imager".into()),
        ];
        config.acl = if root { SessionACL::All } else { SessionACL::Owner };
        // One thread only passes requests on; a second has nothing to do.
        config.n_threads = Some(1);
        let forwarder = Forwarder { inbox: inbox.clone(), total_bytes: shown.total_bytes, folders: AtomicU64::new(1) };
        let session = fuser::Session::new(forwarder, mountpoint, &config)
            .and_then(fuser::Session::spawn)
            .map_err(|error| Error::io("mount", error))?;
        Ok(Self { inbox, background: Mutex::new(Some(session)) })
    }

    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Joins the threads and closes the device, once the kernel let go; before that it does nothing.
    pub fn release(&self) -> Result<()> {
        if !self.inbox.ended() {
            return Ok(());
        }
        let Some(background) = locked(&self.background).take() else { return Ok(()) };
        background.join().map_err(|error| Error::io("end of the mount", error))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(background) = locked(&self.background).take() {
            std::mem::forget(background);
        }
    }
}

/// Takes a mount away from its name: busy or not, dead or not. `abort` makes every request under way, and every later
/// one, fail first; else those who have files open keep them. Only root may; others ask fusermount3.
pub fn detach(mountpoint: &[u8], abort: bool) -> Result<()> {
    let path = CString::new(mountpoint).map_err(|_| Error::invalid("mount point", "a zero byte in its name"))?;
    if abort {
        // FUSE aborts its connection on a forced unmount, even where that then says EBUSY.
        // SAFETY: a terminated string that outlives the call.
        if unsafe { libc::umount2(path.as_ptr(), libc::MNT_FORCE | libc::UMOUNT_NOFOLLOW) } == 0 {
            return Ok(());
        }
    }
    // SAFETY: as above.
    match unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) } {
        0 => Ok(()),
        _ => Err(Error::io("unmount", std::io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(mode: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for value in [7u64, 9, 16, -2i64 as u64, 3] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        for value in [500_000_000u32, 1, 4, mode, 2, 1000, 1001, 0x103] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn attributes_of_the_documented_layout() {
        let bytes = encoded(libc::S_IFREG | 0o4755);
        assert_eq!(bytes.len(), 72);
        let (attributes, generation) = decode_attributes(&mut Cursor::new("test", &bytes)).unwrap();
        assert_eq!((attributes.ino.0, attributes.size, attributes.blocks, generation.0), (7, 9, 16, 4));
        assert_eq!((attributes.perm, attributes.kind), (0o4755, FileType::RegularFile));
        assert_eq!((attributes.uid, attributes.gid, attributes.nlink, attributes.rdev), (1000, 1001, 2, 0x103));
        assert_eq!(attributes.mtime, SystemTime::UNIX_EPOCH - Duration::from_millis(1500));
    }

    #[test]
    fn refuses_what_is_short_or_typeless() {
        let whole = encoded(libc::S_IFDIR | 0o755);
        for length in 0..whole.len() {
            assert!(decode_attributes(&mut Cursor::new("test", &whole[..length])).is_err());
        }
        assert!(decode_attributes(&mut Cursor::new("test", &encoded(0o755))).is_err());
    }

    #[test]
    fn entries_end_cleanly_or_not_at_all() {
        let mut bytes = encoded(libc::S_IFDIR);
        bytes.extend_from_slice(&5u64.to_le_bytes());
        bytes.push(1);
        bytes.extend_from_slice(&3u16.to_le_bytes());
        bytes.extend_from_slice(b"abc");
        let mut entries = Entries(Cursor::new("test", &bytes));
        let entry = entries.next().unwrap().unwrap();
        assert_eq!((entry.cookie, entry.known, entry.name), (5, true, &b"abc"[..]));
        assert!(entries.next().unwrap().is_none());
        assert!(Entries(Cursor::new("test", &bytes[..bytes.len() - 1])).next().is_err());
    }

    #[test]
    fn times_that_cannot_be_said_are_1970() {
        assert_eq!(time(i64::MAX, u32::MAX), SystemTime::UNIX_EPOCH);
        assert!(time(i64::MIN, 0) <= SystemTime::UNIX_EPOCH);
        assert_eq!(time(-1, 500_000_000), SystemTime::UNIX_EPOCH - Duration::from_millis(500));
    }
}
