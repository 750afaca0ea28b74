//! What `health_checks` of server and agent say before, while and after they serve.

use std::fs;

use swtpm_tests::{Agent, World, free_port};

use super::http::get;

const WEB: &str = "spiffe://example.org/web";

fn listening(program: &str, port: u16) -> String {
    format!("[{program}.health_checks]\nlistener_enabled = true\nbind_port = {port}\n")
}

/// Status of a path.
fn status(port: u16, path: &str) -> u16 {
    let answer = get(port, path).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn check(port: u16, ready: u16) {
    assert_eq!((status(port, "/live"), status(port, "/ready")), (200, ready));
}

#[test]
fn a_server_is_live_from_its_start_and_ready_when_it_can_sign() {
    let port = free_port();
    let keys = std::env::temp_dir().join(format!("plastron-health-{port}"));
    let file = keys.join("keys.json");
    let table = format!("[plugins.keys-disk]\nkeys_path = \"{}\"\n", file.display());
    let mut world = World::stopped(&(listening("server", port) + &table));

    // The folder of its keys is missing.
    world.launch_server();
    world.server().wait_for("Authority rotation failed");
    check(port, 503);
    assert!(!world.outcome(&["healthcheck"]).status.success());

    fs::create_dir(&keys).unwrap();
    world.server().wait_for("Server ready");
    check(port, 200);
    assert_eq!(status(port, "/other"), 404);
    let _healthy = world.cli(&["healthcheck"]);

    world.kill_server();
    fs::remove_dir_all(&keys).unwrap();
    get(port, "/live").unwrap_err();
}

#[test]
fn an_agent_is_ready_as_long_as_it_has_something_to_serve() {
    let mut world = World::with("agent_ttl = \"4s\"\ndefault_x509_svid_ttl = \"4s\"");
    let (bundle, token) = (world.bundle(), world.token());
    let _entry = world.entry(&swtpm_tests::agent_id(&token), WEB, &[]);
    world.kill_server();
    let port = free_port();

    // The server is down.
    let agent = Agent::start_with(&listening("agent", port), &world.address(), &bundle, &token);
    agent.daemon().wait_for("Not connected to the server");
    check(port, 503);
    assert!(!agent.outcome(&["healthcheck"]).status.success());

    world.start_server();
    agent.daemon().wait_for("Agent ready");
    check(port, 200);
    let _healthy = agent.cli(&["healthcheck"]);
    agent.daemon().wait_for("SVID ready");

    // Nothing that it had is good any more.
    world.kill_server();
    agent.daemon().wait_for("Agent not ready");
    check(port, 503);
}
