//! A mount: fuser's threads, what they answer by themselves, and what they put into the inbox.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use fuser::{
    BackgroundSession, Config, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags, KernelConfig, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyXattr, SessionACL,
};

use super::attach::attach;
use super::image::{Image, Images};
use super::inbox::{Inbox, locked};
use super::request::{Question, Reply, Request};
use crate::base::error::{Error, Result};

/// Read-ahead requests that the kernel may have under way; each is up to 1 MiB.
const BACKGROUND_REQUESTS: u16 = 32;
/// All but one may wait for a host, as long as the patience of the routes lets it; that one passes requests on.
const THREADS: usize = 6;
/// The unit of `st_blocks`, whatever `st_blksize` says.
const BLOCK_UNIT: u32 = 512;
const NAME_BYTES: u32 = 255;
/// The cookie of a folder's last entry: whoever asks what follows it gets the end at once.
const LAST: u64 = 1 << 62;

/// What `mount` shows of a file system.
pub struct Shown {
    /// The source column of `mount`: letters, digits and `:._-` only, because it travels among mount options.
    pub name: String,
    /// What `statfs` answers.
    pub total_bytes: u64,
}

struct Forwarder {
    inbox: Arc<Inbox>,
    images: Arc<Images>,
    total_bytes: u64,
    /// The kernel opens folders without asking.
    opens_folders: bool,
    /// Threads that answer a read.
    reading: AtomicUsize,
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
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_CACHE_SYMLINKS,
        ] {
            let _ = config.add_capabilities(wanted);
        }
        self.opens_folders = config.capabilities().contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
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
        let others = self.reading.fetch_add(1, Ordering::Relaxed);
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let request =
                Request { inode: inode.0, question: Question::Read { offset, size }, reply: Some(Reply::Data(reply)) };
            match self.images.find(inode.0, offset, size) {
                Some(found) => found.answer(request, others + 1 < THREADS, self.inbox.clone()),
                None => self.inbox.put(request),
            }
        }));
        self.reading.fetch_sub(1, Ordering::Relaxed);
    }

    fn flush(&self, _: &fuser::Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn opendir(&self, _: &fuser::Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.opens_folders {
            // Asked once: from then on folders are opened, kept and closed without a question.
            return reply.error(Errno::ENOSYS);
        }
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR);
    }

    fn readdir(&self, _: &fuser::Request, inode: INodeNo, _: FileHandle, cookie: u64, reply: ReplyDirectory) {
        if cookie == LAST {
            return reply.ok();
        }
        let question = || Question::Folder { cookie, with_attributes: false };
        self.ask(inode, Reply::Folder(reply), question);
    }

    fn readdirplus(&self, _: &fuser::Request, inode: INodeNo, _: FileHandle, cookie: u64, reply: ReplyDirectoryPlus) {
        if cookie == LAST {
            return reply.ok();
        }
        let question = || Question::Folder { cookie, with_attributes: true };
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

/// A mounted file system. Dropping it leaves the mount, whose name may have become another's.
pub struct Session {
    inbox: Arc<Inbox>,
    images: Arc<Images>,
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
        let acl = if root { SessionACL::All } else { SessionACL::Owner };
        config.n_threads = Some(THREADS);
        let images = Arc::<Images>::default();
        let (inbox_too, images_too) = (inbox.clone(), images.clone());
        let total_bytes = shown.total_bytes;
        let reading = AtomicUsize::new(0);
        let forwarder = Forwarder { inbox: inbox_too, images: images_too, total_bytes, opens_folders: false, reading };
        let device = attach(mountpoint, &shown.name, root).map_err(|error| Error::io("mount", error))?;
        let session = fuser::Session::from_fd(forwarder, device, acl, config).and_then(fuser::Session::spawn);
        let session = session.map_err(|error| {
            // It was mounted a moment ago, and this process has told nobody of it.
            let _ = detach(mountpoint.as_os_str().as_bytes(), true);
            Error::io("mount", error)
        })?;
        Ok(Self { inbox, images, background: Mutex::new(Some(session)) })
    }

    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// From now on reads of this file are answered from its reader, where that can.
    pub fn show(&self, inode: u64, image: Image) {
        self.images.add(inode, image);
    }

    /// Joins the threads and closes the device, once the kernel let go; before that it does nothing.
    pub fn release(&self) -> Result<()> {
        if !self.inbox.ended() {
            return Ok(());
        }
        let Some(background) = locked(&self.background).take() else { return Ok(()) };
        match background.join() {
            // What a read of the device gives where the mount was taken away by force (`detach` with `abort`).
            Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => Ok(()),
            ended => ended.map_err(|error| Error::io("end of the mount", error)),
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
