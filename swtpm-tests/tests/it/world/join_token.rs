use swtpm_tests::World;

const WEB: &str = "spiffe://example.org/web";

#[test]
fn a_workload_gets_the_identity_that_an_operator_registers() {
    let world = World::start();
    let agent = world.agent(&world.token());
    let _entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");

    let fetched = agent.cli(&["api", "fetch", "x509"]);

    assert_eq!(fetched["svids"].as_array().unwrap().len(), 1, "{fetched}");
    assert_eq!(fetched["svids"][0]["spiffe_id"], WEB);
    let agents = world.cli(&["agent", "list"]);
    assert_eq!(agents["agents"][0]["attestation_type"], "join_token", "{agents}");
}

#[test]
fn a_workload_without_an_entry_gets_none() {
    let world = World::start();
    let agent = world.agent(&world.token());

    let outcome = agent.outcome(&["api", "fetch", "x509"]);

    assert!(!outcome.status.success());
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(said.contains("no identity issued (PermissionDenied)"), "{said}");
}

#[test]
fn the_withdrawal_of_an_entry_reaches_who_watches() {
    let world = World::start();
    let agent = world.agent(&world.token());
    let entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");
    let mut watch = agent.watch();
    watch.wait_for(WEB);

    let _deleted = world.cli(&["entry", "delete", "--entry-id", &entry]);

    let (status, said) = watch.end();
    assert!(!status.success());
    assert!(said.contains("no identity issued"), "{said}");
}

#[test]
fn a_join_token_attests_one_agent() {
    let world = World::start();
    let token = world.token();
    let _first = world.agent(&token);

    let second = swtpm_tests::Agent::start(&world.address(), &world.bundle(), &token);

    let refusal = second.daemon().wait_for("Not connected to the server");
    assert!(refusal.contains("join token"), "{refusal}");
}
