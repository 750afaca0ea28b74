use std::{fs, path::Path};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use swtpm_tests::{Agent, World};

#[test]
fn an_agent_whose_server_is_down_says_so_and_recovers() {
    let mut world = World::start();
    let (token, bundle) = (world.token(), world.bundle());
    world.kill_server();

    let agent = Agent::start(&world.address(), &bundle, &token);
    let message = agent.daemon().wait_for("Not connected to the server");
    assert!(message.contains(&world.address()), "{message}");
    assert!(message.contains("retry_in"), "{message}");

    world.start_server();
    agent.daemon().wait_for("Agent ready");
}

#[test]
fn an_agent_goes_on_by_itself_after_the_server_was_killed() {
    let mut world = World::start();
    let agent = world.agent(&world.token());

    world.restart_server();
    agent.daemon().wait_for_more("Session opened", 2);

    let _entry = world.entry(agent.id(), "spiffe://example.org/web", &[]);
    agent.daemon().wait_for("SVID ready");
}

#[test]
fn an_agent_that_was_killed_goes_on_without_its_token() {
    let world = World::start();
    let mut agent = world.agent(&world.token());

    agent.restart();

    agent.daemon().wait_for("Agent ready");
    assert_eq!(agent.daemon().count("Attested"), 0);
}

#[test]
fn an_expired_bootstrap_bundle_is_refused_with_what_to_do() {
    let world = World::start();
    let bundle = world.bundle();
    let token = world.token();
    expire(&bundle);

    let mut agent = Agent::start(&world.address(), &bundle, &token);
    let (status, said) = agent.end();
    assert!(!status.success());
    assert_eq!(said.lines().count(), 1, "{said}");
    for part in ["every root in the trust bundle ended by", "bundle show", "clock"] {
        assert!(said.contains(part), "{said}");
    }

    let fresh = Agent::start(&world.address(), &world.bundle(), &token);
    fresh.daemon().wait_for("Agent ready");
}

/// Puts a root in the place of a bundle that has ended.
fn expire(bundle: &Path) {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2020, 1, 2);
    let root = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let pem = pem::Pem::new("CERTIFICATE", root.der().to_vec());
    fs::write(bundle, pem::encode(&pem)).unwrap();
}
