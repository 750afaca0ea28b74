use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use proto::spire::api::{
    server::entry::v1::{BatchCreateEntryRequest, ListEntriesRequest, entry_client::EntryClient},
    types::{Entry, Selector, Spiffeid},
};
use swtpm_tests::World;
use tokio::sync::mpsc;

const REDB_ROUNDS: usize = 50;
const SLED_ROUNDS: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_entry_survives_a_killed_server() {
    check("redb", REDB_ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_entry_survives_a_killed_server_with_sled() {
    check("sled", SLED_ROUNDS).await;
}

/// The server is killed after another number of acknowledgements in each round, while more entries are on their way.
async fn check(engine: &'static str, rounds: usize) {
    let mut world = World::with_store(engine);
    let agent = world.agent(&world.token());
    let mut acknowledged = HashSet::new();
    for round in 0..rounds {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let creating = tokio::spawn(create(world.server_socket(), round, sender));
        for _ in 0..=round % 7 {
            acknowledged.insert(receiver.recv().await.unwrap());
        }
        world.kill_server();
        creating.await.unwrap();
        while let Some(id) = receiver.recv().await {
            acknowledged.insert(id);
        }
        world.start_server();

        let there = entries(&world.server_socket()).await;
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "round {round} lost {lost:?}");
    }

    agent.daemon().wait_for_more("Session opened", 2);
    let _entry = world.entry(agent.id(), "spiffe://example.org/after", &[]);
    agent.daemon().wait_for("SVID ready");
}

/// Creates entries until the server is gone, and tells which were acknowledged.
pub(super) async fn create(socket: PathBuf, round: usize, acknowledged: mpsc::UnboundedSender<String>) {
    let (client, connection) = edge::grpc::connect(&socket).await.unwrap();
    let creating = async move {
        let mut client = EntryClient::new(client);
        for number in 0.. {
            let request = BatchCreateEntryRequest {
                entries: vec![entry(round, number)],
                output_mask: None,
            };
            let Ok(response) = client.batch_create_entry(request).await else {
                break;
            };
            let result = response.into_inner().results.remove(0);
            assert_eq!(result.status.unwrap().code, 0);
            acknowledged.send(result.entry.unwrap().id).unwrap();
        }
    };
    tokio::join!(creating, connection);
}

fn entry(round: usize, number: usize) -> Entry {
    let id = |path: String| {
        Some(Spiffeid {
            trust_domain: "example.org".into(),
            path,
        })
    };
    Entry {
        spiffe_id: id(format!("/round/{round}/{number}")),
        parent_id: id("/elsewhere".into()),
        selectors: vec![Selector {
            r#type: "unix".into(),
            value: "uid:1".into(),
        }],
        ..Entry::default()
    }
}

pub(super) async fn entries(socket: &Path) -> HashSet<String> {
    let (client, connection) = edge::grpc::connect(socket).await.unwrap();
    let listing = async move {
        let mut client = EntryClient::new(client);
        let mut request = ListEntriesRequest::default();
        let mut there = HashSet::new();
        loop {
            let page = client.list_entries(request.clone()).await.unwrap().into_inner();
            there.extend(page.entries.into_iter().map(|entry| entry.id));
            if page.next_page_token.is_empty() {
                return there;
            }
            request.page_token = page.next_page_token;
        }
    };
    tokio::join!(listing, connection).0
}
