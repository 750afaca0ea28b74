//! Which SVIDs are to be signed now: a pure decision.

use std::sync::Arc;

use svid::{Standing, Timestamp};

use super::{Cache, CachedEntry};

/// The entries whose SVID is missing, due, void, or was signed for an older revision, the most urgent first.
#[must_use]
pub fn due(cache: &Cache, now: Timestamp) -> Vec<Arc<CachedEntry>> {
    let mut due: Vec<_> = cache
        .entries
        .values()
        .filter(|entry| !entry.on_demand || cache.svids.contains_key(&entry.id))
        .filter(|entry| renewal_of(cache, entry) <= now)
        .cloned()
        .collect();
    let ends = |entry: &Arc<CachedEntry>| cache.svids.get(&entry.id).map(|svid| svid.not_after);
    due.sort_by_key(ends);
    due
}

/// When the SVID of `entry` is to be signed; the far past if that is overdue.
#[must_use]
pub fn renewal_of(cache: &Cache, entry: &CachedEntry) -> Timestamp {
    let svid = cache.svids.get(&entry.id);
    let svid = svid.filter(|svid| svid.revision == entry.revision && cache.standing(svid) != Standing::Void);
    svid.map_or(Timestamp::from_unix(i64::MIN), |svid| svid.renew_at)
}

/// The entries whose SVID would do for now, but that its authority is tainted; those that end first come first.
/// Every host has some at the same moment.
#[must_use]
pub fn tainted(cache: &Cache, now: Timestamp) -> Vec<Arc<CachedEntry>> {
    let svid = |entry: &Arc<CachedEntry>| cache.svids.get(&entry.id);
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

#[cfg(test)]
mod tests {
    use svid::{Bundle, Roots, SelectorSet, SpiffeId, TrustDomain, X509Authority};
    use zeroize::Zeroizing;

    use super::*;
    use crate::workload_svid::WorkloadSvid;

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
                    signed_by: None,
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
        assert_eq!(ids(due(&cache, now)), ["due", "revoked"]);
        assert_eq!(ids(tainted(&cache, now)), ["sooner", "later"]);
    }
}
