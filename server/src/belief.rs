//! Whether the wall clock is believed: a pure decision. One that jumps ahead of the time that passed may be wrong, and
//! what is forgotten by it does not come back when it is set right. So it is doubted for a while, then believed: nobody
//! set it right.

use std::time::Duration;

use edge::clock::Moment;
use svid::Timestamp;

/// What is believed of the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Belief {
    /// When it was believed last.
    believed: Moment,
    /// How long the machine had run when the doubt began, if there is one.
    doubted_from: Option<Duration>,
}

/// The wall clock is not believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Doubt {
    /// When it was believed last; time goes on from there.
    pub believed: Moment,
    /// How far it is ahead of the time that passed.
    pub ahead: Duration,
    /// How long it stays in doubt, if it is not set right before.
    pub left: Duration,
}

/// How far the wall clock may get ahead between two looks: time synchronization steps, and moves of virtual machines.
const MOST_AHEAD: Duration = Duration::from_secs(3600);
/// How long a clock that is further ahead is doubted.
const PATIENCE: Duration = Duration::from_secs(600);
/// 2026-01-01: a clock that shows less was never set, so that it jumps when it is.
const NEVER_SET: Timestamp = Timestamp::from_unix(1_767_225_600);

impl Belief {
    /// The clock is believed at the start: there is nothing to compare it with.
    #[must_use]
    pub const fn new(at: Moment) -> Self {
        Self {
            believed: at,
            doubted_from: None,
        }
    }

    /// Looks at the clock; nothing is wrong if it is believed.
    pub fn look(&mut self, at: Moment) -> Option<Doubt> {
        let passed = at.uptime.saturating_sub(self.believed.uptime);
        let ahead = at.time.since(self.believed.time.plus(passed));
        if ahead > MOST_AHEAD && self.believed.time >= NEVER_SET {
            let from = *self.doubted_from.get_or_insert(at.uptime);
            let left = PATIENCE.saturating_sub(at.uptime.saturating_sub(from));
            if !left.is_zero() {
                return Some(Doubt {
                    believed: self.believed,
                    ahead,
                    left,
                });
            }
        }
        *self = Self::new(at);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_795_305_600;
    const YEAR: i64 = 365 * 86400;

    /// What the clock shows and how long the machine has run, in seconds since the start.
    fn moment((time, uptime): (i64, u64)) -> Moment {
        Moment {
            time: Timestamp::from_unix(START + time),
            uptime: Duration::from_secs(uptime),
        }
    }

    /// After each look, how long the clock stays in doubt.
    fn check(looks: &[(i64, u64)], expected: &[Option<u64>]) {
        let mut looks = looks.iter().copied().map(moment);
        let mut belief = Belief::new(looks.next().unwrap());
        let left = |doubt: Doubt| doubt.left.as_secs();
        let seen: Vec<_> = looks.map(|at| belief.look(at).map(left)).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn time_that_passes_is_no_jump() {
        check(&[(0, 0), (10, 10), (YEAR, YEAR as u64)], &[None, None]);
    }

    #[test]
    fn small_steps_and_steps_back_are_believed() {
        check(&[(0, 0), (3610, 10), (7220, 20)], &[None, None]);
        check(&[(0, 0), (-YEAR, 10), (-YEAR + 10, 20)], &[None, None]);
    }

    #[test]
    fn a_jump_is_doubted_until_the_clock_is_set_right() {
        check(
            &[(0, 0), (YEAR, 10), (YEAR + 10, 20), (30, 30), (40, 40)],
            &[Some(600), Some(590), None, None],
        );
        check(&[(0, 0), (3611, 10)], &[Some(600)]);
    }

    #[test]
    fn a_jump_is_believed_after_ten_minutes() {
        check(
            &[
                (0, 0),
                (YEAR, 10),
                (YEAR + 599, 609),
                (YEAR + 600, 610),
                (YEAR + 610, 620),
            ],
            &[Some(600), Some(1), None, None],
        );
    }

    #[test]
    fn another_jump_is_doubted_anew() {
        check(
            &[(0, 0), (YEAR, 10), (20, 20), (YEAR, 30)],
            &[Some(600), None, Some(600)],
        );
    }

    #[test]
    fn a_clock_that_was_never_set_may_jump() {
        check(&[(-START, 0), (0, 10)], &[None]);
    }

    #[test]
    fn time_goes_on_from_when_the_clock_was_believed_last() {
        let mut belief = Belief::new(moment((0, 0)));
        assert_eq!(belief.look(moment((10, 10))), None);
        let doubt = belief.look(moment((YEAR, 20))).unwrap();
        assert_eq!(doubt.believed, moment((10, 10)));
        assert_eq!(doubt.ahead, Duration::from_secs(YEAR as u64 - 20));
    }
}
