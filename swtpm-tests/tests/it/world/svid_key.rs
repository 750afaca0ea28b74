//! Agents whose SVID's key is in the TPM.

use swtpm_tests::{Agent, Machine, World};

use super::verdict::verdict;

const WEB: &str = "spiffe://example.org/web";
const REQUIRED: &str = "require_tpm_svid_key = true\n";

const CREATE_PRIMARY: u32 = 0x131;
const CERTIFY: u32 = 0x148;
const QUOTE: u32 = 0x158;
const SIGN: u32 = 0x15d;
const CONTEXT_LOAD: u32 = 0x161;
const CONTEXT_SAVE: u32 = 0x162;
const FLUSH_CONTEXT: u32 = 0x165;
const GET_RANDOM: u32 = 0x17b;

/// A key is made.
const MADE: [u32; 4] = [GET_RANDOM, CREATE_PRIMARY, CONTEXT_SAVE, FLUSH_CONTEXT];
/// It signs.
const SIGNED: [u32; 3] = [CONTEXT_LOAD, SIGN, FLUSH_CONTEXT];
/// The attestation key says that it is in the TPM.
const CERTIFIED: [u32; 3] = [CONTEXT_LOAD, CERTIFY, FLUSH_CONTEXT];

#[test]
fn an_agent_has_its_key_in_the_tpm_if_that_is_fast_and_serves_its_workloads() {
    let world = World::for_tpms("", REQUIRED);
    let machine = Machine::boot();
    let host = world.enrol(&machine);
    let agent = world.agent_with(&machine);
    let _entry = world.entry(agent.id(), WEB, &[]);

    let timed = agent.daemon().wait_for("TPM's signatures timed");
    assert!(timed.contains("\"svid_key\":\"tpm\""), "{timed}");
    agent.daemon().wait_for("SVID ready");
    let fetched = agent.cli(&["api", "fetch", "x509"]);
    assert_eq!(fetched["svids"][0]["spiffe_id"], WEB);

    let shown = world.cli(&["host", "show", "--id", &host]);
    assert_eq!(shown["svid_key"], "SVID_KEY_PLACE_TPM", "{shown}");
    let agents = world.cli(&["agent", "list"]);
    let selectors = agents["agents"][0]["selectors"].as_array().unwrap();
    let is_shown = |selector: &serde_json::Value| selector["value"] == "svid_key:tpm";
    assert!(selectors.iter().any(is_shown), "{agents}");
    let attested = world.audit(&["query", "--event", "agent_attested", "--output", "json"]);
    assert_eq!(attested[0]["fields"]["svid_key"], "tpm", "{attested:?}");
}

#[test]
fn a_session_that_was_cut_resumes_with_two_signatures_of_the_tpm() {
    let mut world = World::for_tpms("", "");
    let machine = Machine::boot();
    let _host = world.enrol(&machine);
    let agent = world.agent_with(&machine);
    machine.proxy.take_commands();

    world.restart_server();
    agent.daemon().wait_for_more("Session opened", 2);

    assert_eq!(machine.proxy.take_commands(), [&SIGNED[..], &[QUOTE]].concat());
    assert_eq!(agent.daemon().count("\"Attested\""), 1);
}

#[test]
fn each_attestation_has_a_new_key_that_is_certified_and_nothing_stays_in_the_tpm() {
    let world = World::for_tpms("agent_ttl = \"20s\"", REQUIRED);
    let machine = Machine::boot();
    let _host = world.enrol(&machine);
    let agent = world.agent_with(&machine);
    machine.proxy.take_commands();

    agent.daemon().wait_for_more("\"Attested\"", 2);

    let expected = [&MADE[..], &SIGNED, &[QUOTE], &CERTIFIED].concat();
    assert_eq!(machine.proxy.take_commands(), expected);
    let loaded = machine.tpm.tool_unflushed(&["tpm2_getcap", "handles-transient"]);
    assert_eq!(loaded, "");
}

#[test]
fn an_agent_whose_tpm_was_away_keeps_its_key() {
    let mut world = World::for_tpms("", "");
    let machine = Machine::boot();
    let _host = world.enrol(&machine);
    let agent = world.agent_with(&machine);

    machine.proxy.cut();
    world.restart_server();
    agent.daemon().wait_for("Key of the agent's SVID did not sign");
    machine.proxy.switch_to(&machine.tpm);

    agent.daemon().wait_for_more("Session opened", 2);
    assert_eq!(agent.daemon().count("\"Attested\""), 1);
}

#[test]
fn an_agent_whose_key_the_tpm_takes_no_more_attests_with_another() {
    let mut world = World::for_tpms("", REQUIRED);
    let mut machine = Machine::boot();
    let host = world.enrol(&machine);
    let agent = world.agent_with(&machine);
    let _entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");

    machine.reset_tpm();
    machine.proxy.take_commands();
    world.restart_server();

    let said = agent.daemon().wait_for("no longer takes this key");
    assert!(said.contains("Key of the agent's SVID did not sign"), "{said}");
    agent.daemon().wait_for_more("\"Attested\"", 2);
    agent.daemon().wait_for_more("Session opened", 2);
    let commands = machine.proxy.take_commands();
    assert!(
        commands.windows(MADE.len()).any(|part| part == MADE),
        "{commands:x?}"
    );
    assert_eq!(verdict(&world, &host)["finding"], "FINDING_VERIFIED");
    // Nothing of that is seen by workloads.
    let fetched = agent.cli(&["api", "fetch", "x509"]);
    assert_eq!(fetched["svids"][0]["spiffe_id"], WEB);
    assert_eq!(agent.daemon().count("withdrew"), 0);
}

#[test]
fn an_agent_whose_tpm_is_cleared_is_told_what_that_means() {
    let mut world = World::for_tpms("", REQUIRED);
    let machine = Machine::boot();
    let host = world.enrol(&machine);
    let agent = world.agent_with(&machine);

    machine.tpm.tool(&["tpm2_clear", "-c", "p"]);
    world.restart_server();

    // The key is gone, and what the TPM counts is not what it was: that takes an operator.
    agent.daemon().wait_for("no longer takes this key");
    let said = agent.daemon().wait_for("(tpm_cleared)");
    assert!(said.contains("Not connected to the server"), "{said}");
    assert_eq!(verdict(&world, &host)["code"], "tpm_cleared");
    assert_eq!(agent.daemon().count("\"Attested\""), 1);
}

#[test]
fn an_agent_with_its_key_in_memory_gets_nothing_where_it_has_to_be_in_the_tpm() {
    let world = World::for_tpms("", REQUIRED);
    let mut machine = Machine::boot();
    machine.agent_settings = "svid_key = \"memory\"\n";
    let _host = world.enrol(&machine);
    let agent = Agent::on(&machine, &world.address(), &world.bundle());

    agent.daemon().wait_for("certification_missing");

    world.server().wait_for("certification_missing");
    assert_eq!(agent.daemon().count("\"Attested\""), 0);
}
