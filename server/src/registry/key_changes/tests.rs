use attest::ek::{CertificateId, EkHash};
use plugin_api::{Enrolment, Finding, Offence, Staleness, Verdict};
use svid::{SelectorSet, Timestamp, TrustDomain, x509::SerialNumber};

use super::*;
use crate::{
    journal::Record,
    registry::{
        Agent, AgentSvid, Snapshot,
        consent::Approvals,
        host_changes::{AGENT_PATHS, remove},
        host_codec::tests::ak,
    },
};

const PATH: &str = "/spire/agent/tpm/dc1/db-1";
const NOW: Timestamp = Timestamp::from_unix(2000);

fn key(n: u8) -> EnrolledEk {
    EnrolledEk {
        hash: Some(EkHash([n; 32])),
        ..EnrolledEk::default()
    }
}

/// A key with which a credential was recovered.
fn proven(n: u8) -> EnrolledEk {
    EnrolledEk {
        name: Some(ak(n.into()).name()),
        ..key(n)
    }
}

fn by_certificate(n: u8) -> EnrolledEk {
    EnrolledEk {
        certificate: Some(CertificateId::new("CN=ca", &[n])),
        ..EnrolledEk::default()
    }
}

/// Host `h` attested by key 1, and has key 2 as well; `other` has key 8, and a row waits with key 9.
fn state() -> Snapshot {
    let mut state = Snapshot::empty(TrustDomain::parse("td").unwrap());
    let then = Timestamp::from_unix(1000);
    let enrolled = |id: &str| Host::enrolled(id.into(), then);
    state.hosts.insert(Arc::new(Host {
        endorsement_keys: vec![proven(1), key(2)],
        attestation_key: Some(ak(7)),
        agent_path: Some(PATH.into()),
        verdict: Verdict {
            finding: Finding::Verified,
            since: then,
            generation: 4,
        },
        ..enrolled("h")
    }));
    state.hosts.insert(Arc::new(Host {
        endorsement_keys: vec![key(8)],
        ..enrolled("other")
    }));
    state.hosts.insert(Arc::new(Host {
        endorsement_keys: vec![EnrolledEk {
            is_certified: true,
            ..key(9)
        }],
        enrolment: Enrolment::Pending {
            expires_at: Timestamp::NEVER,
        },
        ..enrolled("waiting")
    }));
    let agent = Agent {
        path: PATH.into(),
        attestation_type: "tpm".into(),
        current: AgentSvid {
            serial: SerialNumber::from_bytes(&[1]),
            not_after: Timestamp::NEVER,
        },
        next: None,
        banned: false,
        can_reattest: true,
        selectors: SelectorSet::default(),
        version: String::new(),
        host: Some("h".into()),
        attested_at: then,
    };
    state.agents.insert(PATH.into(), Arc::new(agent));
    state
}

type Changed = Result<Arc<Host>, KeysRefused>;

/// What a change made of the state, and the events in the audit trail.
fn change(change: impl FnOnce(&mut Draft) -> Changed) -> (Changed, Snapshot, Vec<&'static str>) {
    let mut draft = Draft::new(state(), NOW);
    let outcome = change(&mut draft);
    let finished = draft.finish();
    let events = finished.audit.iter().map(Record::event).collect();
    (outcome, finished.state, events)
}

#[test]
fn a_host_with_another_tpm_is_the_same_host_and_has_nothing_before_that_attests() {
    let (host, state, events) = change(|draft| replace_tpm(draft, "h", key(3), false, "op"));
    let host = host.unwrap();
    assert_eq!(events, ["host_tpm_replaced"]);
    assert_eq!(host.endorsement_keys, [key(3)]);
    assert_eq!((&host.attestation_key, &host.appraised), (&None, &None));
    assert_eq!(host.verdict.finding, Finding::Stale(Staleness::Replaced));
    assert_eq!(host.verdict.generation, 5);
    assert_eq!(host.agent_path.as_deref(), Some(PATH));
    assert!(state.withdrawals.contains_key(PATH), "what it had is revoked");
    assert!(state.agents.contains_key(PATH));
    assert!(state.hosts.with_ek(&EkHash([1; 32])).is_none());
    assert!(state.hosts.with_ak(&ak(7).name()).is_none());
}

#[test]
fn keys_may_be_kept_and_what_is_known_of_them_is() {
    let (host, ..) = change(|draft| replace_tpm(draft, "h", key(3), true, "op"));
    assert_eq!(host.unwrap().endorsement_keys, [key(3), proven(1), key(2)]);
    let (host, ..) = change(|draft| replace_tpm(draft, "h", key(1), false, "op"));
    assert_eq!(host.unwrap().endorsement_keys, [proven(1)]);
    let (host, state, _) = change(|draft| replace_tpm(draft, "h", key(9), false, "op"));
    assert!(
        host.unwrap().endorsement_keys[0].is_certified,
        "the row that waited is over"
    );
    assert!(state.hosts.get("waiting").is_none());
}

#[test]
fn another_tpm_lifts_no_quarantine() {
    let quarantined = Verdict {
        finding: Finding::Quarantined(Offence {
            code: "log_mismatch".into(),
            difference: String::new(),
        }),
        since: NOW,
        generation: 9,
    };
    let (host, state, _) = change(|draft| {
        let host = (**draft.state().hosts.get("h").unwrap()).clone();
        draft.put_host(Host {
            verdict: quarantined.clone(),
            ..host
        });
        replace_tpm(draft, "h", key(3), false, "op")
    });
    let host = host.unwrap();
    assert_eq!(host.verdict, quarantined);
    assert_eq!(host.attestation_key, None);
    assert!(
        state.withdrawals.is_empty(),
        "that was done when it was quarantined"
    );
}

#[test]
fn a_host_that_never_attested_keeps_the_id_of_its_first_key() {
    let (host, ..) = change(|draft| replace_tpm(draft, "other", key(3), false, "op"));
    let expected = format!("{AGENT_PATHS}{}", EkHash([8; 32]));
    assert_eq!(host.unwrap().agent_path.as_deref(), Some(expected.as_str()));
}

#[test]
fn an_id_that_another_host_has_is_not_kept() {
    let path_of_other = format!("{AGENT_PATHS}{}", EkHash([8; 32]));
    let mut state = state();
    let owner = (**state.hosts.get("h").unwrap()).clone();
    let agent = (**state.agents.get(PATH).unwrap()).clone();
    state.hosts.insert(Arc::new(Host {
        agent_path: Some(path_of_other.as_str().into()),
        ..owner
    }));
    state.agents.insert(
        path_of_other.as_str().into(),
        Arc::new(Agent {
            path: path_of_other.as_str().into(),
            ..agent
        }),
    );
    let mut draft = Draft::new(state, NOW);
    let replaced = replace_tpm(&mut draft, "other", key(3), false, "op").unwrap();
    assert_eq!(replaced.agent_path, None);
    let owner = draft.state().hosts.with_agent_path(&path_of_other).unwrap();
    assert_eq!(owner.id.as_ref(), "h");
    assert!(draft.state().withdrawals.is_empty());
}

#[test]
fn an_agent_of_another_host_is_not_touched() {
    let mut state = state();
    let mut other = (**state.hosts.get("other").unwrap()).clone();
    other.agent_path = Some(PATH.into());
    state.hosts.insert(Arc::new(other));
    let mut draft = Draft::new(state, NOW);
    replace_tpm(&mut draft, "other", key(3), false, "op").unwrap();
    remove(&mut draft, "other", "op").unwrap();
    assert!(draft.state().withdrawals.is_empty());
    assert!(draft.state().agents.contains_key(PATH));
}

#[test]
fn keys_are_added_and_taken_off() {
    let (host, state, events) = change(|draft| add_key(draft, "h", by_certificate(3), "op"));
    assert_eq!(
        host.unwrap().endorsement_keys,
        [proven(1), key(2), by_certificate(3)]
    );
    assert_eq!(events, ["host_ek_added"]);
    assert!(state.withdrawals.is_empty());
    let (host, _, events) = change(|draft| add_key(draft, "h", key(2), "op"));
    assert_eq!((host.unwrap().revision, events), (0, vec![]), "it has that");

    let (host, state, events) = change(|draft| remove_key(draft, "h", &key(2), "op"));
    let host = host.unwrap();
    assert_eq!(
        (host.endorsement_keys.as_slice(), events),
        (&[proven(1)][..], vec!["host_ek_removed"])
    );
    assert!(host.verdict.is_verified() && host.attestation_key.is_some());
    assert!(state.withdrawals.is_empty(), "nothing rested on it");

    let (host, state, _) = change(|draft| remove_key(draft, "h", &key(1), "op"));
    let host = host.unwrap();
    assert_eq!(host.verdict.finding, Finding::Stale(Staleness::Replaced));
    assert_eq!(
        (host.attestation_key.as_ref(), host.agent_path.as_deref()),
        (None, Some(PATH))
    );
    assert!(
        state.withdrawals.contains_key(PATH),
        "the attestation key may have rested on it"
    );
}

#[test]
fn a_key_that_the_host_has_takes_no_second_person() {
    let by = Orderer {
        actor: "op".into(),
        person: "op".into(),
        needed: Approvals::Two,
    };
    let order = |key: EnrolledEk| change(|draft| order_addition(draft, "h", &key, &by));
    for known in [key(1), proven(1), key(2)] {
        let (host, state, events) = order(known);
        let row = state.hosts.get("h").unwrap();
        assert_eq!((host.unwrap(), events), (Arc::clone(row), vec![]));
        assert_eq!((row.proposal.as_ref(), row.revision), (None, 0));
    }
    // A new one does, and so does what nobody knew of one that is there.
    let certified = EnrolledEk {
        certificate: by_certificate(1).certificate,
        ..key(1)
    };
    for new in [key(3), certified] {
        let (host, _, events) = order(new);
        assert!(host.unwrap().proposal.is_some());
        assert_eq!(events, ["host_order_noted"]);
    }
}

#[test]
fn a_key_of_another_host_is_refused_with_an_alarm() {
    let orders: [fn(&mut Draft) -> Changed; 2] = [
        |draft| replace_tpm(draft, "h", key(8), false, "op"),
        |draft| add_key(draft, "h", key(8), "op"),
    ];
    for order in orders {
        let (refused, state, events) = change(order);
        assert_eq!(refused, Err(KeysRefused::KeyTaken("other".into())));
        assert_eq!(events, ["host_alarm"]);
        let alarm = state.hosts.get("other").unwrap().alarm.clone().unwrap();
        assert_eq!((alarm.code.as_str(), alarm.count), ("ek_of_other_host", 1));
        assert_eq!(
            state.hosts.get("h").unwrap().endorsement_keys,
            [proven(1), key(2)]
        );
    }
}

#[test]
fn what_can_not_be_is_refused_and_changes_nothing() {
    let check = |order: &dyn Fn(&mut Draft) -> Changed, expected: KeysRefused| {
        let (refused, state, events) = change(|draft| order(draft));
        assert_eq!((refused, events), (Err(expected), vec![]));
        assert!(state.withdrawals.is_empty());
    };
    check(
        &|draft| replace_tpm(draft, "none", key(3), false, "op"),
        KeysRefused::NotFound,
    );
    check(
        &|draft| add_key(draft, "waiting", key(3), "op"),
        KeysRefused::NotEnrolled,
    );
    check(
        &|draft| remove_key(draft, "h", &key(3), "op"),
        KeysRefused::NoSuchKey,
    );
    check(
        &|draft| remove_key(draft, "other", &key(8), "op"),
        KeysRefused::LastKey,
    );
    let too_many = |draft: &mut Draft| {
        for n in 20..=33 {
            add_key(draft, "h", key(n), "op").unwrap();
        }
        add_key(draft, "h", key(40), "op")
    };
    let (refused, ..) = change(too_many);
    assert_eq!(refused, Err(KeysRefused::TooMany));
}
