use svid::{Bundle, Roots, TrustDomain};

use super::*;
use crate::cache::testing::{entry, svid};

const NOW: Timestamp = Timestamp::from_unix(100);

fn bundle(sequence: u64) -> Option<Arc<Bundle>> {
    let empty = Bundle::empty(TrustDomain::parse("td").unwrap());
    Some(Arc::new(Bundle { sequence, ..empty }))
}

/// Of each entry its identifier, and the life of its SVID if it has one.
fn cache(entries: &[(&str, Option<(i64, i64)>)]) -> Cache {
    let mut cache = Cache {
        bundle: bundle(1),
        ..Cache::default()
    };
    for (id, life) in entries {
        let entry = Arc::new(entry(id, "/a"));
        if let Some((from, to)) = life {
            let svid = WorkloadSvid {
                not_before: Timestamp::from_unix(*from),
                not_after: Timestamp::from_unix(*to),
                ..svid(&entry)
            };
            cache.svids.insert((*id).into(), Arc::new(svid));
        }
        cache.entries.insert((*id).into(), entry);
    }
    cache
}

fn ids(cache: &Cache) -> (Vec<&str>, Vec<&str>) {
    let entries = cache.entries.keys().map(AsRef::as_ref).collect();
    (entries, cache.svids.keys().map(AsRef::as_ref).collect())
}

#[test]
fn what_is_kept_has_not_ended_and_can_be_served() {
    let kept = cache(&[("a", Some((0, 101))), ("b", Some((0, 100))), ("c", None)]);
    let kept = keepable(&kept, NOW).unwrap();
    assert_eq!(ids(&kept), (vec!["a", "b", "c"], vec!["a"]));

    assert!(keepable(&cache(&[("a", Some((0, 100))), ("c", None)]), NOW).is_none());
    assert!(keepable(&Cache::default(), NOW).is_none());
    let no_bundle = Cache {
        bundle: None,
        ..cache(&[("a", Some((0, 101)))])
    };
    assert!(keepable(&no_bundle, NOW).is_none());
}

#[test]
fn svids_of_a_revoked_authority_are_not_kept() {
    let mut kept = cache(&[("a", Some((0, 101)))]);
    let signed = WorkloadSvid {
        signed_by: Some(vec![1]),
        ..svid(&entry("a", "/a"))
    };
    kept.svids.insert("a".into(), Arc::new(signed));
    kept.roots = Arc::new(Roots::of(kept.bundle.as_deref().unwrap()));
    assert!(keepable(&kept, NOW).is_none());
}

fn check_opened(svids: &[(&str, Option<(i64, i64)>)], written_at: i64, expected: Option<&[&str]>) {
    let content = Content {
        written_at: Timestamp::from_unix(written_at),
        cache: cache(svids),
    };
    match (opened(&content, NOW), expected) {
        (Opened::Served(cache), Some(expected)) => assert_eq!(ids(&cache).1, expected),
        (Opened::Ended, None) => {}
        (opened, expected) => panic!("{opened:?} is not {expected:?}"),
    }
}

#[test]
fn what_is_not_valid_now_is_not_served() {
    check_opened(&[("a", Some((0, 101)))], 100, Some(&["a"]));
    check_opened(
        &[("a", Some((100, 101))), ("b", Some((101, 200)))],
        99,
        Some(&["a"]),
    );
    check_opened(&[("a", Some((0, 100)))], 50, None);
    check_opened(&[("b", Some((101, 200)))], 50, None);
    check_opened(&[("a", None)], 50, None);
}

#[test]
fn a_clock_that_was_set_back_opens_nothing() {
    let content = Content {
        written_at: Timestamp::from_unix(101),
        cache: cache(&[("a", Some((0, 200)))]),
    };
    assert!(matches!(opened(&content, NOW), Opened::Ahead));
}

#[test]
fn what_is_no_more_is_out_of_the_file_at_once() {
    let held = cache(&[("a", Some((0, 101))), ("b", None)]);
    let check = |change: fn(&mut Cache), expected: Urgency| {
        let mut wanted = held.clone();
        change(&mut wanted);
        let held = Held::State(Arc::new(held.clone()));
        assert_eq!(urgency(&held, Some(&wanted)), expected);
    };
    check(|_| {}, Urgency::Unneeded);
    check(|wanted| wanted.number = 7, Urgency::Unneeded);
    check(|wanted| drop(wanted.entries.remove("b")), Urgency::AtOnce);
    check(
        |wanted| {
            let changed = entry("a", "/another");
            wanted.entries.insert("a".into(), Arc::new(changed));
        },
        Urgency::AtOnce,
    );
    check(|wanted| wanted.bundle = bundle(2), Urgency::AtOnce);
    check(
        |wanted| {
            let more = entry("c", "/c");
            wanted.entries.insert("c".into(), Arc::new(more));
        },
        Urgency::Soon,
    );
    check(
        |wanted| {
            let renewed = svid(&entry("a", "/a"));
            wanted.svids.insert("a".into(), Arc::new(renewed));
        },
        Urgency::Soon,
    );
    check(|wanted| wanted.svids.clear(), Urgency::Soon);
    check(
        |wanted| wanted.crls = [proto::bytes::Bytes::new()].into(),
        Urgency::Soon,
    );
}

#[test]
fn a_file_that_is_not_known_is_replaced_or_removed() {
    let wanted = cache(&[("a", Some((0, 101)))]);
    let held = Held::State(Arc::new(wanted.clone()));
    assert_eq!(urgency(&Held::Unknown, Some(&wanted)), Urgency::AtOnce);
    assert_eq!(urgency(&Held::Unknown, None), Urgency::AtOnce);
    assert_eq!(urgency(&held, None), Urgency::AtOnce);
    assert_eq!(urgency(&Held::Nothing, Some(&wanted)), Urgency::Soon);
    assert_eq!(urgency(&Held::Nothing, None), Urgency::Unneeded);
    assert_eq!(next_end(&held), Some(Timestamp::from_unix(101)));
    assert_eq!(next_end(&Held::Nothing), None);
}
