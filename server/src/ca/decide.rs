//! When an authority is prepared, begins to sign, and is forgotten. Timings as SPIRE's, so that operators find
//! what they know; but a prepared authority signs as soon as everyone is known to trust it.
//!
//! ```text
//!   not before                                half life        five sixths         not after   + grace
//!      │ active ─────────────────────────────────┼─────────────────┼─────────────────┼─────────────┤
//!                                                 prepare the next  activate it                     forget
//!                                                 └─ activate when confirmed
//! ```

use std::time::Duration;

use svid::Timestamp;

use super::AuthorityState;

/// What counts of an authority: X.509 or JWT.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Where it is in its life.
    pub state: AuthorityState,
    /// Begin of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// When it was published.
    pub published_at: Timestamp,
    /// Everyone who is known to rely on the bundle has it.
    pub confirmed: bool,
}

/// What to do next. Positions are those in the slice that was asked about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Let this one sign.
    Activate(usize),
    /// Remove this one from the bundle.
    Forget(usize),
    /// Make and publish a new one.
    Prepare,
    /// Nothing, until then.
    Wait(Timestamp),
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Peers that poll get this many refresh hints to notice.
const HINTS: u32 = 3;

/// Decides on the authorities of one kind. There is always one that signs before another is forgotten: a bundle is
/// never empty.
#[must_use]
pub fn decide(slots: &[Slot], refresh_hint: Duration, now: Timestamp) -> Step {
    match renew(slots, refresh_hint, now) {
        Step::Wait(until) => {
            let ended = slots.iter().position(|slot| is_over(slot, now));
            ended.map_or(Step::Wait(until), Step::Forget)
        }
        step => step,
    }
}

/// Whether another one is to be made, or to sign.
fn renew(slots: &[Slot], refresh_hint: Duration, now: Timestamp) -> Step {
    let usable = |state| move |slot: &Slot| slot.state == state && slot.not_after > now;
    let prepared = slots.iter().position(usable(AuthorityState::Prepared));
    let Some(active) = slots.iter().find(|slot| usable(AuthorityState::Active)(slot)) else {
        return prepared.map_or(Step::Prepare, Step::Activate);
    };
    let Some((position, next)) =
        prepared.and_then(|position| slots.get(position).map(|slot| (position, slot)))
    else {
        let prepare_at = before_end(active, 2, 30 * DAY);
        return if prepare_at <= now {
            Step::Prepare
        } else {
            Step::Wait(prepare_at)
        };
    };
    let activate_at = activation(active, next, refresh_hint);
    if activate_at <= now {
        Step::Activate(position)
    } else {
        Step::Wait(activate_at)
    }
}

/// As soon as everyone has it and peers had time to look, at the latest when a sixth of the old one's life is
/// left; but not before it would have been prepared without an operator's order, who may want to wait.
fn activation(active: &Slot, next: &Slot, refresh_hint: Duration) -> Timestamp {
    let deadline = before_end(active, 6, 7 * DAY);
    if !next.confirmed {
        return deadline;
    }
    let life = active.not_after.since(active.not_before);
    let noticed = next.published_at.plus((HINTS * refresh_hint).min(life / 6));
    noticed.max(before_end(active, 2, 30 * DAY)).min(deadline)
}

/// The moment at which a fraction of an authority's life is left, but never more than `most`.
fn before_end(slot: &Slot, fraction: u32, most: Duration) -> Timestamp {
    let life = slot.not_after.since(slot.not_before);
    slot.not_after.minus((life / fraction).min(most))
}

/// Whether nothing that it signed can be valid, on any clock that is not wildly wrong.
fn is_over(slot: &Slot, now: Timestamp) -> bool {
    end_of_grace(slot.not_before, slot.not_after) < now
}

/// Until when an authority stays in the bundle.
pub(super) fn end_of_grace(not_before: Timestamp, not_after: Timestamp) -> Timestamp {
    not_after.plus(not_after.since(not_before).min(DAY))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HINT: Duration = Duration::from_secs(300);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds)
    }

    fn slot(state: AuthorityState, from: i64, to: i64) -> Slot {
        Slot {
            state,
            not_before: at(from),
            not_after: at(to),
            published_at: at(from),
            confirmed: false,
        }
    }

    fn check(slots: &[Slot], now: i64, expected: Step) {
        assert_eq!(decide(slots, HINT, at(now)), expected, "at {now}");
    }

    use AuthorityState::{Active, Old, Prepared};

    #[test]
    fn the_first_authority_signs_at_once() {
        check(&[], 0, Step::Prepare);
        check(&[slot(Prepared, 0, 86400)], 0, Step::Activate(0));
    }

    #[test]
    fn the_next_one_is_prepared_at_half_life() {
        let active = [slot(Active, 0, 86400)];
        check(&active, 0, Step::Wait(at(43200)));
        check(&active, 43199, Step::Wait(at(43200)));
        check(&active, 43200, Step::Prepare);
    }

    #[test]
    fn it_signs_when_confirmed_and_noticed_or_at_the_deadline() {
        let mut slots = [slot(Active, 0, 86400), slot(Prepared, 43200, 129_600)];
        check(&slots, 43200, Step::Wait(at(72000)));
        check(&slots, 72000, Step::Activate(1));
        slots[1].confirmed = true;
        check(&slots, 43200, Step::Wait(at(44100)));
        check(&slots, 44100, Step::Activate(1));
    }

    #[test]
    fn one_that_was_ordered_early_waits_for_its_order_or_time() {
        let mut slots = [slot(Active, 0, 86400), slot(Prepared, 100, 86500)];
        slots[1].confirmed = true;
        check(&slots, 100, Step::Wait(at(43200)));
        check(&slots, 43200, Step::Activate(1));
    }

    #[test]
    fn short_lives_shorten_everything() {
        let mut slots = [slot(Active, 0, 60), slot(Prepared, 30, 90)];
        slots[1].confirmed = true;
        check(&slots, 30, Step::Wait(at(40)));
        slots[1].confirmed = false;
        check(&slots, 30, Step::Wait(at(50)));
    }

    #[test]
    fn an_active_one_that_ended_is_replaced_at_once() {
        check(&[slot(Active, 0, 60)], 60, Step::Prepare);
        check(
            &[slot(Active, 0, 60), slot(Prepared, 30, 90)],
            61,
            Step::Activate(1),
        );
    }

    #[test]
    fn it_is_replaced_before_it_is_forgotten() {
        let long_over = slot(Active, 0, 60);
        check(&[long_over], 1000, Step::Prepare);
        let mut slots = [long_over, slot(Prepared, 1000, 1060)];
        check(&slots, 1000, Step::Activate(1));
        (slots[0].state, slots[1].state) = (Old, Active);
        check(&slots, 1000, Step::Forget(0));
    }

    #[test]
    fn old_ones_are_forgotten_after_their_grace() {
        let slots = [slot(Old, 0, 60), slot(Active, 50, 1000)];
        check(&slots, 120, Step::Wait(at(525)));
        check(&slots, 121, Step::Forget(0));
        let slots = [slot(Old, 0, 864_000), slot(Active, 800_000, 1_664_000)];
        check(&slots, 864_000 + 86400, Step::Wait(at(1_232_000)));
        check(&slots, 864_000 + 86401, Step::Forget(0));
    }

    proptest! {
        /// Whatever happened, following the steps leaves an authority that signs, and time goes on.
        #[test]
        fn following_the_steps_always_ends_in_waiting(lives in prop::collection::vec((0i64..1000, 1i64..1000), 0..4),
                                                      now in 0i64..3000) {
            let mut slots: Vec<_> = lives.iter().zip([Active, Prepared, Old, Old])
                .map(|((from, life), state)| slot(state, *from, from + life)).collect();
            for _ in 0..8 {
                match decide(&slots, HINT, at(now)) {
                    Step::Wait(until) => {
                        prop_assert!(until > at(now));
                        let signs = |slot: &Slot| slot.state == Active && slot.not_after > at(now);
                        prop_assert!(slots.iter().any(signs));
                        return Ok(());
                    }
                    Step::Prepare => slots.push(slot(Prepared, now, now + 1000)),
                    Step::Forget(position) => { slots.remove(position); }
                    Step::Activate(position) => {
                        slots.iter_mut().filter(|slot| slot.state == Active).for_each(|slot| slot.state = Old);
                        slots[position].state = Active;
                    }
                }
            }
            prop_assert!(false, "no end: {slots:?}");
        }
    }
}
