//! Which refusals go to the audit trail. Anybody may send garbage, and each record is made durable: so of one kind
//! from one source, the first is recorded, and then one a minute, with how many there were.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What was refused lately, by source and code.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals(Arc<Mutex<HashMap<Kind, Seen>>>);

type Kind = (Option<IpAddr>, &'static str);

#[derive(Clone, Copy, Debug)]
struct Seen {
    recorded_at: Instant,
    unrecorded: u64,
}

/// How often one kind from one source is recorded.
const EVERY: Duration = Duration::from_secs(60);
/// Most kinds that are remembered; beyond, none is recorded until some are old.
const MAX_KINDS: usize = 16_384;

impl Refusals {
    /// Notes a refusal. Says whether it is to be recorded: `Some` with the number of those that were not since the
    /// last record.
    pub(super) fn note(&self, source: Option<IpAddr>, code: &'static str, now: Instant) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = kinds.get_mut(&(source, code)) {
            if now.saturating_duration_since(seen.recorded_at) < EVERY {
                seen.unrecorded += 1;
                return None;
            }
            let unrecorded = seen.unrecorded;
            *seen = Seen {
                recorded_at: now,
                unrecorded: 0,
            };
            return Some(unrecorded);
        }
        if kinds.len() >= MAX_KINDS {
            kinds.retain(|_, seen| now.saturating_duration_since(seen.recorded_at) < EVERY);
        }
        if kinds.len() >= MAX_KINDS {
            return None;
        }
        let seen = Seen {
            recorded_at: now,
            unrecorded: 0,
        };
        kinds.insert((source, code), seen);
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_kind_one_a_minute_is_recorded_with_how_many_there_were() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let here = Some([10, 0, 0, 1].into());
        let check = |source, code, after: u64, expected| {
            let now = start + Duration::from_secs(after);
            assert_eq!(
                refusals.note(source, code, now),
                expected,
                "{code} after {after} s"
            );
        };
        check(here, "a", 0, Some(0));
        check(here, "a", 1, None);
        check(here, "a", 59, None);
        check(here, "b", 59, Some(0));
        check(Some([10, 0, 0, 2].into()), "a", 59, Some(0));
        check(here, "a", 60, Some(2));
        check(here, "a", 61, None);
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let source = |n: u32| Some(IpAddr::from(n.to_be_bytes()));
        for n in 0..u32::try_from(MAX_KINDS).unwrap() {
            assert_eq!(refusals.note(source(n), "a", start), Some(0));
        }
        assert_eq!(refusals.note(source(u32::MAX), "a", start), None);
        assert_eq!(refusals.note(source(u32::MAX), "a", start + EVERY), Some(0));
    }
}
