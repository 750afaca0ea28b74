//! What the binaries tell systemd, and how they end when it says so.

use std::time::Duration;

use swtpm_tests::{Host, World};

const WATCHDOG: Duration = Duration::from_millis(200);

#[test]
fn a_server_tells_systemd_that_it_serves_lives_and_stops() {
    let mut world = World::on(Host::with_supervisor(WATCHDOG));
    check_life(world.host());

    world.server().signal("TERM");

    check_end(world.host());
    assert!(world.server_end().0.success());
}

#[test]
fn so_does_an_agent() {
    let world = World::start();
    let mut agent = world.agent_on(Host::with_supervisor(WATCHDOG));
    check_life(agent.host());
    agent.daemon().wait_for("Agent ready");

    agent.daemon().signal("TERM");

    check_end(agent.host());
    assert!(agent.end().0.success());
}

/// Ready comes once; signs of life, of which the first may be earlier, go on.
fn check_life(host: &Host) {
    let (mut ready, mut alive) = (0, 0);
    while ready == 0 || alive < 4 {
        match host.told().as_str() {
            "READY=1" => ready += 1,
            "WATCHDOG=1" => alive += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!(ready, 1);
}

/// Whatever it says before it stops, it is alive.
fn check_end(host: &Host) {
    let last = std::iter::from_fn(|| Some(host.told())).find(|message| message != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
}
