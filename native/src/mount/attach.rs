//! The mount itself, and the device over which the kernel asks. Not left to fuser: that unmounts by name when a session
//! ends, and by then the name may be another mount's.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

const DEVICE: &str = "/dev/fuse";
const SUBTYPE: &str = "subtype=imager";
/// How fusermount3 is told over which of its descriptors to send the device.
const SOCKET_VARIABLE: &str = "_FUSE_COMMFD";
const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];

/// Mounts on a folder, read-only, and gives the device. `name`, which `mount` shows as the source, has no comma.
/// `everybody`: others than the mounting user may look, too; only root may ask for that. Who may not mount asks
/// fusermount3.
pub fn attach(mountpoint: &Path, name: &str, everybody: bool) -> io::Result<OwnedFd> {
    let access = if everybody { "default_permissions,allow_other" } else { "default_permissions" };
    match by_kernel(mountpoint, name, access) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => by_helper(mountpoint, name, access),
        attached => attached,
    }
}

/// mount(2), with the options of the kernel's Documentation/filesystems/fuse.rst.
fn by_kernel(mountpoint: &Path, name: &str, access: &str) -> io::Result<OwnedFd> {
    let mode = File::open(mountpoint)?.metadata()?.mode();
    let device = OpenOptions::new().read(true).write(true).open(DEVICE)?;
    // SAFETY: no arguments, cannot fail.
    let (user, group) = unsafe { (libc::getuid(), libc::getgid()) };
    let fd = device.as_raw_fd();
    let options = format!("fd={fd},rootmode={mode:o},user_id={user},group_id={group},{access},{SUBTYPE}");
    let [name, options] = [name, &options].map(|text| CString::new(text).expect("no zero byte in it"));
    let path = CString::new(mountpoint.as_os_str().as_bytes())?;
    let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV;
    // SAFETY: terminated strings, which outlive the call.
    let mounted =
        unsafe { libc::mount(name.as_ptr(), path.as_ptr(), c"fuse".as_ptr(), flags, options.as_ptr().cast()) };
    if mounted == 0 { Ok(device.into()) } else { Err(io::Error::last_os_error()) }
}

/// fusermount3(1) may mount for its user, and sends the device over a socket.
fn by_helper(mountpoint: &Path, name: &str, access: &str) -> io::Result<OwnedFd> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "fusermount3 is not installed");
    let mut failure = missing();
    for helper in HELPERS {
        let (ours, theirs) = UnixStream::pair()?;
        let fd = theirs.as_raw_fd();
        let mut command = Command::new(helper);
        command.arg("-o").arg(format!("ro,nosuid,nodev,{access},fsname={name},{SUBTYPE}"));
        command.arg("--").arg(mountpoint).env(SOCKET_VARIABLE, fd.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // SAFETY: fcntl may be called between fork and exec; the descriptor is open there.
        unsafe { command.pre_exec(move || if libc::fcntl(fd, libc::F_SETFD, 0) == 0 { Ok(()) } else { Err(last()) }) };
        match command.spawn() {
            Ok(child) => {
                drop(theirs);
                let device = receive(&ours);
                let said = child.wait_with_output()?.stderr;
                return device.map_err(|error| match String::from_utf8_lossy(&said).trim() {
                    "" => error,
                    why => io::Error::other(why.to_string()),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn last() -> io::Error {
    io::Error::last_os_error()
}

/// The descriptor that comes beside one byte (unix(7), SCM_RIGHTS).
fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    #[repr(C, align(8))]
    struct Control([u8; 64]);
    let (mut byte, mut control) = ([0u8], Control([0; 64]));
    let mut vector = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: all its fields are numbers and pointers, which may be zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    let received = loop {
        // SAFETY: what the message points to outlives the call.
        let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        if count >= 0 || last().kind() != io::ErrorKind::Interrupted {
            break count;
        }
    };
    match received {
        ..0 => return Err(last()),
        0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "fusermount3 sent no device")),
        _ => {}
    }
    // SAFETY: the kernel filled the message; the header lies in `control` or is none, its data is read unaligned.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let space = libc::CMSG_LEN(size_of::<RawFd>() as u32);
        let is_device = |one: &libc::cmsghdr| {
            (one.cmsg_level, one.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) && one.cmsg_len >= space as _
        };
        match header.as_ref().filter(|one| is_device(one)) {
            Some(_) => Ok(OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned())),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "fusermount3 sent something else than a device")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_received_and_nothing_else() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut &theirs, b"x").unwrap();
        assert_eq!(receive(&ours).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(theirs);
        assert_eq!(receive(&ours).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn where_nothing_can_be_mounted_it_says_so() {
        let nowhere = Path::new("/nowhere/at/all");
        assert_eq!(attach(nowhere, "imager:test", false).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
