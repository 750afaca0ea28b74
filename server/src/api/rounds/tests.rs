use std::sync::Mutex;

use attest::{PcrSelection, Standing, wire::ClockInfo, wire::Public};
use plugin_api::{Appraised, EnrolledEk, HostClaim, Step};
use proptest::prelude::*;
use svid::{Timestamp, TrustDomain};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::advance};

use super::*;
use crate::{
    api::AlarmRates,
    issue::Lifetimes,
    journal::Journal,
    meters::Meters,
    pulses::Pulses,
    registry::{
        Draft, Owner, Registry,
        consent::{Approvals, Orderer},
        host_changes::{self, Imported, NewHost, import},
        verdict_changes::{Judgement, judge},
    },
    store::{Config, Store},
};

const HOST: &str = "row-1";
const PATH: &str = "/spire/agent/tpm/one";
const ADDRESS: &str = "10.0.0.1:7";
const WITHIN: Duration = Duration::from_secs(10);
const CLOCK: ClockInfo = ClockInfo {
    clock: 1,
    reset_count: 2,
    restart_count: 3,
    safe: true,
};

/// Hosts that say what a test wants.
struct Says(Arc<Mutex<Option<Round>>>);

impl NodeAttestor for Says {
    fn name(&self) -> &'static str {
        "tpm"
    }

    fn binds_connection(&self) -> bool {
        true
    }

    fn start(&self, _: &[u8], _: &Context<'_>) -> Result<Step, Refusal> {
        Err(Refusal::invalid("unexpected_message", NotHere))
    }

    fn begin_round(&self, _: &Arc<plugin_api::Host>, _: &SessionBinding, _: &Context<'_>) -> Option<Asked> {
        Some(Asked {
            send: Vec::new(),
            within: WITHIN,
            next: Box::new(Self(Arc::clone(&self.0))),
        })
    }
}

impl ExpectEvidence for Says {
    fn handle(self: Box<Self>, _: &[u8], _: &Context<'_>) -> Result<Round, Refusal> {
        let said = self.0.lock().unwrap().take();
        Ok(said.unwrap_or(Round::Unchanged(CLOCK)))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("nobody attests here")]
struct NotHere;

/// A host that fell silent, and its session.
struct World {
    rounds: Rounds,
    registry: Registry,
    pulses: Pulses,
    /// What the host says next; that nothing changed, if nothing else.
    says: Arc<Mutex<Option<Round>>>,
    _folder: TempDir,
}

async fn world() -> World {
    let folder = TempDir::new().unwrap();
    let clock = Clock::pinned(Timestamp::from_unix(1000));
    let store = Arc::new(Store::open(folder.path(), Config::default()).unwrap());
    let (journal, _thread) = Journal::open(folder.path().join("audit"), clock).unwrap();
    let (publications, receiver) = mpsc::channel(64);
    let trust_domain = TrustDomain::parse("td").unwrap();
    let (owner, registry) = Owner::load(store, journal, trust_domain, clock, publications).unwrap();
    tokio::spawn(async move {
        let _nobody_follows = receiver;
        owner.run().await;
    });
    registry.change(fall_silent).await.unwrap();
    let (says, pulses) = (Arc::default(), Pulses::default());
    World {
        rounds: rounds(&says, registry.clone(), pulses.clone(), clock),
        registry,
        pulses,
        says,
        _folder: folder,
    }
}

fn rounds(says: &Arc<Mutex<Option<Round>>>, registry: Registry, pulses: Pulses, clock: Clock) -> Rounds {
    let lifetimes = Lifetimes {
        x509_svid: Duration::from_secs(3600),
        agent: Duration::from_secs(3600),
        ca: Duration::from_secs(86_400),
    };
    let with = RoundsWith {
        attestor: Arc::new(Says(Arc::clone(says))),
        verdicts: Verdicts {
            registry,
            pulses,
            lifetimes,
            meters: Meters::default(),
            alarm_rates: AlarmRates::default(),
        },
        appraisals: Arc::new(Semaphore::new(1)),
        interval: Duration::from_secs(60),
        clock,
    };
    let binding = SessionBinding {
        exporter: [7; 32],
        hello: [6; 32],
        clock: CLOCK,
        grown: None,
    };
    Rounds::new(with, PATH.into(), HOST.into(), ADDRESS.into(), binding)
}

/// Enrols the host, which attests, and is silent then.
fn fall_silent(draft: &mut Draft) {
    let imported = import(draft, new_host(), &operator());
    let Imported::Enrolled(host) = imported else {
        panic!("{imported:?}")
    };
    let attested = claim(host.revision);
    host_changes::claim(draft, attested, HostEvent::Attested, &PATH.into(), ADDRESS).unwrap();
    let judgement = Judgement {
        actor: "server",
        exposure: None,
    };
    judge(draft, HOST, HostEvent::Silent, &judgement).unwrap();
}

fn new_host() -> NewHost {
    NewHost {
        id: HOST.into(),
        name: String::new(),
        endorsement_keys: vec![EnrolledEk {
            hash: Some(attest::ek::EkHash([1; 32])),
            ..EnrolledEk::default()
        }],
        policies: Vec::new(),
        agent_path: None,
    }
}

fn operator() -> Orderer {
    Orderer {
        actor: "op".into(),
        person: "op".into(),
        needed: Approvals::One,
    }
}

/// What the host shows, where its row is of this revision.
fn claim(revision: u64) -> HostClaim {
    let area = [
        &[0x00, 0x23, 0x00, 0x0b, 0x00, 0x05, 0x00, 0x72, 0x00, 0x00][..],
        &[0x00, 0x10, 0x00, 0x18, 0x00, 0x0b, 0x00, 0x03, 0x00, 0x10],
        &[0, 32],
        &[1; 32],
        &[0, 32],
        &[2; 32],
    ];
    HostClaim {
        id: HOST.into(),
        revision,
        activated: None,
        attestation_key: Public::parse(&area.concat()).unwrap(),
        appraised: Appraised {
            standing: Standing {
                clock: CLOCK,
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

impl World {
    fn is_verified(&self) -> bool {
        let snapshot = self.registry.snapshot();
        snapshot.hosts.get(HOST).unwrap().verdict.is_verified()
    }

    async fn hear(&mut self, round: u64) -> Option<Question> {
        let evidence = Vec::new();
        self.rounds.hear(Answer { round, evidence }).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_until_its_window_ends() {
    let mut world = world().await;
    let asked = world.rounds.ask().unwrap();
    advance(WITHIN).await;
    assert!(world.hear(asked.round).await.is_none());
    assert!(!world.is_verified(), "who answers too late said nothing");

    let asked = world.rounds.ask().unwrap();
    advance(WITHIN - Duration::from_millis(1)).await;
    world.hear(asked.round).await;
    assert!(world.is_verified());
}

#[tokio::test(start_paused = true)]
async fn one_question_is_open_and_its_answer_is_taken_once() {
    let mut world = world().await;
    let first = world.rounds.ask().unwrap();
    assert!(world.rounds.ask().is_none(), "it may still be answered");
    advance(WITHIN).await;
    let second = world.rounds.ask().unwrap();
    assert_eq!(second.round, first.round + 1);
    world.hear(first.round).await;
    assert!(!world.is_verified(), "that round is over");
    world.hear(second.round).await;
    assert!(world.is_verified());
    let silence = Duration::from_secs(1);
    advance(silence).await;
    world.hear(second.round).await;
    assert_eq!(world.pulses.silence(HOST), silence, "it was answered before");
}

/// Who watches for silence may look at any moment: a host that is verified has spoken by then.
#[tokio::test(start_paused = true)]
async fn a_host_is_heard_before_it_is_verified() {
    for is_new in [false, true] {
        let mut world = world().await;
        advance(Duration::from_secs(3600)).await;
        if is_new {
            let revision = world.registry.snapshot().hosts.get(HOST).unwrap().revision;
            *world.says.lock().unwrap() = Some(Round::Changed(Box::new(claim(revision))));
        }
        let (pulses, mut snapshots) = (world.pulses.clone(), world.registry.subscribe());
        let watching = tokio::spawn(async move {
            let is_verified = |snapshot: &Arc<Snapshot>| {
                let host = snapshot.hosts.get(HOST);
                host.is_some_and(|host| host.verdict.is_verified())
            };
            snapshots.wait_for(is_verified).await.unwrap();
            pulses.silence(HOST)
        });
        let asked = world.rounds.ask().unwrap();
        world.hear(asked.round).await;
        assert_eq!(watching.await.unwrap(), Duration::ZERO, "{is_new}");
    }
}

#[tokio::test]
async fn an_agent_is_told_what_it_does_not_know_since_its_welcome() {
    let sealing = |digest: u8| {
        Some(Sealing {
            pcr_digest: vec![digest; 32],
            ..Sealing::default()
        })
    };
    let cases = [
        (None, None, None),
        (sealing(1), sealing(1), None),
        (sealing(1), sealing(2), sealing(2)),
        (None, sealing(1), sealing(1)),
        // Nothing any more: what it was told then counts no longer.
        (sealing(1), None, Some(Sealing::default())),
    ];
    let mut rounds = world().await.rounds;
    for (welcome, now, expected) in cases {
        rounds = rounds.told(welcome);
        assert_eq!(rounds.news(now.clone()), expected);
        assert_eq!(rounds.news(now), None, "once");
    }
}

proptest! {
    #[test]
    fn a_question_comes_up_to_a_fifth_of_the_interval_early_and_never_late(
        millis in 1_u64..=86_400_000,
        random in prop_oneof![Just(0), Just(u32::MAX), any::<u32>()],
    ) {
        let interval = Duration::from_millis(millis);
        let rounding = Duration::from_nanos(1);
        for pause in [shortened(interval, random), jittered(interval)] {
            prop_assert!(pause <= interval, "{pause:?}");
            prop_assert!(pause + rounding >= interval * 4 / 5, "{pause:?}");
        }
        let (latest, soonest) = (shortened(interval, 0), shortened(interval, u32::MAX));
        prop_assert_eq!(latest, interval);
        prop_assert!(soonest <= interval * 4 / 5 + rounding, "{:?}", soonest);
    }
}
