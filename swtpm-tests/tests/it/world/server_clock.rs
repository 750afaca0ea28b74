//! A server whose clock is wrong for a while. Agents name the clock, and come back when it is right.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use swtpm_tests::{Agent, Host, World};

const WEB: &str = "spiffe://example.org/web";
const RIGHT: &str = "+0";
/// A new server prepares and activates an authority of each kind.
const AT_START: usize = 4;

#[test]
fn a_server_whose_clock_is_far_behind_says_so_and_goes_on_when_it_is_right() {
    let mut world = World::on(Host::with_clock(RIGHT));
    let agent = serving(&world);

    restart_at(&mut world, "-365d");
    world.server().wait_for("Clock is behind");
    names_the_clock(&agent);

    world.host().set_clock(RIGHT);
    world.server().wait_for("Clock is no longer behind");
    comes_back(&agent);
    // What agents know is what signs.
    assert_eq!(world.server().count("Authorities changed"), 0);
}

/// What a local time that was taken for UTC does: the authorities live on, the server's own certificate is of another
/// time.
#[test]
fn a_server_whose_clock_was_hours_ahead_shows_a_certificate_that_has_begun() {
    let mut world = World::on(Host::with_clock(RIGHT));
    let agent = serving(&world);

    restart_at(&mut world, "+3h");
    names_the_clock(&agent);

    world.host().set_clock(RIGHT);
    comes_back(&agent);
}

/// What is forgotten by a clock that is wrong does not come back when it is set right.
#[test]
fn a_running_server_whose_clock_jumps_ahead_forgets_nothing() {
    let world = World::on(Host::with_clock(RIGHT));
    let agent = serving(&world);
    let ends = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_hours(24);
    let expiry = ends.as_secs().to_string();
    let lasting = world.entry(
        agent.id(),
        "spiffe://example.org/lasting",
        &["--entry-expiry", &expiry],
    );
    agent.daemon().wait_for_more("SVID ready", 2);

    world.host().set_clock("+365d");
    world.server().wait_for("Clock jumped ahead");
    world.host().set_clock(RIGHT);
    world.server().wait_for("Clock is believed again");

    assert_eq!(world.server().count("Authorities changed"), AT_START);
    let shown = world.cli(&["entry", "show"]).to_string();
    assert!(shown.contains(&lasting), "{shown}");
    let _another = world.entry(agent.id(), "spiffe://example.org/another", &[]);
    agent.daemon().wait_for_more("SVID ready", 3);
}

fn restart_at(world: &mut World, clock: &str) {
    world.kill_server();
    world.host().set_clock(clock);
    world.start_server();
}

fn serving(world: &World) -> Agent {
    let agent = world.agent(&world.token());
    let _entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");
    agent
}

fn comes_back(agent: &Agent) {
    agent.daemon().wait_for_more("Session opened", 2);
    assert_eq!(agent.daemon().count("\"Attested\""), 1);
    let fetched = agent.cli(&["api", "fetch", "x509"]);
    assert_eq!(fetched["svids"][0]["spiffe_id"], WEB);
}

/// Before that, the server may have no certificate yet.
fn names_the_clock(agent: &Agent) {
    agent.daemon().wait_for("are the clocks of both ends right?");
}
