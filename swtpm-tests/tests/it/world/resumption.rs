use std::{fs, path::PathBuf};

use serde_json::json;
use swtpm_tests::{Agent, Cable, World, agent_id, uid};

const ENTRIES: usize = 100;
/// Bytes in each entry that stand for what entries carry.
const WEIGHT: usize = 1000;

#[test]
fn a_session_resumed_after_a_cut_brings_the_difference_alone() {
    let world = World::start();
    let cable = Cable::to(&world.address());
    let token = world.token();
    let ids = register(&world, &agent_id(&token));
    let agent = Agent::start(&cable.address(), &world.bundle(), &token);
    agent.daemon().wait_for_more("\"SVID ready\"", ENTRIES);
    assert!(cable.carried() > ENTRIES * WEIGHT);

    cable.cut();
    agent.daemon().wait_for("Session ended");
    let _gone = world.cli(&["entry", "delete", "--entry-id", &ids[0]]);
    let _new = world.entry(agent.id(), "spiffe://example.org/new", &[]);
    let before = cable.carried();
    cable.lead_to(&world.address());
    agent.daemon().wait_for_more("\"SVID ready\"", ENTRIES + 1);

    let opened = world.server().wait_for_more("Agent session opened", 2);
    assert!(
        opened.contains(&format!("\"known_entries\":{ENTRIES}")),
        "{opened}"
    );
    // A handshake, the bundle, an entry and its SVID.
    let carried = cable.carried() - before;
    assert!(carried < ENTRIES * WEIGHT / 5, "{carried} bytes");
    let fetched = agent.cli(&["api", "fetch", "x509"]);
    let svids = fetched["svids"].as_array().unwrap();
    assert_eq!(svids.len(), ENTRIES);
    let has = |id: &str| svids.iter().any(|svid| svid["spiffe_id"] == id);
    assert!(has("spiffe://example.org/new") && !has("spiffe://example.org/web/0"));
    assert_eq!(agent.daemon().count("\"Attested\""), 1);
}

/// Registers many entries, and returns their identifiers.
fn register(world: &World, parent_id: &str) -> Vec<String> {
    let entry = |number: usize| {
        json!({
            "parent_id": parent_id,
            "spiffe_id": format!("spiffe://example.org/web/{number}"),
            "selectors": [{ "type": "unix", "value": format!("uid:{}", uid()) }],
            "hint": format!("{number:WEIGHT$}"),
        })
    };
    let entries: Vec<_> = (0..ENTRIES).map(entry).collect();
    let file: PathBuf = world.data_dir().with_file_name("entries.json");
    fs::write(&file, json!({ "entries": entries }).to_string()).unwrap();
    let created = world.cli(&["entry", "create", "--data", file.to_str().unwrap()]);
    let results = created["results"].as_array().unwrap();
    let ids = results.iter().map(|result| result["entry"]["id"].as_str());
    ids.map(|id| id.unwrap().to_owned()).collect()
}
