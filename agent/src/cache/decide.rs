//! Which SVIDs are to be signed now, and whether there is anything to serve: pure decisions.

use std::{collections::BTreeSet, sync::Arc};

use svid::{Standing, Timestamp};

use super::{Cache, CachedEntry};

/// The entries whose SVID is missing, due, void, or was signed for an older revision: first those that somebody waits
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
    let svid = cache.svid(entry);
    let svid = svid.filter(|svid| svid.revision == entry.revision && cache.standing(svid) != Standing::Void);
    svid.map_or(Timestamp::from_unix(i64::MIN), |svid| svid.renew_at)
}

/// The entries whose SVID would do for now, but that its authority is tainted; those that end first come first.
/// Every host has some at the same moment.
#[must_use]
pub(super) fn tainted(cache: &Cache, now: Timestamp) -> Vec<Arc<CachedEntry>> {
    let svid = |entry: &Arc<CachedEntry>| cache.svid(entry);
    let mut tainted: Vec<_> = cache
        .entries
        .values()
        .filter(|entry| svid(entry).is_some_and(|svid| cache.standing(svid) == Standing::Tainted))
        .filter(|entry| renewal_of(cache, entry) > now)
        .cloned()
        .collect();
    tainted.sort_by_key(|entry| svid(entry).map(|svid| svid.not_after));
    tainted
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
    use svid::{Bundle, Roots, TrustDomain, X509Authority};

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

    /// A root that is tainted or not, and the name of its key.
    fn root(tainted: bool) -> (X509Authority, Option<Vec<u8>>) {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.use_authority_key_identifier_extension = true;
        let root = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let signed_by = svid::signed_by(&[root.der()]);
        assert!(signed_by.is_some());
        let certificate = root.der().clone();
        (X509Authority { certificate, tainted }, signed_by)
    }

    #[test]
    fn what_a_tainted_or_revoked_authority_signed_is_signed_anew() {
        let ((good, by_good), (tainted_root, by_tainted), (_, by_revoked)) =
            (root(false), root(true), root(false));
        let mut cache = cache(&[
            ("due", 0, Some((99, 0))),
            ("good", 0, Some((200, 0))),
            ("later", 0, Some((300, 0))),
            ("revoked", 0, Some((200, 0))),
            ("sooner", 0, Some((200, 0))),
        ]);
        let mut bundle = Bundle::empty(TrustDomain::parse("td").unwrap());
        bundle.x509_authorities = vec![good, tainted_root];
        cache.roots = Arc::new(Roots::of(&bundle));
        cache.bundle = Some(Arc::new(bundle));
        for (id, signed_by) in [
            ("due", &by_tainted),
            ("good", &by_good),
            ("later", &by_tainted),
            ("revoked", &by_revoked),
            ("sooner", &by_tainted),
        ] {
            let svid = cache.svids.get_mut(id).unwrap();
            Arc::get_mut(svid).unwrap().signed_by.clone_from(signed_by);
        }
        let now = Timestamp::from_unix(100);
        let ids = |entries: Vec<Arc<CachedEntry>>| {
            entries
                .iter()
                .map(|entry| entry.id.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(due(&cache, &BTreeSet::new(), now)), ["due", "revoked"]);
        assert_eq!(ids(tainted(&cache, now)), ["sooner", "later"]);
    }
}
