//! The wall clock, as a value that is handed to whoever needs to know the time.

use std::time::SystemTime;

use svid::Timestamp;
use tokio::time::Instant;

/// Tells the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Source);

#[derive(Clone, Copy, Debug)]
enum Source {
    /// The system's clock, jumps and all: a clock that is set right after boot must be followed.
    System,
    /// A wall time and the instant at which it was; a test that pauses or advances the runtime's time thereby
    /// drives certificate time too.
    Pinned(Timestamp, Instant),
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that shows `time` now and follows the runtime's time from here.
    #[must_use]
    pub fn pinned(time: Timestamp) -> Self {
        Self(Source::Pinned(time, Instant::now()))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self.0 {
            Source::System => SystemTime::now().into(),
            Source::Pinned(time, instant) => time.plus(instant.elapsed()),
        }
    }
}
