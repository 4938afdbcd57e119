//! A read-only FUSE file system that knows nothing: each request of the kernel becomes a `Request` in an `Inbox`, and
//! whoever empties the inbox answers, in any order, from any thread. Reads of an `Image` are answered from its reader where
//! that can, and come to the inbox where it cannot. They are all that a thread of fuser waits for, and never the last one.
//!
//! Invariants: a request is answered exactly once, and one that is dropped answers EIO. Nothing ever changes, so the
//! kernel may keep names, attributes, folders and data for as long as it likes. A panic ends a request, not a thread.

mod attach;
pub mod image;
pub mod inbox;
pub mod layout;
pub mod request;
pub mod session;
