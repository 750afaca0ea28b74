use svid::{SelectorSet, Timestamp, TrustDomain, x509::SerialNumber};
use tokio::time::timeout;

use super::*;
use crate::{
    ca::Authorities,
    registry::{Agent, AgentSvid, Entry, PathKey, SERVER_PATH, Snapshot},
};

struct World {
    sessions: Sessions,
    publications: mpsc::Sender<Publication>,
    confirmed: watch::Receiver<u64>,
    state: Snapshot,
}

fn world() -> World {
    let (publications, receiver) = mpsc::channel(8);
    let (hub, sessions, confirmed) = Hub::new(receiver, 1);
    tokio::spawn(hub.run());
    World {
        sessions,
        publications,
        confirmed,
        state: Snapshot::empty(TrustDomain::parse("td").unwrap()),
    }
}

impl World {
    fn agent(&mut self, path: &str, selectors: &[&str]) -> Arc<str> {
        let path: Arc<str> = path.into();
        let agent = Agent {
            path: Arc::clone(&path),
            attestation_type: "t".into(),
            current: AgentSvid {
                serial: SerialNumber::from_bytes(&[1]),
                not_after: Timestamp::NEVER,
            },
            next: None,
            banned: false,
            can_reattest: true,
            host: None,
            selectors: selectors
                .iter()
                .map(|text| text.parse().unwrap())
                .collect::<SelectorSet>(),
            version: String::new(),
            attested_at: Timestamp::default(),
        };
        self.state.agents.insert(Arc::clone(&path), Arc::new(agent));
        path
    }

    async fn put(&mut self, id: &str, parent: &str, spiffe_id: &str, selectors: &[&str]) {
        let key = |path: &str| PathKey {
            path: path.into(),
            id: id.into(),
        };
        let entry = Entry {
            spiffe_id: key(spiffe_id),
            parent_id: key(parent),
            selectors: selectors.iter().map(|text| text.parse().unwrap()).collect(),
            ..Entry::default()
        };
        let before = Arc::new(self.state.clone());
        let new = Arc::new(entry);
        let old = self.state.entries.insert(Arc::clone(&new));
        self.publish(before, Touched::Entry { old, new: Some(new) }).await;
    }

    async fn publish(&self, before: Arc<Snapshot>, touched: Touched) {
        let after = Arc::new(self.state.clone());
        self.publications
            .send(Publication {
                before,
                after,
                touched: [touched].into(),
            })
            .await
            .unwrap();
    }

    async fn new_bundle(&mut self, sequence: u64) {
        let before = Arc::new(self.state.clone());
        self.state.authorities = Arc::new(Authorities {
            sequence,
            ..Authorities::default()
        });
        self.publish(before, Touched::Authorities).await;
    }
}

/// Whether the session is woken by what was sent before. Time is paused: it moves only when all tasks wait.
async fn is_woken(session: &Session) -> bool {
    timeout(Duration::from_millis(10), session.woken()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn only_those_concerned_are_woken() {
    let mut world = world();
    let (one, two) = (
        world.agent("/spire/agent/t/1", &["t:rack:a"]),
        world.agent("/spire/agent/t/2", &[]),
    );
    let (first, second) = (
        world.sessions.open(Arc::clone(&one)).await,
        world.sessions.open(two).await,
    );
    world.put("e1", &one, "/a", &["unix:uid:1"]).await;
    assert!(is_woken(&first).await && !is_woken(&second).await);
    world.put("e2", "/a", "/below", &["unix:uid:1"]).await;
    assert!(is_woken(&first).await && !is_woken(&second).await);
    world.put("alias", SERVER_PATH, "/rack-a", &["t:rack:a"]).await;
    assert!(is_woken(&first).await && !is_woken(&second).await);
    world.put("e3", "/rack-a", "/db", &["unix:uid:1"]).await;
    assert!(is_woken(&first).await && !is_woken(&second).await);
    // Moving an entry away concerns those who lose it as well.
    world.put("e1", "/spire/agent/t/2", "/a", &["unix:uid:1"]).await;
    assert!(is_woken(&first).await && is_woken(&second).await);
    world.put("e4", "/nobody", "/x", &["unix:uid:1"]).await;
    assert!(!is_woken(&first).await && !is_woken(&second).await);
}

#[tokio::test(start_paused = true)]
async fn a_bundle_is_confirmed_when_everyone_has_it() {
    let mut world = world();
    assert_eq!(*world.confirmed.borrow(), u64::MAX);
    let session = world.sessions.open("/spire/agent/t/1".into()).await;
    world.sessions.polled("/spire/agent/t/2".into(), 1).await;
    session.acknowledged(1).await;
    world.confirmed.wait_for(|sequence| *sequence == 1).await.unwrap();
    world.new_bundle(2).await;
    assert!(is_woken(&session).await);
    session.acknowledged(2).await;
    assert_eq!(*world.confirmed.borrow(), 1);
    world.sessions.polled("/spire/agent/t/2".into(), 2).await;
    world.confirmed.wait_for(|sequence| *sequence == 2).await.unwrap();
    drop(session);
    world.sessions.polled("/spire/agent/t/2".into(), 3).await;
    world.confirmed.wait_for(|sequence| *sequence == 3).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_does_not_acknowledge_is_not_waited_for() {
    let mut world = world();
    let silent = world.sessions.open("/spire/agent/t/1".into()).await;
    silent.acknowledged(1).await;
    world.confirmed.wait_for(|sequence| *sequence == 1).await.unwrap();
    world.new_bundle(2).await;
    let before = Instant::now();
    assert_eq!(silent.ended().await, Ended::Unresponsive);
    assert!(before.elapsed() >= ACKNOWLEDGE_WITHIN);
    world
        .confirmed
        .wait_for(|sequence| *sequence == u64::MAX)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_newer_session_replaces_the_older() {
    let world = world();
    let older = world.sessions.open("/spire/agent/t/1".into()).await;
    let newer = world.sessions.open("/spire/agent/t/1".into()).await;
    assert_eq!(older.ended().await, Ended::Replaced);
    older.acknowledged(9).await;
    newer.acknowledged(1).await;
    drop(older);
    assert!(timeout(Duration::from_millis(10), newer.ended()).await.is_err());
}
