//! What a TPM says of itself, against what it said before, whichever of its keys it said that under (39, 40, 42, 43).

use crate::{Reject, VerifiedQuote, wire::ClockInfo};

/// What a quote says of the TPM itself. Worth something under a key of the endorsement hierarchy alone (44).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    /// Clock and reset counts.
    pub clock: ClockInfo,
    /// Vendor's firmware version.
    pub firmware_version: u64,
}

/// What happened since the TPM was heard last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Continuity {
    /// It was reset: the machine booted.
    Booted,
    /// It resumed: the machine slept, and PCRs are what was saved, if nobody kept the TPM from saving them.
    Resumed,
    /// It ran on.
    Running,
    /// Not even its clock moved.
    Still,
}

impl Continuity {
    /// From what a TPM said `then` to what it says `now`.
    ///
    /// Over a reset or a resumption the clock may go back: after a power cut it goes on from its last save. Many TPMs
    /// save it once in 70 minutes, so `safe` decides nothing. Within a boot a clock that went back by `slack` milliseconds
    /// or less counts as still: without a nonce, the statement that was made first may arrive second.
    ///
    /// # Errors
    ///
    /// [`Reject::TpmCleared`] if a count went back, or the clock within the same counts.
    pub fn between(then: &ClockInfo, now: &ClockInfo, slack: u64) -> Result<Self, Reject> {
        let counts = |clock: &ClockInfo| (clock.reset_count, clock.restart_count);
        if counts(now) < counts(then)
            || counts(now) == counts(then) && now.clock.saturating_add(slack) < then.clock
        {
            return Err(Reject::TpmCleared);
        }
        Ok(if now.reset_count != then.reset_count {
            Self::Booted
        } else if now.restart_count != then.restart_count {
            Self::Resumed
        } else if now.clock > then.clock {
            Self::Running
        } else {
            Self::Still
        })
    }
}

impl Standing {
    /// Compares with what the TPM said `before`; `slack` is that of [`Continuity::between`].
    ///
    /// # Errors
    ///
    /// [`Reject::TpmCleared`] as there; [`Reject::FirmwareOlder`] if the firmware is older.
    pub fn follow(&self, before: &Self, slack: u64) -> Result<Continuity, Reject> {
        let continuity = Continuity::between(&before.clock, &self.clock, slack)?;
        if self.firmware_version < before.firmware_version {
            return Err(Reject::FirmwareOlder);
        }
        Ok(continuity)
    }
}

impl From<&VerifiedQuote> for Standing {
    fn from(quote: &VerifiedQuote) -> Self {
        Self {
            clock: quote.clock,
            firmware_version: quote.firmware_version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn standing(reset_count: u32, restart_count: u32, clock: u64, firmware_version: u64) -> Standing {
        Standing {
            clock: ClockInfo {
                clock,
                reset_count,
                restart_count,
                safe: false,
            },
            firmware_version,
        }
    }

    const BEFORE: Standing = standing(7, 2, 1000, 50);

    fn check(now: Standing, slack: u64, expected: Result<Continuity, Reject>) {
        // Whether the clock is safe is recorded, and decides nothing.
        for safe in [false, true] {
            let mut now = now;
            now.clock.safe = safe;
            assert_eq!(now.follow(&BEFORE, slack), expected, "{now:?}");
        }
    }

    #[test]
    fn within_a_boot_the_clock_grows() {
        check(standing(7, 2, 1001, 50), 0, Ok(Continuity::Running));
        check(BEFORE, 0, Ok(Continuity::Still));
        check(standing(7, 2, 999, 50), 0, Err(Reject::TpmCleared));
        check(standing(7, 2, 999, 50), 1, Ok(Continuity::Still));
        check(standing(7, 2, 998, 50), 1, Err(Reject::TpmCleared));
    }

    #[test]
    fn counts_grow_and_no_slack_helps() {
        check(standing(8, 0, 0, 50), 0, Ok(Continuity::Booted));
        check(standing(6, 2, 2000, 50), 5000, Err(Reject::TpmCleared));
        check(standing(0, 0, 2000, 50), 5000, Err(Reject::TpmCleared));
        check(standing(7, 3, 1, 50), 0, Ok(Continuity::Resumed));
        check(standing(7, 1, 2000, 50), 5000, Err(Reject::TpmCleared));
    }

    #[test]
    fn firmware_is_not_replaced_by_an_older_one() {
        check(standing(8, 0, 0, 51), 0, Ok(Continuity::Booted));
        check(standing(8, 0, 0, 49), 0, Err(Reject::FirmwareOlder));
    }
}
