use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
};

use proto::spire::api::{
    server::entry::v1::{BatchCreateEntryRequest, ListEntriesRequest, entry_client::EntryClient},
    types::{Entry, Selector, Spiffeid},
};
use serde_json::Value;
use swtpm_tests::{Agent, Machine, World};
use tokio::sync::mpsc;

const WEB: &str = "spiffe://example.org/web";

/// Taken while entries are being created, restored to the other engine: what was acknowledged before is there, an
/// agent goes on, and a token that was made before is void.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_makes_a_server_again() {
    let mut world = World::start();
    let agent = world.agent(&world.token());
    let _entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");
    let unused = world.token();
    let (sender, mut acknowledged) = mpsc::unbounded_channel();
    let creating = tokio::spawn(create(world.server_socket(), 0, sender));
    let mut before = HashSet::new();
    for _ in 0..50 {
        before.insert(acknowledged.recv().await.unwrap());
    }

    let file = Backup::take(&world);
    let rest = acknowledged.recv().await;
    assert!(rest.is_some(), "the server worked on");
    world.kill_server();
    creating.await.unwrap();
    fs::remove_dir_all(world.data_dir()).unwrap();
    world.use_store("sled");
    let restored = json(&world.restore(&file.0, &[]));
    assert!(notes(&restored).contains("1 join tokens are void"), "{restored}");
    world.start_server();

    let there = entries(&world.server_socket()).await;
    let lost: Vec<_> = before.difference(&there).collect();
    assert!(lost.is_empty(), "lost {lost:?}");
    agent.daemon().wait_for_more("Session opened", 2);
    let api = world.entry(agent.id(), "spiffe://example.org/api", &[]);
    agent.daemon().wait_for_more("SVID ready", 2);
    let fetched = agent.cli(&["api", "fetch", "x509"]);
    assert_eq!(fetched["svids"].as_array().unwrap().len(), 2, "{api}: {fetched}");
    let late = Agent::start(&world.address(), &world.bundle(), &unused);
    let refusal = late.daemon().wait_for("Not connected to the server");
    assert!(refusal.contains("join token"), "{refusal}");
}

#[test]
fn a_host_with_a_tpm_attests_anew_after_a_restore() {
    let mut world = World::for_tpms("", "");
    let machine = Machine::boot();
    let _row = world.enrol(&machine);
    let agent = world.agent_with(&machine);
    let _entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");
    assert_eq!(agent.daemon().count("Attested"), 1);

    let file = Backup::take(&world);
    world.kill_server();
    let refused = world.restore(&file.0, &[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("is not empty") && said.contains("--force"),
        "{said}"
    );
    let restored = json(&world.restore(&file.0, &["--force"]));
    assert!(
        notes(&restored).contains("1 agents have to attest anew"),
        "{restored}"
    );
    assert!(notes(&restored).contains("before-restore-"), "{restored}");
    world.start_server();

    agent.daemon().wait_for_more("Attested", 2);
    let _entry = world.entry(agent.id(), "spiffe://example.org/api", &[]);
    agent.daemon().wait_for_more("SVID ready", 2);
    let fetched = agent.cli(&["api", "fetch", "x509"]);
    assert_eq!(fetched["svids"].as_array().unwrap().len(), 2, "{fetched}");
}

#[test]
fn no_backup_is_made_over_another_file_and_none_is_restored_beside_a_server() {
    let world = World::start();
    let file = Backup::take(&world);
    let mode = fs::metadata(&file.0).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = world.outcome(&["backup", "--file", file.0.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(said.contains("exists; name another file"), "{said}");
    let beside = world.restore(&file.0, &["--force"]);
    let said = String::from_utf8_lossy(&beside.stderr);
    assert!(
        said.contains("a server runs on") && said.contains("stop it first"),
        "{said}"
    );
}

/// A backup file. Dropping it removes it.
struct Backup(PathBuf);

impl Backup {
    fn take(world: &World) -> Self {
        let name = format!("backup-{}", world.address().replace(':', "-"));
        let file = world.server_socket().with_file_name(name);
        let taken = json(&world.outcome(&["backup", "--file", file.to_str().unwrap()]));
        assert_eq!(taken["has_keys"], true, "{taken}");
        assert!(notes(&taken).contains("attest anew") && notes(&taken).contains("tokens are void"));
        Self(file)
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        let _gone = fs::remove_file(Path::new(&self.0));
    }
}

fn json(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn notes(summary: &Value) -> String {
    summary["notes"].to_string()
}

/// Creates entries until the server is gone, and tells which were acknowledged.
async fn create(socket: PathBuf, round: usize, acknowledged: mpsc::UnboundedSender<String>) {
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

async fn entries(socket: &Path) -> HashSet<String> {
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
