//! What operators type to let hosts in: imports, endorsement keys, approvals of many hosts, by one person and by two.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use agent::link::{Address, Link};
use edge::{
    Clock,
    tls::{Expected, Identity},
};
use proto::plastron::host::v1::{
    ApproveHostRequest, EndorsementKey, Enrolment, GetHostRequest, ImportHostsRequest, NewHost,
    hosts_client::HostsClient,
};
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use swtpm_tests::{Agent, Machine, World, new_dir};

/// Another person than whoever is on the local socket.
const BOSS: &str = "spiffe://example.org/boss";

/// A certificate of a real TPM.
fn captured(name: &str) -> Vec<u8> {
    let file = format!("../attest/testdata/ek/{name}.pem");
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// A delivery of two machines: a folder with the certificate of each one's TPM.
fn delivered() -> PathBuf {
    let folder = new_dir();
    let rsa = captured("keylime-st_sha256_with_rsa_der");
    fs::write(folder.join("db-1.der"), pem::parse(rsa).unwrap().contents()).unwrap();
    fs::write(folder.join("db-2.pem"), captured("keylime-st_ecdsa_sha256_der")).unwrap();
    folder
}

fn texts(values: &Value, field: &str) -> Vec<String> {
    let values = values.as_array().unwrap().iter();
    values
        .map(|value| value[field].as_str().unwrap().to_owned())
        .collect()
}

/// The hashes of a host's endorsement keys.
fn keys(host: &Value) -> Vec<String> {
    texts(&host["endorsement_keys"], "hash")
}

#[test]
fn delivered_certificates_are_rehearsed_and_imported_and_keys_are_added_and_taken_off() {
    let world = World::for_tpms("", "");
    let folder = delivered();
    let import = [
        "host",
        "import",
        "--ek-certificates",
        folder.to_str().unwrap(),
        "--path",
        "dc1/{name}",
    ];
    let all = || world.cli(&["host", "list"])["hosts"].clone();

    let rehearsed = world.cli(&[&import[..], &["--dry-run"]].concat());
    assert_eq!(rehearsed["results"].as_array().unwrap().len(), 2, "{rehearsed}");
    assert_eq!(all(), Value::Array(Vec::new()), "a rehearsal");

    let imported = world.cli(&import);
    let hosts: Vec<_> = ["db-1", "db-2"]
        .iter()
        .zip(imported["results"].as_array().unwrap())
        .map(|(name, result)| {
            let host = &result["host"];
            assert_eq!(host["name"], *name, "{imported}");
            assert_eq!(host["enrolment"], "ENROLMENT_ENROLLED", "{imported}");
            let path = format!("spiffe://example.org/spire/agent/tpm/dc1/{name}");
            assert_eq!(host["agent_id"], path, "{imported}");
            host.clone()
        })
        .collect();
    let again = world.outcome(&import);
    assert!(!again.status.success(), "they are enrolled already");
    assert_eq!(all().as_array().unwrap().len(), 2);

    let id = hosts[0]["id"].as_str().unwrap();
    let (own, other) = (keys(&hosts[0]).remove(0), keys(&hosts[1]).remove(0));
    let spare = "ab".repeat(32);
    let order = |order, key: &str| world.outcome(&["host", order, "--id", id, "--ek", key]);
    let shown = || keys(&world.cli(&["host", "show", "--id", id]));
    assert!(order("add-ek", &spare).status.success());
    assert_eq!(shown(), [own.clone(), spare.clone()]);
    assert!(!order("add-ek", &other).status.success(), "of another host");
    assert!(order("remove-ek", &own).status.success());
    assert_eq!(shown(), std::slice::from_ref(&spare));
    assert!(!order("remove-ek", &spare).status.success(), "the last one");
    let certificate = folder.join("db-1.der");
    let by_file = ["--ek-certificate", certificate.to_str().unwrap()];
    let added = world.cli(&[&["host", "add-ek", "--id", id][..], &by_file].concat());
    assert_eq!(keys(&added), [spare, own], "{added}");
}

/// Someone who administers the server over the network.
struct Boss {
    link: Link,
    _agent: Agent,
}

impl Boss {
    /// Gets an SVID by an entry, as administrators do, and connects with that.
    async fn dial(world: &World) -> Self {
        let agent = world.agent(&world.token());
        let _entry = world.entry(agent.id(), BOSS, &["--admin"]);
        agent.daemon().wait_for("SVID ready");
        let folder = new_dir();
        let written = ["api", "fetch", "x509", "--write", folder.to_str().unwrap()];
        let _fetched = agent.cli(&written);
        let read = |name| pem::parse_many(fs::read(folder.join(name)).unwrap()).unwrap();
        let chain = read("svid.0.pem").into_iter();
        let chain = chain.map(|one| CertificateDer::from(one.into_contents()));
        let identity = Identity::new(chain.collect(), read("svid.0.key")[0].contents()).unwrap();
        let server = Expected::Anyone("spiffe://example.org/spire/server".parse().unwrap());
        let listens = world.address();
        let (host, port) = listens.split_once(':').unwrap();
        let address = Address {
            host: host.into(),
            port: port.parse().unwrap(),
        };
        let link = Link::dial(&address, server, Some(&identity), Clock::system());
        Self {
            link: link.await.unwrap(),
            _agent: agent,
        }
    }

    /// Orders that hosts with these endorsement keys be enrolled; answers with their rows.
    async fn import(&mut self, hashes: &[String]) -> Vec<String> {
        let host = |hash: &String| NewHost {
            endorsement_keys: vec![EndorsementKey {
                hash: hash.clone(),
                ..EndorsementKey::default()
            }],
            ..NewHost::default()
        };
        let request = ImportHostsRequest {
            hosts: hashes.iter().map(host).collect(),
            dry_run: false,
        };
        let mut client = HostsClient::new(self.link.client.clone());
        let imported = self.link.during(client.import_hosts(request)).await;
        let results = imported.unwrap().unwrap().into_inner().results;
        let row = |result: proto::plastron::host::v1::import_hosts_response::Result| {
            let host = result.host.unwrap();
            assert_eq!(host.enrolment(), Enrolment::Pending, "{host:?}");
            host.id
        };
        results.into_iter().map(row).collect()
    }

    /// Approves a host as it is shown, and says whether it is enrolled by that.
    async fn approve(&mut self, id: &str) -> bool {
        let mut client = HostsClient::new(self.link.client.clone());
        let request = GetHostRequest { id: id.into() };
        let shown = self.link.during(client.get_host(request)).await;
        let shown = shown.unwrap().unwrap().into_inner().proposal;
        let request = ApproveHostRequest {
            id: id.into(),
            name: String::new(),
            shown: shown.map(|first| first.what).unwrap_or_default(),
        };
        let approved = self.link.during(client.approve_host(request)).await;
        approved.unwrap().unwrap().into_inner().enrolment() == Enrolment::Enrolled
    }
}

/// Approves without being asked; answers with the rows, and how they stand then.
fn approve(world: &World, words: &[&str]) -> Vec<(String, String)> {
    let approved = world.cli(&[&["host", "approve", "--yes"][..], words].concat());
    let (ids, enrolments) = (
        texts(&approved["hosts"], "id"),
        texts(&approved["hosts"], "enrolment"),
    );
    ids.into_iter().zip(enrolments).collect()
}

/// These rows, each of them enrolled.
fn enrolled(ids: &[String]) -> BTreeSet<(String, String)> {
    let ids = ids.iter().cloned();
    ids.map(|id| (id, "ENROLMENT_ENROLLED".into())).collect()
}

/// One person orders over the network, the other one at the server. What both ordered is done, whoever came first.
#[tokio::test(flavor = "multi_thread")]
async fn two_people_let_hosts_in_one_by_one_by_what_they_are_or_all_that_wait() {
    let world = World::for_tpms("host_approvals = 2\n", "");
    let mut boss = Boss::dial(&world).await;
    let hashes: Vec<_> = (1..=5).map(|digit| digit.to_string().repeat(64)).collect();
    let rows = boss.import(&hashes).await;
    assert!(!boss.approve(&rows[0]).await, "the same person once more");
    let machine = Machine::boot();
    let agent = Agent::on(&machine, &world.address(), &world.bundle());
    agent.daemon().wait_for("host_pending");

    // By what the TPM's certificate says, and from where it came: what was only imported is not meant.
    for none in [
        &["--certified", "--manufacturer", "STM"][..],
        &["--certified", "--model", "other"],
        &["--from", "10.0.0.0/8"],
        &["--older-than", "1h"],
    ] {
        assert_eq!(approve(&world, none), [], "{none:?}");
    }
    let is_it = [
        "--certified",
        "--manufacturer",
        "id:00001014",
        "--model",
        "swtpm",
        "--from",
        "127.0.0.0/8",
    ];
    let noted = approve(&world, &is_it);
    let [(host, enrolment)] = noted.as_slice() else {
        panic!("{noted:?}");
    };
    assert_eq!(enrolment, "ENROLMENT_PENDING", "nobody else ordered it yet");
    assert!(boss.approve(host).await);
    agent.daemon().wait_for("Agent ready");

    // At the server what was ordered elsewhere is completed.
    let several = approve(&world, &["--id", &rows[0], "--id", &rows[1]]);
    assert_eq!(several.into_iter().collect::<BTreeSet<_>>(), enrolled(&rows[..2]));
    let one = world.cli(&["host", "approve", "--yes", "--id", &rows[2], "--name", "db-3"]);
    assert_eq!(
        (&one["name"], &one["enrolment"]),
        (&Value::from("db-3"), &Value::from("ENROLMENT_ENROLLED"))
    );
    let rest = approve(&world, &["--all"]);
    assert_eq!(rest.into_iter().collect::<BTreeSet<_>>(), enrolled(&rows[3..]));
    assert_eq!(
        world.cli(&["host", "list", "--pending"])["hosts"],
        Value::Array(Vec::new())
    );
    check_audit(&world, host, &rows);
}

/// Each step is on record, with who took it.
fn check_audit(world: &World, attested: &str, imported: &[String]) {
    let trail = world.audit(&["export"]);
    let who = |event: &str, id: &str| {
        let is_it = |record: &&Value| record["event"] == event && record["fields"]["host_id"] == id;
        let mut actors = trail.iter().filter(is_it).map(|record| {
            let is_boss = record["actor"] == BOSS;
            assert!(is_boss || record["actor"].as_str().unwrap().starts_with("local uid="));
            is_boss
        });
        (actors.next(), actors.next())
    };
    let (at_the_server, boss) = ((Some(false), None), (Some(true), None));
    assert_eq!(who("host_order_noted", attested), at_the_server);
    assert_eq!(who("host_enrolled", attested), boss);
    for id in imported {
        assert_eq!(who("host_order_noted", id), boss, "{id}");
        assert_eq!(who("host_enrolled", id), at_the_server, "{id}");
    }
}
