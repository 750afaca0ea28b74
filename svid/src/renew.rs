//! When something that expires is to be replaced: the one rule for SVIDs of every kind.

use std::time::Duration;

use crate::Timestamp;

/// How far the moment is spread around half life, in hundredths of the lifetime's half.
const SPREAD: i64 = 10;

/// The moment to renew what is valid from `not_before` to `not_after`: half its life, spread by ±10 % so that
/// a fleet does not renew at once.
///
/// `jitter` is a random number; the same one gives the same moment.
#[must_use]
pub fn renew_at(not_before: Timestamp, not_after: Timestamp, jitter: u32) -> Timestamp {
    let half = not_after.since(not_before) / 2;
    // -10 % ..= +10 % of the half, from the 2^32 values that `jitter` may take.
    let percent = i64::from(jitter) * (2 * SPREAD + 1) / (1 << 32) - SPREAD;
    let offset = half * u32::try_from(percent.abs()).unwrap_or(0) / 100;
    let middle = not_before.plus(half);
    if percent < 0 {
        middle.minus(round(offset))
    } else {
        middle.plus(round(offset))
    }
}

fn round(offset: Duration) -> Duration {
    Duration::from_secs(offset.as_secs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn renews_at_half_life() {
        let at = |jitter| renew_at(Timestamp::from_unix(0), Timestamp::from_unix(3600), jitter).as_unix();
        assert_eq!(at(u32::MAX / 2), 1800);
        assert_eq!(at(0), 1620);
        assert_eq!(at(u32::MAX), 1980);
    }

    proptest! {
        #[test]
        fn stays_inside_the_lifetime(start in 0i64..2_000_000_000, life in 0i64..100_000_000, jitter: u32) {
            let (from, to) = (Timestamp::from_unix(start), Timestamp::from_unix(start + life));
            let at = renew_at(from, to, jitter);
            prop_assert!(from <= at && at <= to);
        }
    }
}
