//! Which SVIDs are to be signed now, and whether there is anything to serve: pure decisions.

use std::{collections::BTreeSet, sync::Arc};

use svid::Timestamp;

use super::{Cache, CachedEntry};

/// The entries whose SVID is missing, due, or was signed for an older revision: first those that somebody waits
/// for, then the most urgent.
#[must_use]
pub(super) fn due(cache: &Cache, wanted: &BTreeSet<Arc<str>>, now: Timestamp) -> Vec<Arc<CachedEntry>> {
    let mut due: Vec<_> = signable(cache, wanted)
        .filter(|entry| renewal_of(cache, entry) <= now)
        .cloned()
        .collect();
    due.sort_by_key(|entry| {
        let ends = cache.svid(entry).map(|svid| svid.not_after);
        (!wanted.contains(&entry.id), ends)
    });
    due
}

/// The entries whose SVID is kept fresh.
pub(super) fn signable<'a>(
    cache: &'a Cache,
    wanted: &'a BTreeSet<Arc<str>>,
) -> impl Iterator<Item = &'a Arc<CachedEntry>> {
    let is_wanted = |entry: &&Arc<CachedEntry>| {
        !entry.on_demand || wanted.contains(&entry.id) || cache.svid(entry).is_some()
    };
    let entries = cache.entries.values().filter(|entry| !entry.is_for_store);
    entries.filter(is_wanted)
}

/// When the SVID of `entry` is to be signed; the far past if that is overdue.
#[must_use]
pub(super) fn renewal_of(cache: &Cache, entry: &CachedEntry) -> Timestamp {
    match cache.svid(entry) {
        Some(svid) if svid.revision == entry.revision => svid.renew_at,
        _ => Timestamp::from_unix(i64::MIN),
    }
}

/// Whether the agent can serve: it heard the server, and either the host has a standing, until `standing_ends`, or
/// there is an SVID that a workload can use.
#[must_use]
pub fn can_serve(cache: &Cache, standing_ends: Option<Timestamp>, now: Timestamp) -> bool {
    let has_standing = standing_ends.is_some_and(|end| end > now);
    let has_svid = || cache.svids.values().any(|svid| svid.not_after > now);
    cache.is_synced && (has_standing || has_svid())
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{entry, svid},
        *,
    };

    use crate::workload_svid::WorkloadSvid;

    /// Identifier, revision, and of the SVID its entry's revision and when it is to be renewed.
    type Case<'a> = (&'a str, i64, Option<(i64, i64)>);

    fn cache(entries: &[Case<'_>]) -> Cache {
        let mut cache = Cache::default();
        for (id, revision, signed) in entries {
            let entry = Arc::new(CachedEntry {
                revision: *revision,
                on_demand: id.starts_with("lazy"),
                is_for_store: id.starts_with("store"),
                ..entry(id, "/a")
            });
            if let Some((renew_at, revision)) = signed {
                let signed = WorkloadSvid {
                    not_after: Timestamp::from_unix(renew_at + 10),
                    renew_at: Timestamp::from_unix(*renew_at),
                    revision: *revision,
                    ..svid(&entry)
                };
                cache.svids.insert((*id).into(), Arc::new(signed));
            }
            cache.entries.insert((*id).into(), entry);
        }
        cache
    }

    fn check(entries: &[Case<'_>], expected: &[&str]) {
        let wanted = [Arc::from("lazy wanted")].into();
        let due = due(&cache(entries), &wanted, Timestamp::from_unix(100));
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
        check(&[("lazy wanted", 0, None)], &["lazy wanted"]);
    }

    #[test]
    fn those_for_a_store_are_not_signed() {
        check(&[("store", 0, None)], &[]);
    }

    #[test]
    fn the_most_urgent_comes_first() {
        check(
            &[("a", 0, Some((99, 0))), ("b", 0, Some((50, 0))), ("c", 0, None)],
            &["c", "b", "a"],
        );
        check(&[("a", 0, None), ("lazy wanted", 0, None)], &["lazy wanted", "a"]);
    }

    fn check_readiness(entries: &[Case<'_>], standing_ends: Option<i64>, expected: bool) {
        let cache = Cache {
            is_synced: true,
            ..cache(entries)
        };
        let ends = standing_ends.map(Timestamp::from_unix);
        let now = Timestamp::from_unix(100);
        assert_eq!(can_serve(&cache, ends, now), expected);
        assert!(!can_serve(&Cache::default(), ends, now));
    }

    #[test]
    fn ready_is_who_has_a_standing_or_something_to_serve() {
        check_readiness(&[], Some(101), true);
        check_readiness(&[], Some(100), false);
        check_readiness(&[], None, false);
        check_readiness(&[("a", 0, Some((91, 0)))], None, true);
        check_readiness(&[("a", 0, Some((90, 0)))], Some(100), false);
    }
}
