use std::net::Ipv4Addr;

use attest::{
    PcrSelection,
    ek::{CertificateId, EkHash},
    policy::{Generation, Stage},
    wire::ClockInfo,
};
use plugin_api::{
    Appraised, Claim, HostClaim, HostEvent, KernelList, Offence, PolicyJudgement, PolicyStanding,
    SvidKeyPlace,
};
use svid::{SelectorSet, Timestamp, TrustDomain, x509::SerialNumber};

use super::*;
use crate::registry::{
    AgentSvid, Snapshot, StoredGeneration, StoredPolicy, Touched,
    changes::{Attestation, NotRecorded, record_attestation},
    host_codec::tests::ak,
    key_changes::replace_tpm,
    verdict_changes::{Basis, Judgement, condemn, hear, judge},
};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const PATH: &str = "/spire/agent/tpm/one";

struct World {
    state: Snapshot,
    now: Timestamp,
    rows: usize,
    /// What the last change touched.
    touched: Vec<Touched>,
}

fn world() -> World {
    World {
        state: Snapshot::empty(TrustDomain::parse("td").unwrap()),
        now: Timestamp::from_unix(1_000_000),
        rows: 0,
        touched: Vec::new(),
    }
}

impl World {
    /// Makes a change; also says what was audited.
    fn change<T>(&mut self, change: impl FnOnce(&mut Draft) -> T) -> (T, Vec<&'static str>) {
        let mut draft = Draft::new(self.state.clone(), self.now);
        let outcome = change(&mut draft);
        let finished = draft.finish();
        self.state = finished.state;
        self.touched = finished.touched;
        let events = finished.audit.iter().map(Record::event).collect();
        (outcome, events)
    }

    fn id(&mut self) -> HostId {
        self.rows += 1;
        format!("row-{}", self.rows).into()
    }

    fn admit(&mut self, newcomer: &Newcomer, from: IpAddr) -> Result<Arc<Host>, TooManyPending> {
        let id = self.id();
        self.change(|draft| admit(draft, newcomer, from, id)).0
    }

    fn import(&mut self, keys: &[EnrolledEk]) -> Imported {
        let new = NewHost {
            id: self.id(),
            name: "db".into(),
            endorsement_keys: keys.into(),
            policies: Vec::new(),
            agent_path: None,
        };
        self.change(|draft| import(draft, new, &op())).0
    }

    fn enrolled(&mut self, keys: &[EnrolledEk]) -> Arc<Host> {
        match self.import(keys) {
            Imported::Enrolled(host) => host,
            other => panic!("{other:?}"),
        }
    }

    fn claim(&mut self, claimed: HostClaim) -> Result<(), HostMoved> {
        self.change(|draft| claim(draft, claimed, HostEvent::Attested, &PATH.into(), "10.0.0.1:7"))
            .0
    }

    fn attest(&mut self, claimed: HostClaim) -> Result<(), NotRecorded> {
        let attestation = Attestation {
            claims: vec![Claim::Host(Box::new(claimed))],
            ..attestation()
        };
        self.change(|draft| record_attestation(draft, attestation)).0
    }

    fn ids(&self) -> Vec<&str> {
        self.state.hosts.after("").map(|host| host.id.as_ref()).collect()
    }
}

fn op() -> Orderer {
    person("op", Approvals::One)
}

fn person(name: &str, needed: Approvals) -> Orderer {
    Orderer {
        actor: name.into(),
        person: name.into(),
        needed,
    }
}

fn attestation() -> Attestation {
    Attestation {
        path: PATH.into(),
        attestation_type: "tpm",
        svid: AgentSvid {
            serial: SerialNumber::from_bytes(&[1]),
            not_after: Timestamp::NEVER,
        },
        selectors: SelectorSet::default(),
        can_reattest: true,
        claims: Vec::new(),
        address: "10.0.0.1:7".into(),
    }
}

fn hash(n: u16) -> EkHash {
    let mut hash = [0; 32];
    hash[..2].copy_from_slice(&n.to_be_bytes());
    EkHash(hash)
}

fn by_hash(n: u16) -> EnrolledEk {
    EnrolledEk {
        hash: Some(hash(n)),
        ..EnrolledEk::default()
    }
}

fn by_certificate(n: u8) -> EnrolledEk {
    EnrolledEk {
        certificate: Some(CertificateId::new("CN=ca", &[n])),
        ..EnrolledEk::default()
    }
}

/// As a TPM proves it: with its hash and, where a root vouches for it, its certificate.
fn certified(n: u16, certificate: u8) -> EnrolledEk {
    EnrolledEk {
        hash: Some(hash(n)),
        is_certified: true,
        ..by_certificate(certificate)
    }
}

fn newcomer(ek: EnrolledEk) -> Newcomer {
    Newcomer { endorsement_key: ek }
}

fn claim_of(host: &Host, activated: Option<EnrolledEk>, ak_seed: u16) -> HostClaim {
    HostClaim {
        id: Arc::clone(&host.id),
        revision: host.revision,
        activated,
        attestation_key: ak(ak_seed),
        appraised: Appraised {
            standing: attest::Standing {
                clock: ClockInfo {
                    clock: 1,
                    reset_count: 2,
                    restart_count: 3,
                    safe: true,
                },
                firmware_version: 4,
            },
            selection: PcrSelection::standard(),
            pcr_digest: [5; 32],
            policy_generation: 0,
            policies: Vec::new(),
            selectors: Vec::new(),
            event_log: None,
            kernel_list: None,
        },
        svid_key: None,
        event_log: None,
        hello: [6; 32],
    }
}

#[test]
fn where_the_key_is_says_the_attestation_alone() {
    let mut world = world();
    let host = world.enrolled(&[by_hash(1)]);
    let place = |world: &World| world.state.hosts.get("row-1").unwrap().svid_key;
    assert_eq!(place(&world), None);
    let mut revision = host.revision;
    for (claimed, expected) in [
        (Some(SvidKeyPlace::Tpm), SvidKeyPlace::Tpm),
        (None, SvidKeyPlace::Tpm),
        (Some(SvidKeyPlace::Unproven), SvidKeyPlace::Unproven),
    ] {
        let claimed = HostClaim {
            revision,
            svid_key: claimed,
            ..claim_of(&host, None, 1)
        };
        world.claim(claimed).unwrap();
        assert_eq!(place(&world), Some(expected));
        revision = world.state.hosts.get("row-1").unwrap().revision;
    }
}

/// Rows that wait, from `source`, with keys of their own.
fn fill(world: &mut World, count: u16, source: IpAddr, ek: impl Fn(u16) -> EnrolledEk) {
    let first = u16::try_from(world.state.hosts.len()).unwrap();
    for n in first..first + count {
        let host = Host {
            enrolment: Enrolment::Pending {
                expires_at: Timestamp::NEVER,
            },
            endorsement_keys: vec![ek(n)],
            last_address: source.to_string(),
            ..Host::enrolled(world.id(), world.now)
        };
        world.state.hosts.insert(Arc::new(host));
    }
}

#[test]
fn one_tpm_gets_one_row() {
    let mut world = world();
    let id = world.id();
    let tpm = newcomer(by_hash(1));
    let (host, events) = world.change(|draft| admit(draft, &tpm, HERE, id).unwrap());
    assert_eq!(events, ["host_pending"]);
    assert!(!host.is_enrolled());
    assert_eq!(host.last_address, "10.0.0.1");
    assert_eq!(world.admit(&tpm, THERE).unwrap(), host);
    assert_eq!(host.attestation_key, None);
    // By now a root vouches for it.
    let vouched = world.admit(&newcomer(certified(1, 1)), HERE).unwrap();
    assert_eq!(vouched.endorsement_keys, [certified(1, 1)]);
    assert_eq!(world.ids(), ["row-1"]);
    // Another key is another host, as far as anybody knows.
    let other = world.admit(&newcomer(by_hash(3)), HERE).unwrap();
    assert_eq!(other.id.as_ref(), "row-4");
}

#[test]
fn a_host_that_comes_back_waits_anew() {
    let mut world = world();
    let tpm = newcomer(by_hash(1));
    let first = world.admit(&tpm, HERE).unwrap();
    world.now = world.now.plus(REFRESH_AFTER - Duration::from_secs(1));
    assert_eq!(world.admit(&tpm, THERE).unwrap(), first);
    world.now = world.now.plus(Duration::from_secs(1));
    let renewed = world.admit(&tpm, THERE).unwrap();
    let expires_at = world.now.plus(PENDING_FOR);
    assert_eq!(renewed.enrolment, Enrolment::Pending { expires_at });
    assert_eq!(renewed.last_address, "10.0.0.2");
    assert_eq!(renewed.created_at, first.created_at);
}

#[test]
fn a_host_that_was_enrolled_meanwhile_gets_no_second_row() {
    for (enrolled, proven) in [(by_hash(1), by_hash(1)), (by_certificate(1), certified(1, 1))] {
        let mut world = world();
        let host = world.enrolled(&[enrolled]);
        assert_eq!(world.admit(&newcomer(proven), HERE).unwrap(), host);
    }
}

#[test]
fn each_source_may_have_so_many_that_wait() {
    let mut world = world();
    let newcomers = [newcomer(by_hash(60_000)), newcomer(certified(60_001, 1))];
    fill(
        &mut world,
        u16::try_from(UNCERTIFIED.a_source).unwrap(),
        HERE,
        by_hash,
    );
    assert_eq!(world.admit(&newcomers[0], HERE), Err(TooManyPending));
    // One that waits already may come back; others are not in its way.
    assert!(world.admit(&newcomer(by_hash(0)), HERE).is_ok());
    assert!(world.admit(&newcomers[1], HERE).is_ok());
    assert!(world.admit(&newcomers[0], THERE).is_ok());
}

#[test]
fn so_many_may_wait_in_all() {
    let mut world = world();
    let a_source = u16::try_from(UNCERTIFIED.a_source).unwrap();
    for source in 0..u8::try_from(UNCERTIFIED.in_all / UNCERTIFIED.a_source).unwrap() {
        fill(&mut world, a_source, [192, 0, 2, source].into(), by_hash);
    }
    let (plain, vouched) = (newcomer(by_hash(60_000)), newcomer(certified(60_001, 1)));
    assert_eq!(world.admit(&plain, HERE), Err(TooManyPending));
    assert!(world.admit(&vouched, HERE).is_ok());
    // Enrolled hosts don't wait.
    world.change(|draft| approve(draft, "row-1", "", &op()).unwrap());
    assert!(world.admit(&plain, HERE).is_ok());
}

#[test]
fn certified_hosts_have_caps_of_their_own() {
    let mut world = world();
    let vouched = |n: u16| EnrolledEk {
        is_certified: true,
        ..by_hash(n)
    };
    fill(
        &mut world,
        u16::try_from(CERTIFIED.a_source).unwrap(),
        HERE,
        vouched,
    );
    assert_eq!(world.admit(&newcomer(vouched(60_000)), HERE), Err(TooManyPending));
    assert!(world.admit(&newcomer(by_hash(60_000)), HERE).is_ok());
}

#[test]
fn an_attestation_is_noted_in_the_row() {
    let mut world = world();
    let host = world.enrolled(&[by_certificate(1)]);
    let claimed = claim_of(&host, Some(certified(1, 1)), 7);
    assert_eq!(world.claim(claimed.clone()), Ok(()));
    let expected = Host {
        endorsement_keys: vec![certified(1, 1)],
        attestation_key: Some(ak(7)),
        last_attested_at: Some(world.now),
        last_address: "10.0.0.1:7".into(),
        appraised: Some(claimed.appraised.clone()),
        agent_path: Some(PATH.into()),
        verdict: host.verdict.after(HostEvent::Attested, world.now).unwrap(),
        revision: 2,
        ..(*host).clone()
    };
    assert_eq!(**world.state.hosts.get("row-1").unwrap(), expected);
    assert_eq!(world.state.hosts.with_ek(&hash(1)).unwrap().id, host.id);
    assert_eq!(world.state.hosts.with_ak(&ak(7).name()).unwrap().id, host.id);
    // It counts for the row that it was decided on, once.
    assert_eq!(world.claim(claimed), Err(HostMoved::Changed));
}

#[test]
fn an_attestation_of_a_row_that_moved_does_not_count() {
    let mut world = world();
    let host = world.enrolled(&[by_hash(1)]);
    let waiting = world.admit(&newcomer(by_hash(2)), HERE).unwrap();
    let stale = HostClaim {
        revision: host.revision + 1,
        ..claim_of(&host, None, 1)
    };
    assert_eq!(world.claim(stale), Err(HostMoved::Changed));
    assert_eq!(world.claim(claim_of(&waiting, None, 2)), Err(HostMoved::Changed));
    world.change(|draft| remove(draft, &host.id, "op"));
    assert_eq!(
        world.attest(claim_of(&host, None, 1)),
        Err(NotRecorded::Host(HostMoved::Changed))
    );
    assert!(world.state.agents.is_empty());
}

#[test]
fn an_attestation_ends_the_row_that_waits_for_its_key_and_takes_nothing_from_it() {
    let mut world = world();
    let host = world.enrolled(&[by_certificate(1)]);
    world.admit(&newcomer(by_hash(2)), HERE).unwrap();
    world.admit(&newcomer(by_hash(3)), HERE).unwrap();
    let claimed = claim_of(&host, Some(certified(2, 1)), 3);
    let (outcome, events) =
        world.change(|draft| claim(draft, claimed, HostEvent::Attested, &PATH.into(), "10.0.0.1:7"));
    assert_eq!(
        (outcome, events),
        (Ok(()), vec!["host_keys_changed", "host_verified"])
    );
    assert_eq!(world.ids(), ["row-1", "row-3"]);
    let joined = world.state.hosts.get("row-1").unwrap();
    assert_eq!(joined.endorsement_keys, [certified(2, 1)]);
    assert_eq!(world.state.hosts.with_ek(&hash(2)), Some(joined));
    assert_eq!(world.state.hosts.with_ak(&ak(3).name()), Some(joined));
    // Nothing new, no record.
    let again = claim_of(&Arc::clone(joined), Some(certified(2, 1)), 3);
    let (_, events) =
        world.change(|draft| claim(draft, again, HostEvent::Answered, &PATH.into(), "10.0.0.1:7"));
    assert_eq!(events, Vec::<&str>::new());
}

/// Once for each that is new, and from nothing again in another boot.
#[test]
fn files_that_changed_while_they_were_measured_are_recorded() {
    let mut world = world();
    let id = Arc::clone(&world.enrolled(&[by_hash(1)]).id);
    for (reset_count, violations, expected) in [
        (1, 0, vec!["host_keys_changed", "host_verified"]),
        (1, 2, vec!["host_kernel_violations"]),
        (1, 2, vec![]),
        (1, 3, vec!["host_kernel_violations"]),
        (2, 0, vec![]),
        (2, 1, vec!["host_kernel_violations"]),
        (3, 1, vec!["host_kernel_violations"]),
    ] {
        let host = Arc::clone(world.state.hosts.get(&id).unwrap());
        let mut claimed = claim_of(&host, None, 1);
        claimed.appraised.kernel_list = Some(KernelList {
            violations,
            ..KernelList::of_boot(reset_count)
        });
        let (outcome, mut events) =
            world.change(|draft| claim(draft, claimed, HostEvent::Attested, &PATH.into(), "10.0.0.1:7"));
        events.sort_unstable();
        assert_eq!(
            (outcome, events),
            (Ok(()), expected),
            "{reset_count}, {violations}"
        );
    }
}

#[test]
fn an_id_belongs_to_one_host() {
    let mut world = world();
    let first = world.enrolled(&[by_hash(1)]);
    let second = world.enrolled(&[by_hash(2)]);
    world.attest(claim_of(&first, None, 1)).unwrap();
    assert_eq!(
        world.attest(claim_of(&second, None, 2)),
        Err(NotRecorded::Host(HostMoved::KeyTaken))
    );
}

#[test]
fn a_key_of_another_enrolled_host_is_taken() {
    let mut world = world();
    let host = world.enrolled(&[by_hash(1)]);
    let other = world.enrolled(&[by_hash(2), by_certificate(2)]);
    world.claim(claim_of(&other, None, 2)).unwrap();
    world.admit(&newcomer(by_hash(3)), HERE).unwrap();
    let before = world.state.hosts.len();
    for (activated, ak_seed) in [
        (Some(by_hash(2)), 1),
        (Some(certified(1, 2)), 1),
        (None, 2),
        (Some(by_hash(3)), 2),
    ] {
        let claimed = claim_of(&host, activated, ak_seed);
        assert_eq!(world.claim(claimed), Err(HostMoved::KeyTaken));
    }
    assert_eq!(world.state.hosts.len(), before, "a refused claim changes nothing");
}

#[test]
fn a_host_is_enrolled_once() {
    let mut world = world();
    let keys = [by_hash(1), by_certificate(1)];
    let new = NewHost {
        id: world.id(),
        name: "db".into(),
        endorsement_keys: keys.to_vec(),
        policies: Vec::new(),
        agent_path: None,
    };
    let (imported, events) = world.change(|draft| import(draft, new, &op()));
    assert_eq!(events, ["host_enrolled"]);
    let Imported::Enrolled(host) = imported else {
        panic!("{imported:?}");
    };
    assert_eq!((host.name.as_str(), host.is_enrolled()), ("db", true));
    for key in [by_hash(1), by_certificate(1), certified(9, 1)] {
        let again = world.import(&[by_hash(5), key]);
        assert!(matches!(again, Imported::AlreadyEnrolled(known) if known == host));
    }
    assert_eq!(world.ids(), ["row-1"]);
}

#[test]
fn an_agent_id_belongs_to_one_host() {
    let mut world = world();
    let new = NewHost {
        id: world.id(),
        name: "db".into(),
        endorsement_keys: vec![by_hash(1)],
        agent_path: Some(PATH.into()),
        policies: Vec::new(),
    };
    let again = NewHost {
        id: world.id(),
        endorsement_keys: vec![by_hash(2)],
        ..new.clone()
    };
    let (imported, _) = world.change(|draft| import(draft, new, &op()));
    let Imported::Enrolled(host) = imported else {
        panic!("{imported:?}");
    };
    assert_eq!(host.agent_path.as_deref(), Some(PATH));
    let (refused, events) = world.change(|draft| import(draft, again, &op()));
    assert!(matches!(refused, Imported::PathTaken(path) if path.as_ref() == PATH));
    assert_eq!(events, Vec::<&str>::new());
    // Whoever comes to it by its endorsement key has to have another one.
    let other = world.enrolled(&[by_hash(3)]);
    assert_eq!(world.claim(claim_of(&other, None, 3)), Err(HostMoved::PathTaken));
    assert_eq!(world.claim(claim_of(&host, None, 1)), Ok(()));
}

/// The agent keeps the ID of the key that its host no longer has.
#[test]
fn a_key_whose_id_another_host_has_takes_another_path() {
    let mut world = world();
    let host = world.enrolled(&[by_hash(1)]);
    let path: Arc<str> = format!("{AGENT_PATHS}{}", hash(1)).into();
    let replaced = world.change(|draft| replace_tpm(draft, &host.id, by_hash(2), false, "op"));
    assert_eq!(replaced.0.unwrap().agent_path.as_ref(), Some(&path));
    assert!(matches!(world.import(&[by_hash(1)]), Imported::PathTaken(taken) if taken == path));
    world.change(|draft| remove(draft, &host.id, "op"));
    world.enrolled(&[by_hash(1)]);
}

#[test]
fn importing_enrols_the_rows_that_wait() {
    let mut world = world();
    let waiting = world.admit(&newcomer(by_hash(1)), HERE).unwrap();
    world.admit(&newcomer(certified(2, 2)), HERE).unwrap();
    let host = world.enrolled(&[by_hash(1), by_certificate(2), by_hash(3)]);
    assert_eq!(host.id, waiting.id);
    assert_eq!(host.endorsement_keys, [by_hash(1), certified(2, 2), by_hash(3)]);
    assert_eq!(world.ids(), ["row-1"]);
    assert_eq!(world.state.hosts.with_ek(&hash(2)), Some(&host));
}

#[test]
fn where_it_takes_two_a_host_waits_for_the_second() {
    let (alice, bob) = (person("alice", Approvals::Two), person("bob", Approvals::Two));
    let mut world = world();
    let new = NewHost {
        id: world.id(),
        name: "db".into(),
        endorsement_keys: vec![by_hash(1)],
        agent_path: Some(PATH.into()),
        policies: Vec::new(),
    };
    let import_as = |world: &mut World, by: &Orderer, new: &NewHost| {
        let (new, by) = (new.clone(), by.clone());
        world.change(move |draft| import(draft, new, &by))
    };
    let (first, events) = import_as(&mut world, &alice, &new);
    assert!(matches!(&first, Imported::Waiting(host) if !host.is_enrolled()));
    assert_eq!(events, ["host_order_noted"]);
    let (again, events) = import_as(&mut world, &alice, &new);
    assert!(
        matches!(again, Imported::Waiting(_)) && events.is_empty(),
        "once more is not twice"
    );
    // Whoever wants something else of it orders something else.
    let other = NewHost {
        endorsement_keys: vec![by_hash(1), by_hash(2)],
        ..new.clone()
    };
    let (other, events) = import_as(&mut world, &bob, &other);
    assert!(matches!(other, Imported::Waiting(_)));
    assert_eq!(events, ["host_order_noted"]);
    let _alice = import_as(&mut world, &alice, &new);
    let (approved, events) = world.change(|draft| approve(draft, "row-1", "", &bob).unwrap());
    assert!(approved.is_enrolled() && approved.proposal.is_none());
    assert_eq!(approved.endorsement_keys, [by_hash(1)]);
    assert_eq!((approved.name.as_str(), events), ("db", vec!["host_enrolled"]));
    assert_eq!(world.ids(), ["row-1"]);
}

#[test]
fn hosts_that_operators_ordered_take_no_ones_place() {
    let alice = person("alice", Approvals::Two);
    let mut world = world();
    for n in 0..5000 {
        let new = NewHost {
            id: world.id(),
            name: String::new(),
            endorsement_keys: vec![by_hash(n)],
            agent_path: None,
            policies: Vec::new(),
        };
        world.change(|draft| import(draft, new, &alice));
    }
    assert!(world.admit(&newcomer(by_hash(6000)), HERE).is_ok());
}

#[test]
fn approval_enrols_and_names() {
    let mut world = world();
    world.admit(&newcomer(by_hash(1)), HERE).unwrap();
    let mut approve_as = |name: &str| {
        let (host, events) = world.change(|draft| approve(draft, "row-1", name, &op()).unwrap());
        (host.is_enrolled(), host.name.clone(), host.revision, events)
    };
    assert_eq!(approve_as("db"), (true, "db".into(), 2, vec!["host_enrolled"]));
    assert_eq!(approve_as(""), (true, "db".into(), 2, vec![]));
    assert_eq!(approve_as("db"), (true, "db".into(), 2, vec![]));
    assert_eq!(approve_as("web"), (true, "web".into(), 3, vec!["host_enrolled"]));
    let (none, events) = world.change(|draft| approve(draft, "row-9", "", &op()));
    assert_eq!((none, events), (None, vec![]));
}

#[test]
fn a_removed_host_takes_its_agent_along() {
    let mut world = world();
    let host = world.enrolled(&[by_hash(1)]);
    world.attest(claim_of(&host, None, 1)).unwrap();
    let agent = &world.state.agents[PATH];
    assert_eq!(agent.host, Some(Arc::clone(&host.id)));
    let (removed, events) = world.change(|draft| remove(draft, &host.id, "op"));
    assert_eq!(removed.unwrap().id, host.id);
    assert_eq!(events, ["host_removed", "agent_deleted"]);
    // Its session is woken, and looks for the agent in vain.
    assert!(matches!(world.touched.as_slice(), [Touched::Agent(path)] if path.as_ref() == PATH));
    assert!(world.state.hosts.is_empty() && world.state.agents.is_empty());
    assert_eq!(world.state.hosts.with_ek(&hash(1)), None);
    assert_eq!(world.state.hosts.with_ak(&ak(1).name()), None);
    let (none, events) = world.change(|draft| remove(draft, &host.id, "op"));
    assert_eq!((none, events), (None, vec![]));
}

#[test]
fn hosts_that_nobody_approved_are_dropped() {
    let mut world = world();
    world.admit(&newcomer(by_hash(1)), HERE).unwrap();
    world.enrolled(&[by_hash(2)]);
    world.now = world.now.plus(PENDING_FOR - Duration::from_secs(1));
    let ((), events) = world.change(prune);
    assert_eq!(events, Vec::<&str>::new());
    world.now = world.now.plus(Duration::from_secs(1));
    let ((), events) = world.change(prune);
    assert_eq!(events, ["host_expired"]);
    assert_eq!(world.ids(), ["row-2"]);
}

#[test]
fn good_evidence_verifies_unless_the_host_is_quarantined_or_has_to_attest() {
    let mut world = world();
    let host = world.enrolled(&[by_hash(1)]);
    let answer = |world: &mut World, event: HostEvent| {
        let host = Arc::clone(world.state.hosts.get("row-1").unwrap());
        let claimed = claim_of(&host, None, 1);
        world
            .change(|draft| claim(draft, claimed, event, &PATH.into(), "10.0.0.1:7"))
            .0
    };
    let happens = |world: &mut World, event: HostEvent| {
        let by = Judgement {
            actor: "op",
            exposure: None,
        };
        world.change(|draft| judge(draft, "row-1", event, &by)).0.unwrap()
    };
    assert_eq!(
        answer(&mut world, HostEvent::Answered),
        Err(HostMoved::MustAttest)
    );
    assert_eq!(answer(&mut world, HostEvent::Attested), Ok(()));
    assert_eq!(happens(&mut world, HostEvent::Silent).verdict.generation, 2);
    assert_eq!(answer(&mut world, HostEvent::Answered), Ok(()));
    let offence = Offence {
        code: "pcr_digest".into(),
        difference: String::new(),
    };
    happens(&mut world, HostEvent::Offended(offence));
    for event in [HostEvent::Answered, HostEvent::Attested] {
        assert_eq!(answer(&mut world, event), Err(HostMoved::Quarantined));
    }
    let released = happens(&mut world, HostEvent::Released);
    let standing = released.appraised.as_ref().unwrap().standing;
    assert_eq!((standing.clock.reset_count, standing.firmware_version), (0, 0));
    assert_eq!(
        answer(&mut world, HostEvent::Answered),
        Err(HostMoved::MustAttest)
    );
    assert_eq!(answer(&mut world, HostEvent::Attested), Ok(()));
    assert!(world.state.hosts.get(&host.id).unwrap().verdict.is_verified());
}

#[test]
fn a_host_is_condemned_for_what_was_said_of_its_row_as_it_is() {
    let mut world = world();
    let host = world.enrolled(&[by_hash(1)]);
    let mut said_of = |revision, policy_generation| {
        let by = Judgement {
            actor: "10.0.0.1:7",
            exposure: None,
        };
        let offence = Offence {
            code: "tpm_cleared".into(),
            difference: String::new(),
        };
        world
            .change(|draft| {
                let basis = Basis {
                    revision,
                    policy_generation,
                };
                condemn(draft, "row-1", basis, offence, &by)
            })
            .0
    };
    assert_eq!(said_of(host.revision + 1, 0), None);
    assert_eq!(
        said_of(host.revision, 7),
        None,
        "of policies that it is not held to"
    );
    assert!(said_of(host.revision, 0).is_some());
}

/// Holds all hosts to a policy; says by which number that is known.
fn hold_all(world: &mut World) -> u64 {
    let text = b"format = 1\nname = \"vm\"\nversion = 1\n[secure_boot]\nenforced = true\n";
    let policy = attest::policy::Policy::parse(text).unwrap();
    let stored = StoredGeneration {
        generation: Generation::new(policy, Stage::Enforced),
        text: "".into(),
        since: world.now,
        applied_at: world.now,
        applied_by: String::new(),
        is_signed: false,
    };
    let policy = StoredPolicy::new("vm".parse().unwrap(), 1, true, vec![stored]).unwrap();
    world.change(|draft| draft.put_policy(policy));
    let anybody = Host::enrolled("any".into(), world.now);
    world.state.policies.of(&anybody).generation()
}

#[test]
fn evidence_counts_under_the_policies_that_it_was_looked_at_under() {
    let mut world = world();
    let host = world.enrolled(&[by_hash(1)]);
    assert_eq!(world.claim(claim_of(&host, None, 1)), Ok(()));

    // An operator enforces a policy while the host is looked at.
    let host = Arc::clone(world.state.hosts.get("row-1").unwrap());
    let (claimed, again) = (claim_of(&host, None, 1), claim_of(&host, None, 1));
    let generation = hold_all(&mut world);
    assert_eq!(world.claim(claimed), Err(HostMoved::PolicyChanged));
    let outcome = world.attest(again);
    assert_eq!(outcome, Err(NotRecorded::Host(HostMoved::PolicyChanged)));
    assert_eq!(outcome.unwrap_err().code(), "policy_changed");

    // Nor does an answer that nothing changed, until all was looked at under what it is held to.
    let by = Judgement {
        actor: "server",
        exposure: None,
    };
    let silent = |world: &mut World| {
        world
            .change(|draft| judge(draft, "row-1", HostEvent::Silent, &by))
            .0
            .unwrap()
    };
    let host = silent(&mut world);
    assert!(world.change(|draft| hear(draft, "row-1", &by)).0.is_none());
    let mut judged = claim_of(&host, None, 1);
    judged.appraised.policy_generation = generation;
    assert_eq!(world.claim(judged), Ok(()));
    silent(&mut world);
    assert!(world.change(|draft| hear(draft, "row-1", &by)).0.is_some());
}

/// Good evidence of `host` that says this of the node, under a policy of which `differences` differ.
fn told(host: &Host, selectors: &[&str], differences: &[&str]) -> HostClaim {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let mut claimed = claim_of(host, None, 1);
    claimed.appraised.selectors = texts(selectors);
    claimed.appraised.policies = vec![PolicyStanding {
        name: "vm".parse().unwrap(),
        since: Timestamp::from_unix(7),
        judgements: vec![PolicyJudgement {
            generation: "ab".repeat(32),
            version: 1,
            is_enforced: true,
            differences: texts(differences),
            more: 0,
        }],
    }];
    claimed
}

#[test]
fn what_evidence_says_of_a_node_is_replaced_with_the_verdict_and_audited_once() {
    let mut world = world();
    let host = world.enrolled(&[by_hash(1)]);
    let selectors = ["ek_hash:1", "policy:vm"].map(|value| svid::Selector::new("tpm", value).unwrap());
    let attestation = Attestation {
        selectors: selectors.into_iter().collect(),
        claims: vec![Claim::Host(Box::new(told(&host, &["policy:vm"], &[])))],
        ..attestation()
    };
    let (outcome, events) = world.change(|draft| record_attestation(draft, attestation));
    assert_eq!(outcome, Ok(()));
    assert!(events.contains(&"host_appraised"), "{events:?}");

    let answer = |world: &mut World, claimed| {
        let path = PATH.into();
        world.change(|draft| claim(draft, claimed, HostEvent::Answered, &path, "10.0.0.1:7"))
    };
    let host = Arc::clone(world.state.hosts.get("row-1").unwrap());
    let (outcome, events) = answer(&mut world, told(&host, &["policy:vm"], &[]));
    assert_eq!((outcome, events), (Ok(()), Vec::new()), "nothing is new");
    let host = Arc::clone(world.state.hosts.get("row-1").unwrap());
    let (outcome, events) = answer(&mut world, told(&host, &["secure_boot:on"], &["PCR 4"]));
    assert_eq!((outcome, events), (Ok(()), vec!["host_appraised"]));
    let agent = world.state.agents.get(PATH).unwrap();
    let selectors: Vec<_> = agent.selectors.iter().map(svid::Selector::value).collect();
    assert_eq!(selectors, ["ek_hash:1", "secure_boot:on"]);
    let woken = |touched: &Touched| matches!(touched, Touched::Agent(path) if path.as_ref() == PATH);
    assert!(
        world.touched.iter().any(woken),
        "its session looks at its entries anew"
    );
}
