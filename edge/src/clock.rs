//! The wall clock, as a value that is handed to whoever needs to know the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use svid::Timestamp;
use tokio::time::Instant;

/// Tells the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Source);

#[derive(Clone, Copy, Debug)]
enum Source {
    /// The system's clock, jumps and all: a clock that is set right after boot must be followed.
    System,
    /// From a moment on, the time that passed, whatever the system's clock shows.
    CarriedOn(Moment),
    /// A wall time and the instant at which it was; a test that pauses or advances the runtime's time thereby
    /// drives certificate time too.
    Pinned(Timestamp, Instant),
}

/// What a clock showed, and how long the machine had run by then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Moment {
    /// The wall time.
    pub time: Timestamp,
    /// How long the machine had run, also while it slept.
    pub uptime: Duration,
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

    /// A clock that showed `moment.time` then, and counts the time that passed since.
    #[must_use]
    pub const fn carried_on(moment: Moment) -> Self {
        Self(Source::CarriedOn(moment))
    }

    /// The time now, and how long the machine has run. Nobody sets the latter.
    #[must_use]
    pub fn moment(&self) -> Moment {
        let uptime = match self.0 {
            Source::System | Source::CarriedOn(_) => uptime(),
            Source::Pinned(_, instant) => instant.elapsed(),
        };
        Moment {
            time: self.now(),
            uptime,
        }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self.0 {
            Source::System => SystemTime::now().into(),
            Source::CarriedOn(moment) => moment.time.plus(uptime().saturating_sub(moment.uptime)),
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
            Source::CarriedOn(_) | Source::Pinned(..) => {
                Ok(self.now().as_unix().saturating_mul(1_000_000_000))
            }
        };
        nanos.unwrap_or(i64::MAX)
    }
}

/// How long the machine has run, also while it slept.
fn uptime() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}
