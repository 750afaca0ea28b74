//! What a TPM says of itself, against what it said before, under the same attestation key (39, 40, 42, 43).

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
    /// Nothing.
    Running,
}

impl Standing {
    /// Compares with what the TPM said `before`.
    ///
    /// Over a reset the clock may go back: after a power cut it goes on from its last save. Many TPMs save it once in 70
    /// minutes, so `safe` decides nothing.
    ///
    /// # Errors
    ///
    /// [`Reject::TpmCleared`] if the reset count went back, or within a boot the restart count or the clock;
    /// [`Reject::FirmwareOlder`] if the firmware is older.
    pub fn follow(&self, before: &Self) -> Result<Continuity, Reject> {
        let (now, then) = (self.clock, before.clock);
        let continuity = if now.reset_count != then.reset_count {
            Continuity::Booted
        } else if now.restart_count != then.restart_count {
            Continuity::Resumed
        } else {
            Continuity::Running
        };
        let order = |clock: ClockInfo| match continuity {
            Continuity::Booted => (clock.reset_count, 0, 0),
            Continuity::Resumed => (clock.reset_count, clock.restart_count, 0),
            Continuity::Running => (clock.reset_count, clock.restart_count, clock.clock),
        };
        if order(now) < order(then) {
            return Err(Reject::TpmCleared);
        }
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

    fn check(now: Standing, expected: Result<Continuity, Reject>) {
        assert_eq!(now.follow(&BEFORE), expected, "{now:?}");
    }

    #[test]
    fn within_a_boot_the_clock_grows() {
        check(standing(7, 2, 1001, 50), Ok(Continuity::Running));
        check(BEFORE, Ok(Continuity::Running));
        check(standing(7, 2, 999, 50), Err(Reject::TpmCleared));
    }

    #[test]
    fn counts_grow() {
        check(standing(8, 0, 0, 50), Ok(Continuity::Booted));
        check(standing(6, 2, 2000, 50), Err(Reject::TpmCleared));
        check(standing(7, 3, 1, 50), Ok(Continuity::Resumed));
        check(standing(7, 1, 2000, 50), Err(Reject::TpmCleared));
    }

    #[test]
    fn firmware_is_not_replaced_by_an_older_one() {
        check(standing(8, 0, 0, 51), Ok(Continuity::Booted));
        check(standing(8, 0, 0, 49), Err(Reject::FirmwareOlder));
    }
}
