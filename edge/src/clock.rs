//! The wall clock, as a value that is handed to whoever needs to know the time.

use std::time::{SystemTime, UNIX_EPOCH};

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

    /// The time now, in nanoseconds since the Unix epoch; good until the year 2262.
    #[must_use]
    pub fn now_nanos(&self) -> i64 {
        let nanos = match self.0 {
            Source::System => match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => i64::try_from(since.as_nanos()),
                Err(_) => Ok(0),
            },
            Source::Pinned(..) => Ok(self.now().as_unix().saturating_mul(1_000_000_000)),
        };
        nanos.unwrap_or(i64::MAX)
    }
}
