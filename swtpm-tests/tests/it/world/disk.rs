use std::{collections::BTreeSet, process::Output};

use swtpm_tests::{Host, World};

const PARENT: &str = "spiffe://example.org/elsewhere";
const WEB: &str = "spiffe://example.org/web";

#[test]
fn a_server_whose_disk_is_full_says_so_reads_on_and_loses_nothing() {
    survives_a_full_disk(World::on(Host::with_small_disk()));
}

#[test]
fn so_does_one_whose_store_is_of_sled() {
    survives_a_full_disk(World::on_with_store(Host::with_small_disk(), "sled"));
}

fn survives_a_full_disk(mut world: World) {
    let mut acknowledged = BTreeSet::from([world.entry(PARENT, WEB, &[])]);

    world.host().fill_disk();
    // What the last page still has room for is stored.
    let refusal = loop {
        match created(&create(&world)) {
            Ok(id) => acknowledged.insert(id),
            Err(said) => break said,
        };
    };
    assert!(refusal.contains("is full; free some space"), "{refusal}");
    assert_eq!(refusal.trim().lines().count(), 1, "{refusal}");
    assert_eq!(listed(&world), acknowledged);

    world.host().free_disk();
    acknowledged.insert(created(&create(&world)).unwrap());
    assert_eq!(world.server().count("Server ready"), 1);

    world.restart_server();
    assert_eq!(listed(&world), acknowledged);
}

#[test]
fn a_server_that_is_killed_while_its_disk_is_full_loses_nothing() {
    let mut world = World::on(Host::with_small_disk());
    let mut acknowledged = BTreeSet::from([world.entry(PARENT, WEB, &[])]);
    world.host().fill_disk();
    while let Ok(id) = created(&create(&world)) {
        acknowledged.insert(id);
    }

    world.kill_server();
    world.host().free_disk();
    world.start_server();

    assert_eq!(listed(&world), acknowledged);
}

#[test]
fn an_agent_whose_disk_is_full_attests_serves_and_recovers() {
    let host = Host::with_small_disk();
    host.fill_disk();
    let world = World::start();
    let mut agent = world.agent_on(host);

    // The token is spent by then: what it brought is not to be lost for a full disk.
    let error = agent.daemon().wait_for("State not kept");
    assert!(error.contains("No space left on device"), "{error}");
    agent.daemon().wait_for("Agent ready");
    let _entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");
    let fetched = agent.cli(&["api", "fetch", "x509"]);
    assert_eq!(fetched["svids"][0]["spiffe_id"], WEB);
    assert_eq!(agent.daemon().count("State not kept"), 1);

    agent.host().free_disk();
    agent.daemon().wait_for("State kept");
    agent.restart();
    agent.daemon().wait_for("Agent ready");
    assert_eq!(agent.daemon().count("Attested"), 0);
}

fn create(world: &World) -> Output {
    let words = ["entry", "create", "--parent-id", PARENT, "--spiffe-id", WEB];
    // Of other selectors each time: an entry like another is refused.
    let selector = format!("unix:uid:{}", 1000 + listed(world).len());
    world.outcome(&[&words[..], &["--selector", &selector]].concat())
}

/// The identifier of the entry that was created, or what was said instead.
fn created(output: &Output) -> Result<String, String> {
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let created: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    Ok(created["results"][0]["entry"]["id"].as_str().unwrap().to_owned())
}

fn listed(world: &World) -> BTreeSet<String> {
    let listed = world.cli(&["entry", "show"]);
    let entries = listed["entries"].as_array().unwrap();
    let ids = entries
        .iter()
        .map(|entry| entry["id"].as_str().unwrap().to_owned());
    ids.collect()
}
