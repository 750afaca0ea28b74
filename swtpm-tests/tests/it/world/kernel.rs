//! Hosts whose kernel measures what they run.

use std::fs;

use serde_json::Value;
use swtpm_tests::{Agent, Machine, World};

const WEB: &str = "spiffe://example.org/web";
/// TPM_CC_Quote.
const QUOTE: u32 = 0x158;
/// So often that no test waits for it.
const OFTEN: &str = "evidence_interval = \"1s\"\n";

/// A host that shows what its kernel measures, and whose workload has its SVID.
fn measuring() -> (World, Machine, Agent, String) {
    let world = World::for_tpms(OFTEN, "ima = \"required\"\n");
    let machine = Machine::measuring();
    for file in ["/usr/sbin/init", "/usr/bin/agent"] {
        machine.run(file);
    }
    let host = world.enrol(&machine);
    let agent = world.agent_with(&machine);
    let _entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");
    // From here on the TPM is asked for evidence alone.
    agent.daemon().wait_for("State is sealed");
    (world, machine, agent, host)
}

fn verdict(world: &World, host: &str) -> Value {
    world.cli(&["host", "show", "--id", host])["verdict"].clone()
}

/// Waits until the host was asked `times` times more; what its TPM was told then.
fn asked(machine: &Machine, times: usize) -> Vec<u32> {
    let mut commands = machine.proxy.take_commands();
    let before = commands.len();
    while commands.len() < before + times {
        commands.extend(machine.proxy.take_commands());
        std::thread::yield_now();
    }
    commands
}

#[test]
fn a_kernel_that_goes_on_measuring_costs_one_tpm_command_a_round() {
    let (world, machine, _agent, host) = measuring();
    // What the server knows is not read again: it may as well not be there.
    let len = usize::try_from(fs::metadata(machine.kernel_list()).unwrap().len()).unwrap();
    fs::write(machine.kernel_list(), vec![0xff; len]).unwrap();
    machine.proxy.take_commands();
    for round in 0..3 {
        machine.run(&format!("/usr/bin/{round}"));
        machine.run(&format!("/usr/lib/{round}"));
        let commands = asked(&machine, 2);
        assert!(commands.iter().all(|command| *command == QUOTE), "{commands:x?}");
    }
    assert_eq!(verdict(&world, &host)["finding"], "FINDING_VERIFIED");
    assert_eq!(world.server().count("Evidence refused"), 0);
}

#[test]
fn a_host_that_hides_what_it_ran_is_quarantined_and_its_place_is_named() {
    let (world, machine, agent, host) = measuring();
    machine.run("/usr/bin/before");
    asked(&machine, 2);
    machine.run_hidden("/usr/bin/hidden");
    machine.run("/usr/bin/after");

    let withdrawal = agent.daemon().wait_for("Server withdrew this host's standing");
    assert!(withdrawal.contains("host_quarantined"), "{withdrawal}");
    world.server().wait_for("Host quarantined");
    let shown = verdict(&world, &host);
    assert_eq!(shown["finding"], "FINDING_QUARANTINED", "{shown}");
    assert_eq!(shown["code"], "ima_unexplained", "{shown}");
    let difference = shown["difference"].as_str().unwrap();
    assert!(difference.contains("PCR 10: after entry 4"), "{shown}");
}

#[test]
fn a_server_that_starts_anew_goes_on_where_the_row_is() {
    let (mut world, machine, agent, host) = measuring();
    machine.run("/usr/bin/before");
    asked(&machine, 2);

    world.kill_server();
    agent.daemon().wait_for("Session ended");
    machine.run("/usr/bin/meanwhile");
    world.start_server();
    agent.daemon().wait_for_more("Session opened", 2);
    asked(&machine, 2);

    let shown = verdict(&world, &host);
    assert_eq!(shown["finding"], "FINDING_VERIFIED", "{shown}");
    assert_eq!(world.server().count("Evidence refused"), 0);
}
