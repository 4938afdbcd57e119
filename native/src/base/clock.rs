//! Time as a part that is passed in. Decisions take `now` and read no clock; what waits for sockets and threads asks the
//! clock that it was given, so that a test can tell both the same moment.

use std::sync::Arc;
use std::time::Instant;

/// Cheap to copy: the system's needs no memory.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Told(Arc<dyn Fn() -> Instant + Send + Sync>),
}

impl Clock {
    /// The system's monotonic clock.
    pub const SYSTEM: Self = Self(Source::System);

    /// A clock that shows what `now` says.
    pub fn told_by(now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self(Source::Told(Arc::new(now)))
    }

    pub fn now(&self) -> Instant {
        match &self.0 {
            Source::System => Instant::now(),
            Source::Told(now) => now(),
        }
    }
}
