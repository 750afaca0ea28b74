//! Agents whose TPM hangs: it keeps its connections, and answers nothing.

use std::{
    thread,
    time::{Duration, Instant},
};

use swtpm_tests::{Machine, World};

/// Long enough for anything.
const DEADLINE: Duration = Duration::from_secs(60);

/// Nothing but the session asks the TPM for anything.
const ALONE: &str = "sealed_state = \"off\"\n";

/// Waits until the TPM is asked for something.
fn wait_for_command(machine: &Machine) {
    let deadline = Instant::now() + DEADLINE;
    while machine.proxy.take_commands().is_empty() {
        assert!(Instant::now() < deadline, "the TPM is asked for nothing");
        thread::yield_now();
    }
}

#[test]
fn an_agent_whose_tpm_hangs_says_so_and_goes_on_once_it_answers() {
    let mut world = World::for_tpms("", "");
    let mut machine = Machine::boot();
    machine.agent_lines = ALONE;
    machine.agent_settings = "answer_within = \"5s\"\n";
    let _host = world.enrol(&machine);
    let agent = world.agent_with(&machine);

    machine.tpm.hang();
    world.restart_server();

    let said = agent.daemon().wait_for("did not answer");
    let named = format!("TPM `{}` did not answer", machine.proxy.tcti());
    assert!(said.contains(&named) && said.contains("within 5s"), "{said}");
    // It is told so at once, and the TPM is asked for nothing more.
    machine.proxy.take_commands();
    agent.daemon().wait_for_more("Not connected to the server", 3);
    assert!(machine.proxy.take_commands().is_empty());
    let health = agent.outcome(&["healthcheck"]);
    let warning = String::from_utf8(health.stderr).unwrap();
    assert!(health.status.success(), "it has an identity to serve: {warning}");
    assert!(warning.contains("the TPM does not answer"), "{warning}");

    machine.tpm.go_on();
    agent.daemon().wait_for("TPM answers again");
    agent.daemon().wait_for_more("Session opened", 2);
    assert_eq!(agent.daemon().count("\"Attested\""), 1, "its key is still good");
    let health = agent.outcome(&["healthcheck"]);
    assert_eq!(String::from_utf8(health.stderr).unwrap(), "");
}

#[test]
fn an_agent_ends_in_time_while_its_tpm_hangs() {
    let mut world = World::for_tpms("", "");
    let mut machine = Machine::boot();
    machine.agent_lines = ALONE;
    machine.agent_settings = "answer_within = \"10m\"\n";
    let _host = world.enrol(&machine);
    let mut agent = world.agent_with(&machine);
    machine.proxy.take_commands();
    machine.tpm.hang();
    world.restart_server();
    wait_for_command(&machine);

    agent.daemon().signal("TERM");

    let (status, said) = agent.end();
    assert!(status.success(), "{status}: {said}");
    assert!(
        said.contains("the agent ends without") && said.contains("Agent stopped"),
        "{said}"
    );
    assert!(!said.contains("panicked"), "{said}");
}
