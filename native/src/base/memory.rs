//! The memory of a process that holds keys.

/// No core file, and no other process of the same user may read this one's memory (prctl(2), PR_SET_DUMPABLE). A core that
/// goes to a program ignores the limit and heeds the flag. Children inherit the limit; the flag ends with `exec`.
pub fn keep_private() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain calls with a value that outlives them; neither can fail, as a limit may always be lowered.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
}

/// Maps a page with this protection (mmap(2)), for tests of what is allowed. It stays.
#[cfg(test)]
pub fn new_page(protection: i32) -> std::io::Result<()> {
    map_page(protection).map(drop)
}

/// Maps one that can be read, and gives it this protection (mprotect(2)).
#[cfg(test)]
pub fn changed_page(protection: i32) -> std::io::Result<()> {
    let page = map_page(libc::PROT_READ)?;
    // SAFETY: a page of our own, of which there is no reference.
    let changed = unsafe { libc::mprotect(page, 4096, protection) };
    if changed == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(test)]
fn map_page(protection: i32) -> std::io::Result<*mut libc::c_void> {
    // SAFETY: a new page, of which no reference is made.
    let page =
        unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
    if page == libc::MAP_FAILED { Err(std::io::Error::last_os_error()) } else { Ok(page) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_may_look() {
        keep_private();
        let mut limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
        // SAFETY: both calls only tell; `limit` is there to be written.
        let flag = unsafe {
            libc::getrlimit(libc::RLIMIT_CORE, &mut limit);
            libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0)
        };
        assert_eq!((flag, limit.rlim_cur, limit.rlim_max), (0, 0, 0));
        assert!(std::fs::read_dir("/proc/self/fd").unwrap().count() > 0, "its own files it may see");
    }
}
