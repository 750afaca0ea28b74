//! The server's API as SPIRE's own clients use it: `clients/go/conformance` has the cases, one area a test.
//!
//! AGENT_MUST_REATTEST, and a banned agent that attests again, need a TPM: [`super::evidence`] has them.

use swtpm_tests::{World, go_client, run};

/// What is refused for being asked too often is no matter here: limits on calls a source are off.
const SETTINGS: &str = r#"
admin_ids = ["spiffe://example.org/boss"]
[server.ratelimit]
attestation = false
signing = false
"#;

fn check(area: &str) {
    check_on(&World::with(SETTINGS), area);
}

fn check_on(world: &World, area: &str) {
    let mut conformance = go_client("conformance");
    conformance.arg(area).arg(world.server_socket());
    run(conformance.arg(world.address()).arg(world.bundle()));
}

#[test]
fn agents_attest_renew_and_are_administered() {
    check("agent");
}

#[test]
fn each_class_of_caller_gets_at_what_it_may() {
    check("authorization");
}

#[test]
fn bundles_are_given_to_everybody() {
    check("bundle");
}

#[test]
fn entries_are_registered() {
    check("entry");
}

#[test]
fn what_ended_is_told_from_what_never_was() {
    let settings = format!("agent_ttl = \"2s\"\n{SETTINGS}");
    check_on(&World::with(&settings), "expiry");
}

#[test]
fn health_is_asked_on_the_local_socket() {
    check("health");
}

#[test]
fn svids_are_signed() {
    check("svid");
}

#[test]
fn agents_that_poll_learn_what_differs() {
    check("sync");
}
