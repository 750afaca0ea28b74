//! How an agent begins to trust the server, and where it has its token from.

use std::{fs, path::PathBuf};

use swtpm_tests::{Agent, Cable, World, free_port};

const INSECURE: &str = "insecure_bootstrap = true\n";

/// A file for a token; nobody else's.
fn token_file() -> PathBuf {
    std::env::temp_dir().join(format!("plastron-token-{}", free_port()))
}

fn token_from(file: &std::path::Path) -> String {
    format!("{INSECURE}join_token_file = \"{}\"\n", file.display())
}

#[test]
fn a_token_in_a_file_attests_and_is_not_needed_again() {
    let world = World::start();
    let (file, token) = (token_file(), world.token());
    fs::write(&file, format!("{token}\n")).unwrap();
    let mut agent = Agent::configured(&token_from(&file), &world.address(), &token);
    agent.daemon().wait_for("Agent ready");
    assert_eq!(
        world.cli(&["agent", "show", "--spiffe-id", agent.id()])["id"]["path"],
        agent.id()["spiffe://example.org".len()..]
    );

    fs::remove_file(&file).unwrap();
    agent.restart();
    agent.daemon().wait_for("Agent ready");
    assert_eq!(agent.daemon().count("\"Attested\""), 0);
}

#[test]
fn a_token_that_is_missing_is_named_by_its_file() {
    let world = World::start();
    let file = token_file();
    let mut agent = Agent::configured(&token_from(&file), &world.address(), "none");
    let (status, said) = agent.end();
    assert!(!status.success());
    assert_eq!(said.lines().count(), 1, "{said}");
    let expected = format!("cannot read join_token_file `{}`", file.display());
    assert!(said.contains(&expected), "{said}");

    // One that was touched, and not filled.
    fs::write(&file, "\n").unwrap();
    agent.restart();
    let (status, said) = agent.end();
    fs::remove_file(&file).unwrap();
    assert!(!status.success());
    let expected = format!("join_token_file `{}` is empty", file.display());
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn whoever_answers_first_is_believed_and_nobody_else_afterwards() {
    let (world, impostor) = (World::start(), World::start());
    let cable = Cable::to(&world.address());
    let token = world.token();
    let settings = format!("{INSECURE}join_token = \"{token}\"\n");
    let mut agent = Agent::configured(&settings, &cable.address(), &token);
    agent.daemon().wait_for("Agent ready");

    // Another server of that name, with a CA of its own: to the running agent, and to one that starts.
    cable.lead_to(&impostor.address());
    let refusal = agent.daemon().wait_for("Not connected to the server");
    assert!(refusal.contains("TLS"), "{refusal}");
    agent.restart();
    let refusal = agent.daemon().wait_for("Not connected to the server");
    assert!(refusal.contains("TLS"), "{refusal}");
    assert_eq!(agent.daemon().count("\"Attested\""), 0);

    cable.lead_to(&world.address());
    agent.daemon().wait_for("Session opened");
}
