//! How many X.509-SVIDs that have not ended one agent may have had signed. Each would be on the CRL should it lose its
//! standing, and a CRL that no library takes revokes nobody: one agent alone is not to get it there.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use svid::Timestamp;
use tonic::Status;

use super::status;

/// What was signed for agents, by path. In memory: after a start every agent has its whole allowance. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Serials(Arc<Mutex<HashMap<Arc<str>, Signed>>>);

/// How many end when, in seconds since 1970. Never more than the agent may have.
type Signed = BTreeMap<i64, usize>;

/// What every agent may have; and of each of its entries, where it has many.
const LEAST: usize = 1000;
const OF_AN_ENTRY: usize = 20;

impl Serials {
    /// Counts `more` that live for `life` for the agent at `path`. How many `entries` it has is asked only where it
    /// matters.
    ///
    /// # Errors
    ///
    /// It would have more than it may.
    pub(super) fn take(
        &self,
        path: &Arc<str>,
        more: usize,
        life: Duration,
        now: Timestamp,
        entries: impl FnOnce() -> usize,
    ) -> Result<(), Status> {
        let mut agents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let signed = agents.entry(Arc::clone(path)).or_default();
        signed.retain(|ends_at, _| *ends_at > now.as_unix());
        let total = signed.values().sum::<usize>().saturating_add(more);
        if total > LEAST && total > entries().saturating_mul(OF_AN_ENTRY) {
            return Err(status::too_many_serials());
        }
        *signed.entry(now.plus(life).as_unix()).or_default() += more;
        Ok(())
    }

    /// Forgets agents of which everything has ended.
    pub(super) fn tidy(&self, now: Timestamp) {
        let mut agents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        agents.retain(|_, signed| {
            signed
                .last_key_value()
                .is_some_and(|(ends_at, _)| *ends_at > now.as_unix())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(3600);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds)
    }

    #[test]
    fn an_agent_has_so_many_for_each_entry_until_they_end() {
        let serials = Serials::default();
        let check = |path: &str, more, now, entries: usize, expected: bool| {
            let taken = serials.take(&path.into(), more, LIFE, at(now), || entries);
            assert_eq!(taken.is_ok(), expected, "{path}: {more} at {now} with {entries}");
        };
        check("/a", 600, 0, 0, true);
        check("/a", 400, 10, 0, true);
        check("/a", 1, 10, 0, false);
        check("/b", 1000, 10, 0, true);
        check("/a", 1000, 20, 100, true);
        check("/a", 1, 20, 100, false);
        check("/a", 600, 3599, 100, false);
        check("/a", 600, 3600, 100, true);
    }

    #[test]
    fn what_has_ended_is_forgotten() {
        let serials = Serials::default();
        serials.take(&"/a".into(), 1, LIFE, at(0), || 0).unwrap();
        serials.tidy(at(3599));
        assert_eq!(serials.0.lock().unwrap().len(), 1);
        serials.tidy(at(3600));
        assert!(serials.0.lock().unwrap().is_empty());
    }
}
