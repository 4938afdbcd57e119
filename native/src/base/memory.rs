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
