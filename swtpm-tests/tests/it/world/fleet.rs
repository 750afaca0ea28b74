//! A fleet: many hosts, each with a TPM in software, that give evidence again and again.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use agent::link::{Address, DialError, Link};
use edge::{
    Clock,
    tls::{Expected, Identity},
};
use swtpm_tests::{
    World, alone,
    fleet::{Fallen, Member},
    new_dir,
};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::overload::FLOOD;

const FLEET: usize = 200;
const TIMES: &str = "evidence_interval = \"2s\"\nevidence_ttl = \"4s\"\n";
/// How long the server is away: hosts would be silent for several times what they may be.
const AWAY: Duration = Duration::from_secs(12);
/// For whatever all hosts are waited for.
const WITHIN: Duration = Duration::from_secs(120);
const LOG: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../attest/testdata/eventlogs/guard-good-1.eventlog.bin"
);

/// How far a host is.
#[derive(Debug, Default)]
struct Progress {
    /// Questions in the session that it has.
    asked: usize,
    /// Tries to connect since it lost its session.
    in_vain: usize,
}

/// What all hosts do beside. One that is refused for good ends.
struct Fleet {
    progress: Vec<watch::Receiver<Progress>>,
    _living: JoinSet<Fallen>,
}

impl Fleet {
    /// Enrols hosts, and has them live.
    fn of(world: &World) -> Self {
        let (members, hashes): (Vec<_>, Vec<_>) = (0..FLEET).map(|_| Member::boot(Path::new(LOG))).unzip();
        let list = new_dir().join("hosts");
        fs::write(&list, hashes.join("\n")).unwrap();
        let _imported = world.cli(&["host", "import", "--file", list.to_str().unwrap()]);
        let mut living = JoinSet::new();
        let begin = |member| {
            let (sender, progress) = watch::channel(Progress::default());
            living.spawn(live(member, address(world), sender));
            progress
        };
        Self {
            progress: members.into_iter().map(begin).collect(),
            _living: living,
        }
    }

    /// Waits until all hosts are so far.
    async fn until(&mut self, far: impl Fn(&Progress) -> bool) {
        let all = async {
            for progress in &mut self.progress {
                let reached = progress.wait_for(&far).await;
                drop(reached.expect("no host is refused for good"));
            }
        };
        timeout(WITHIN, all).await.expect("all hosts get there in time");
    }
}

fn address(world: &World) -> Address {
    let address = world.address();
    let (host, port) = address.split_once(':').unwrap();
    Address {
        host: host.into(),
        port: port.parse().unwrap(),
    }
}

/// Follows the server for ever.
async fn live(mut member: Member, address: Address, progress: watch::Sender<Progress>) -> Fallen {
    loop {
        let (standing, _) = match member.stand(|identity| dial(&address, identity, &progress)).await {
            Ok(stood) => stood,
            Err(fallen) => return fallen,
        };
        let asked = || progress.send_modify(|progress| progress.asked += 1);
        let fallen = standing.follow(asked).await;
        if fallen.is_for_good() {
            return fallen;
        }
        progress.send_replace(Progress::default());
    }
}

async fn dial(
    address: &Address,
    identity: Option<Identity>,
    progress: &watch::Sender<Progress>,
) -> Result<Link, DialError> {
    let server = Expected::Anyone("spiffe://example.org/spire/server".parse().unwrap());
    let dialed = Link::dial(address, server, identity.as_ref(), Clock::system()).await;
    if dialed.is_err() {
        progress.send_modify(|progress| progress.in_vain += 1);
    }
    dialed
}

fn verified(world: &World) -> usize {
    let hosts = world.cli(&["host", "list"]);
    let hosts = hosts["hosts"].as_array().unwrap();
    let is_verified = |host: &&serde_json::Value| host["verdict"]["finding"] == "FINDING_VERIFIED";
    hosts.iter().filter(is_verified).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_whose_server_was_away_is_verified_again_and_none_is_quarantined() {
    let _alone = alone(FLOOD);
    let mut world = World::for_tpms(TIMES, "");
    let mut fleet = Fleet::of(&world);
    fleet.until(|progress| progress.asked >= 2).await;

    world.kill_server();
    let since = Instant::now();
    fleet
        .until(|progress| progress.in_vain > 0 && since.elapsed() >= AWAY)
        .await;
    world.start_server();
    // Whoever is asked a second time was believed the first time.
    fleet.until(|progress| progress.asked >= 2).await;

    let since = Instant::now();
    while verified(&world) < FLEET {
        assert!(since.elapsed() < WITHIN, "hosts are not verified");
    }
    let quarantined = world.audit(&["query", "--event", "host_quarantined", "--output", "json"]);
    assert_eq!(quarantined.len(), 0, "{quarantined:?}");
}
