//! IDs that stand for hardware.

use swtpm_tests::{Agent, World};

const VM: &str = "spiffe://example.org/vm";
const CI: &str = "spiffe://example.org/ci";
const DB: &str = "spiffe://example.org/db";

#[test]
fn neither_a_token_nor_an_entry_gives_away_what_stands_for_hardware() {
    let world = World::start();
    let agent = world.agent(&world.token());
    alias(&world, VM, "tpm:vendor:STM").unwrap();

    let token = ["token", "generate", "--spiffe-id", VM];
    let entry = [
        "entry",
        "create",
        "--parent-id",
        agent.id(),
        "--spiffe-id",
        VM,
        "--selector",
        "unix:uid:0",
    ];
    for words in [&token[..], &entry[..]] {
        refused(&world, words);
    }
    let said = alias(&world, VM, "join_token:x").unwrap_err();
    assert!(said.contains("mixed_id"), "{said}");

    // The other way round: what a token's agent has does not become hardware's.
    let _token = world.cli(&["token", "generate", "--spiffe-id", CI]);
    let said = alias(&world, CI, "tpm:vendor:STM").unwrap_err();
    assert!(said.contains("mixed_id"), "{said}");
}

#[test]
fn where_ids_may_be_shared_a_token_has_what_hardware_has() {
    let world = World::with("mixed = true");
    alias(&world, VM, "tpm:vendor:STM").unwrap();
    let _entry = world.entry(VM, DB, &[]);
    let token = world.cli(&["token", "generate", "--spiffe-id", VM]);
    let agent: Agent = world.agent(token["value"].as_str().unwrap());
    agent.watch().wait_for(DB);
}

fn alias(world: &World, id: &str, selector: &str) -> Result<(), String> {
    outcome(
        world,
        &[
            "entry",
            "create",
            "--node",
            "--spiffe-id",
            id,
            "--selector",
            selector,
        ],
    )
}

fn refused(world: &World, words: &[&str]) {
    let said = outcome(world, words).unwrap_err();
    assert!(said.contains("mixed_id"), "{words:?}: {said}");
}

fn outcome(world: &World, words: &[&str]) -> Result<(), String> {
    let output = world.outcome(words);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() {
        Ok(())
    } else {
        Err(said)
    }
}
