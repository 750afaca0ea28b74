//! What a TPM's clock and counters tell of the time between two statements of one key (39, 40).

use crate::wire::ClockInfo;

/// What happened to a TPM between two statements.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Passage {
    /// Its counters went back: it was cleared, or its state is an older copy.
    Cleared,
    /// It was reset, restarted or resumed.
    Restarted,
    /// It ran on.
    RanOn,
    /// The clock did not move.
    Still,
}

impl Passage {
    /// From the statement `last` to the statement `now`. A clock that went back by `slack` milliseconds or less
    /// counts as still: without a nonce, the statement that was made first may arrive second. Over a reset the clock
    /// may go back: after a power cut it goes on from where it was written last.
    #[must_use]
    pub fn between(last: &ClockInfo, now: &ClockInfo, slack: u64) -> Self {
        let counts = |clock: &ClockInfo| (clock.reset_count, clock.restart_count);
        if counts(now) < counts(last) {
            return Self::Cleared;
        }
        if counts(now) > counts(last) {
            return Self::Restarted;
        }
        if now.clock.saturating_add(slack) < last.clock {
            Self::Cleared
        } else if now.clock <= last.clock {
            Self::Still
        } else {
            Self::RanOn
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(last: (u32, u32, u64), now: (u32, u32, u64), slack: u64, expected: Passage) {
        let info = |(reset_count, restart_count, clock), safe| ClockInfo {
            clock,
            reset_count,
            restart_count,
            safe,
        };
        // Whether the clock is safe is recorded, and decides nothing.
        for safe in [true, false] {
            let passage = Passage::between(&info(last, true), &info(now, safe), slack);
            assert_eq!(passage, expected, "{last:?} {now:?}");
        }
    }

    #[test]
    fn the_clock_grows_within_the_same_counts() {
        check((7, 1, 100), (7, 1, 101), 0, Passage::RanOn);
        check((7, 1, 100), (7, 1, 100), 0, Passage::Still);
        check((7, 1, 100), (7, 1, 99), 0, Passage::Cleared);
        check((7, 1, 100), (7, 1, 99), 1, Passage::Still);
        check((7, 1, 100), (7, 1, 98), 1, Passage::Cleared);
    }

    #[test]
    fn over_a_reset_the_clock_may_go_back_but_no_counter() {
        check((7, 1, 100), (8, 0, 5), 0, Passage::Restarted);
        check((7, 1, 100), (7, 2, 5), 0, Passage::Restarted);
        check((7, 1, 100), (6, 9, 500), 1000, Passage::Cleared);
        check((7, 1, 100), (7, 0, 500), 1000, Passage::Cleared);
        check((7, 1, 100), (0, 0, 1), 1000, Passage::Cleared);
    }
}
