//! What Node cannot do to a name in a folder: extended attributes, times to the nanosecond, device nodes. No call here
//! follows a symbolic link in the last part of its path; `src/disk/folder.ts` sees to the parts before.

use std::ffi::CString;
use std::io::Error as IoError;

use crate::base::error::{Error, Result};

pub fn set_xattr(path: &[u8], name: &[u8], value: &[u8]) -> Result<()> {
    let (path, name) = (terminated(path)?, terminated(name)?);
    // SAFETY: two terminated strings and a slice with its length; all outlive the call.
    done("set xattr", unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) })
}

/// The time of the last change of the content; that of the last reading stays.
pub fn set_modified(path: &[u8], seconds: i64, nanoseconds: u32) -> Result<()> {
    let path = terminated(path)?;
    let times = [
        libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
        libc::timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() },
    ];
    // SAFETY: a terminated string and two times, as utimensat(2) asks; both outlive the call.
    done("set time", unsafe {
        libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW)
    })
}

/// A FIFO or device node; `mode` with the bits of its type. The name must be free.
pub fn make_node(path: &[u8], mode: u32, device: u64) -> Result<()> {
    let path = terminated(path)?;
    // SAFETY: a terminated string that outlives the call.
    done("make node", unsafe { libc::mknod(path.as_ptr(), mode, device) })
}

fn terminated(text: &[u8]) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid("name", "a zero byte in it"))
}

fn done(doing: &str, result: i32) -> Result<()> {
    if result == 0 { Ok(()) } else { Err(Error::io(doing, IoError::last_os_error())) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    use super::*;

    #[test]
    fn times_and_nodes_reach_the_name_itself() {
        let folder = std::env::temp_dir().join(format!("imager-names-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (fifo, link) = (folder.join("fifo"), folder.join("link"));
        make_node(fifo.as_os_str().as_bytes(), libc::S_IFIFO | 0o600, 0).expect("a FIFO");
        assert!(std::fs::symlink_metadata(&fifo).expect("its facts").file_type().is_fifo());
        assert!(make_node(fifo.as_os_str().as_bytes(), libc::S_IFIFO | 0o600, 0).is_err(), "the name is taken");
        std::os::unix::fs::symlink("fifo", &link).expect("a link");
        set_modified(link.as_os_str().as_bytes(), -5, 7).expect("its time");
        let facts = std::fs::symlink_metadata(&link).expect("its facts");
        assert_eq!((facts.mtime(), facts.mtime_nsec()), (-5, 7));
        assert!(std::fs::metadata(&link).expect("its facts").mtime() > 0);
        assert!(set_modified(b"a\0b", 0, 0).is_err());
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
