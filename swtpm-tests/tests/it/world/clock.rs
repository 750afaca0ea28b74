use swtpm_tests::{Agent, Host, World};

const WEB: &str = "spiffe://example.org/web";
const RIGHT: &str = "+0";
const AHEAD: &str = "+365d";
const BEHIND: &str = "-365d";

#[test]
fn an_agent_whose_clock_is_behind_names_it_and_recovers() {
    let world = World::start();
    let agent = world.agent_on(Host::with_clock(BEHIND));
    names_the_clock(&agent.daemon().wait_for("Not connected to the server"));

    agent.host().set_clock(RIGHT);

    agent.daemon().wait_for("Agent ready");
}

#[test]
fn an_agent_that_starts_with_its_clock_ahead_names_it_and_keeps_its_state() {
    let world = World::start();
    let mut agent = ready(&world, RIGHT);

    agent.host().set_clock(AHEAD);
    agent.restart();
    let (status, said) = agent.end();
    assert!(!status.success());
    names_the_clock(&said);

    agent.host().set_clock(RIGHT);
    agent.restart();
    agent.daemon().wait_for("Agent ready");
    assert_eq!(agent.daemon().count("Attested"), 0);
}

#[test]
fn an_agent_whose_clock_jumps_ahead_names_it_and_goes_on_when_it_is_right_again() {
    let mut world = World::start();
    let agent = ready(&world, RIGHT);
    let _entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");

    agent.host().set_clock(AHEAD);
    names_the_clock(&agent.daemon().wait_for("SVID had ended when it came"));
    names_the_clock(&agent.daemon().wait_for("Agent SVID not renewed"));
    world.restart_server();
    names_the_clock(&agent.daemon().wait_for("Not connected to the server"));

    agent.host().set_clock(RIGHT);
    agent.daemon().wait_for_more("Session opened", 2);
    assert_eq!(agent.daemon().count("\"Attested\""), 1);
    let fetched = agent.cli(&["api", "fetch", "x509"]);
    assert_eq!(fetched["svids"][0]["spiffe_id"], WEB);
}

#[test]
fn an_agent_whose_clock_was_ahead_renews_in_time_when_it_is_right_again() {
    let world = World::with("agent_ttl = \"40s\"");
    let agent = ready(&world, RIGHT);
    agent.host().set_clock(AHEAD);
    agent.daemon().wait_for("Agent SVID not renewed");

    agent.host().set_clock(RIGHT);

    agent.daemon().wait_for("Agent SVID renewed");
    assert_eq!(agent.daemon().count("Session ended"), 0);
}

#[test]
fn an_agent_whose_clock_is_ahead_while_roots_live_on_names_it_and_recovers() {
    let world = World::with("ca_ttl = \"3y\"");
    let agent = world.agent_on(Host::with_clock(AHEAD));
    names_the_clock(&agent.daemon().wait_for("Not connected to the server"));

    agent.host().set_clock(RIGHT);

    agent.daemon().wait_for("Agent ready");
}

fn ready(world: &World, clock: &str) -> Agent {
    let agent = world.agent_on(Host::with_clock(clock));
    agent.daemon().wait_for("Agent ready");
    agent
}

fn names_the_clock(said: &str) {
    assert!(said.contains("clock"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
