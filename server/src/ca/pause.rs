//! How long to wait after a step that failed: ever longer, so that what an operator has to mend is not said each second.

use std::time::Duration;

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    failures: u32,
}

/// After the first failure.
const FIRST: Duration = Duration::from_secs(2);
/// After many: what was mended is noticed after that.
const LONGEST: Duration = Duration::from_secs(30);

impl Pause {
    /// The pause after one more failure.
    pub(super) fn failed(&mut self) -> Duration {
        let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        FIRST.saturating_mul(doubled).min(LONGEST)
    }

    /// Begins anew: all went well.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_begin_anew() {
        let mut pause = Pause::default();
        let grown = [(); 6].map(|()| pause.failed().as_secs());
        assert_eq!(grown, [2, 4, 8, 16, 30, 30]);
        pause.succeeded();
        assert_eq!(pause.failed(), FIRST);
        let mut old = Pause { failures: u32::MAX };
        assert_eq!((old.failed(), old.failed()), (LONGEST, LONGEST));
    }
}
