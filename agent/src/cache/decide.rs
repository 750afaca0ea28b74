//! Which SVIDs are to be signed now: a pure decision.

use std::sync::Arc;

use svid::Timestamp;

use super::{Cache, CachedEntry};
use crate::workload_svid::WorkloadSvid;

/// The entries whose SVID is missing, due, or was signed for an older revision, the most urgent first.
#[must_use]
pub fn due(cache: &Cache, now: Timestamp) -> Vec<Arc<CachedEntry>> {
    let mut due: Vec<_> = cache
        .entries
        .values()
        .filter(|entry| !entry.on_demand || cache.svids.contains_key(&entry.id))
        .filter(|entry| renewal_of(entry, cache.svids.get(&entry.id)) <= now)
        .cloned()
        .collect();
    let ends = |entry: &Arc<CachedEntry>| cache.svids.get(&entry.id).map(|svid| svid.not_after);
    due.sort_by_key(ends);
    due
}

/// When the SVID of `entry` is to be signed; the far past if that is overdue.
#[must_use]
pub fn renewal_of(entry: &CachedEntry, svid: Option<&Arc<WorkloadSvid>>) -> Timestamp {
    match svid {
        Some(svid) if svid.revision == entry.revision => svid.renew_at,
        _ => Timestamp::from_unix(i64::MIN),
    }
}

#[cfg(test)]
mod tests {
    use svid::{SelectorSet, SpiffeId};
    use zeroize::Zeroizing;

    use super::*;

    /// Identifier, revision, and of the SVID its entry's revision and when it is to be renewed.
    type Case<'a> = (&'a str, i64, Option<(i64, i64)>);

    fn cache(entries: &[Case<'_>]) -> Cache {
        let mut cache = Cache::default();
        for (id, revision, svid) in entries {
            let entry = CachedEntry {
                id: (*id).into(),
                spiffe_id: SpiffeId::parse("spiffe://td/a").unwrap(),
                selectors: SelectorSet::default(),
                revision: *revision,
                created_at: 0,
                hint: String::new(),
                on_demand: id.starts_with("lazy"),
            };
            cache.entries.insert((*id).into(), Arc::new(entry));
            if let Some((renew_at, revision)) = svid {
                let svid = WorkloadSvid {
                    chain: Default::default(),
                    key: Zeroizing::default(),
                    not_after: Timestamp::from_unix(renew_at + 10),
                    renew_at: Timestamp::from_unix(*renew_at),
                    revision: *revision,
                };
                cache.svids.insert((*id).into(), Arc::new(svid));
            }
        }
        cache
    }

    fn check(entries: &[Case<'_>], expected: &[&str]) {
        let due = due(&cache(entries), Timestamp::from_unix(100));
        assert_eq!(
            due.iter().map(|entry| entry.id.as_ref()).collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn missing_outdated_and_due_ones_are_signed() {
        check(&[("new", 0, None)], &["new"]);
        check(&[("fresh", 0, Some((101, 0)))], &[]);
        check(&[("due", 0, Some((100, 0)))], &["due"]);
        check(&[("outdated", 1, Some((101, 0)))], &["outdated"]);
    }

    #[test]
    fn those_that_nobody_asked_for_wait() {
        check(&[("lazy", 0, None)], &[]);
        check(&[("lazy", 0, Some((50, 0)))], &["lazy"]);
    }

    #[test]
    fn the_most_urgent_comes_first() {
        check(
            &[("a", 0, Some((99, 0))), ("b", 0, Some((50, 0))), ("c", 0, None)],
            &["c", "b", "a"],
        );
    }
}
