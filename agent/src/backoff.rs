//! How long to wait after a failure: ever longer, and never the same as others that failed at the same moment.

use std::time::Duration;

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

/// After the first failure.
const FIRST: Duration = Duration::from_millis(500);
/// After many.
const LONGEST: Duration = Duration::from_secs(30);
/// However long the server wants to be left alone.
const LONGEST_HINT: Duration = Duration::from_secs(300);

impl Backoff {
    /// The pause after one more failure; not less than `hint`, where the server asked for that.
    pub fn failed(&mut self, hint: Option<Duration>) -> Duration {
        let doubled = FIRST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        let pause = jittered(doubled.min(LONGEST));
        match hint.map(|hint| hint.min(LONGEST_HINT)) {
            Some(hint) if hint > pause => hint + jittered(hint / 4),
            _ => pause,
        }
    }
}

/// A pause that does not grow: at least `pause`, and as long as the server asks for.
pub(crate) fn at_least(pause: Duration, hint: Option<Duration>) -> Duration {
    let pause = pause.max(hint.unwrap_or_default().min(LONGEST_HINT));
    pause + jittered(pause / 4)
}

/// Half of `pause` to all of it: hosts that lost the server together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let random = u32::from_be_bytes(edge::random());
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(failures: u32, hint: Option<u64>, expected: std::ops::RangeInclusive<u64>) {
        let mut backoff = Backoff { failures };
        let pause = backoff.failed(hint.map(Duration::from_secs)).as_millis();
        let pause = u64::try_from(pause).unwrap();
        assert!(expected.contains(&pause), "{pause} ms is not in {expected:?}");
    }

    #[test]
    fn pauses_grow_to_their_limit() {
        check(0, None, 250..=500);
        check(1, None, 500..=1_000);
        check(5, None, 8_000..=16_000);
        check(6, None, 15_000..=30_000);
        check(u32::MAX, None, 15_000..=30_000);
    }

    #[test]
    fn the_server_is_left_alone_as_long_as_it_asks_for() {
        check(0, Some(4), 4_500..=5_000);
        check(6, Some(1), 15_000..=30_000);
        check(0, Some(86_400), 337_500..=375_000);
    }

    #[test]
    fn a_pause_that_does_not_grow_is_as_long_as_the_server_asks_for() {
        let pause = |hint: Option<u64>| at_least(FIRST, hint.map(Duration::from_secs));
        assert!((FIRST..FIRST * 2).contains(&pause(None)));
        assert!((FIRST * 8..FIRST * 11).contains(&pause(Some(4))));
        assert!(pause(Some(86_400)) < LONGEST_HINT * 2);
    }
}
