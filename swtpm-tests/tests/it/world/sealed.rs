//! What an agent keeps over a restart while the server is away, and what it does not.

use std::{fs, path::PathBuf};

use serde_json::Value;
use swtpm_tests::{Agent, Host, Machine, World, new_dir};

const WEB: &str = "spiffe://example.org/web";
const DB: &str = "spiffe://example.org/db";
/// So often that no test waits for it.
const OFTEN: &str = "evidence_interval = \"1s\"\n";
const SERVING: &str = "Serving sealed state";
const VOIDED: &str = "Sealed state deleted: the host lost its standing";

/// An agent on `machine` that keeps the SVIDs of these entries, and the identifiers of those.
fn keeping(world: &World, machine: &Machine, ids: &[&str]) -> (Agent, Vec<String>) {
    keeping_on(Host::default(), world, machine, ids)
}

fn keeping_on(host: Host, world: &World, machine: &Machine, ids: &[&str]) -> (Agent, Vec<String>) {
    let _host = world.enrol(machine);
    let agent = Agent::on_host(host, machine, &world.address(), &world.bundle());
    agent.daemon().wait_for("Agent ready");
    let entries = ids.iter().map(|id| world.entry(agent.id(), id, &[]));
    let entries = entries.collect();
    keeps(&agent, ids.len());
    (agent, entries)
}

/// Waits until so many SVIDs are in the file.
fn keeps(agent: &Agent, svids: usize) {
    agent.daemon().wait_for(&written(svids));
}

/// What an agent says when it wrote so many SVIDs.
fn written(svids: usize) -> String {
    format!("\"message\":\"Sealed state written\",\"count\":{svids},")
}

fn file(agent: &Agent) -> PathBuf {
    agent.data_dir().join("sealed.state")
}

fn fetched(agent: &Agent) -> Value {
    agent.cli(&["api", "fetch", "x509"])
}

fn names(fetched: &Value) -> Vec<&str> {
    let svids = fetched["svids"].as_array().unwrap().iter();
    let mut names: Vec<_> = svids.map(|svid| svid["spiffe_id"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

/// Workloads get nothing of an agent that did not reach the server since its start.
fn has_nothing(agent: &Agent) {
    agent.daemon().wait_for("Not connected to the server");
    assert_eq!(agent.daemon().count(SERVING), 0);
    assert!(!agent.outcome(&["healthcheck"]).status.success());
    let outcome = agent.outcome(&["api", "fetch", "x509"]);
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(said.contains("no identities from the server yet"), "{said}");
}

#[test]
fn a_restart_while_the_server_is_away_costs_no_svid_and_the_host_attests_when_it_is_back() {
    let mut world = World::for_tpms("", "");
    let machine = Machine::boot();
    let (mut agent, _) = keeping(&world, &machine, &[WEB]);
    let before = fetched(&agent);
    let content = fs::read(file(&agent)).unwrap();
    assert!(!content.windows(WEB.len()).any(|part| part == WEB.as_bytes()));

    world.kill_server();
    agent.restart();

    agent.daemon().wait_for(SERVING);
    agent.daemon().wait_for("Agent ready");
    assert_eq!(fetched(&agent), before);
    let _healthy = agent.cli(&["healthcheck"]);

    // Once more, of what was written since.
    keeps(&agent, 1);
    agent.restart();
    agent.daemon().wait_for(SERVING);
    assert_eq!(fetched(&agent), before);

    world.start_server();
    agent.daemon().wait_for("\"Attested\"");
    let _entry = world.entry(agent.id(), DB, &[]);
    keeps(&agent, 2);
    let after = fetched(&agent);
    assert_eq!(names(&after), [DB, WEB]);
    let web = after["svids"].as_array().unwrap().iter();
    let web: Vec<_> = web.filter(|svid| svid["spiffe_id"] == WEB).collect();
    assert_eq!(web, [&before["svids"][0]], "it need not be signed anew");
    assert_eq!(agent.daemon().count("State is sealed"), 0, "nothing changed");
}

#[test]
fn an_entry_that_was_deleted_does_not_come_back_with_a_restart() {
    let mut world = World::for_tpms("", "");
    let machine = Machine::boot();
    let (mut agent, entries) = keeping(&world, &machine, &[WEB, DB]);

    let before = agent.daemon().count(&written(1));
    let _deleted = world.cli(&["entry", "delete", "--entry-id", &entries[0]]);
    agent.daemon().wait_for_more(&written(1), before + 1);
    world.kill_server();
    agent.restart();

    agent.daemon().wait_for(SERVING);
    assert_eq!(names(&fetched(&agent)), [DB]);

    world.start_server();
    agent.daemon().wait_for("Session opened");
    let _deleted = world.cli(&["entry", "delete", "--entry-id", &entries[1]]);
    agent.daemon().wait_for("Sealed state deleted: it is out of date");
    assert!(!file(&agent).exists());
    world.kill_server();
    agent.restart();
    has_nothing(&agent);
}

#[test]
fn a_host_that_was_changed_meanwhile_opens_nothing_and_says_why() {
    let mut world = World::for_tpms("", "");
    let machine = Machine::boot();
    let (mut agent, _) = keeping(&world, &machine, &[WEB]);
    world.kill_server();
    // What kernel and system measure while they run does not count.
    for pcr in [10, 11, 15] {
        machine.measure_unlogged(pcr);
    }
    agent.restart();
    agent.daemon().wait_for(SERVING);

    machine.measure_unlogged(4);
    agent.restart();

    let deleted = agent.daemon().wait_for("Sealed state deleted");
    assert!(deleted.contains("the PCRs hold something else"), "{deleted}");
    assert!(deleted.contains("sha256:0,2,4,7,8,9,14"), "{deleted}");
    has_nothing(&agent);
    assert!(!file(&agent).exists());
}

#[test]
fn a_host_that_is_quarantined_keeps_nothing() {
    let mut world = World::for_tpms(OFTEN, "");
    let machine = Machine::boot();
    let (mut agent, _) = keeping(&world, &machine, &[WEB]);

    machine.measure_unlogged(14);

    agent.daemon().wait_for("Every SVID of this host is void");
    agent.daemon().wait_for(VOIDED);
    assert!(!file(&agent).exists());
    world.kill_server();
    agent.restart();
    has_nothing(&agent);
}

#[test]
fn a_host_that_the_server_refuses_keeps_nothing() {
    let mut world = World::for_tpms("", "");
    let machine = Machine::boot();
    let (mut agent, _) = keeping(&world, &machine, &[WEB]);
    let hosts = world.cli(&["host", "list"]);
    let host = hosts["hosts"][0]["id"].as_str().unwrap();
    agent.daemon().signal("STOP");
    let _removed = world.cli(&["host", "remove", "--id", host]);

    agent.restart();

    agent.daemon().wait_for(VOIDED);
    assert_eq!(agent.daemon().count(SERVING), 0);
    assert!(!file(&agent).exists());
    world.kill_server();
    agent.restart();
    has_nothing(&agent);
}

#[test]
fn what_was_served_while_the_server_was_away_ends_when_it_refuses() {
    let mut world = World::for_tpms(OFTEN, "");
    let machine = Machine::boot();
    let (mut agent, _) = keeping(&world, &machine, &[WEB]);
    world.kill_server();
    agent.restart();
    agent.daemon().wait_for(SERVING);
    let watch = agent.watch();
    watch.wait_for(WEB);

    machine.measure_unlogged(4);
    world.start_server();

    watch.wait_for("no identity issued");
    agent.daemon().wait_for(VOIDED);
    assert!(!file(&agent).exists());
}

#[test]
fn a_policy_that_is_enforced_says_what_state_is_sealed_to() {
    let mut world = World::for_tpms(OFTEN, "");
    let machine = Machine::boot();
    let (mut agent, _) = keeping(&world, &machine, &[WEB]);
    let policy = new_dir().join("policy.toml");
    let rules = "format = 1\nname = \"sb\"\nversion = 1\n[secure_boot]\nenforced = true\n";
    fs::write(&policy, rules).unwrap();
    let _applied = world.cli(&["policy", "apply", policy.to_str().unwrap()]);
    let _assigned = world.cli(&["policy", "assign", "--all", "--set", "sb"]);
    let promote = ["policy", "promote", "sb", "--accept-fall-out", "1"];
    let _promoted = world.cli(&promote);

    let sealed = agent.daemon().wait_for_more("State is sealed", 2);
    assert!(sealed.contains("\"sha256:7\""), "{sealed}");
    agent.daemon().wait_for(&(written(1) + "\"pcrs\":\"sha256:7\""));

    // Another kernel would open it now, as the policy would take it.
    world.kill_server();
    machine.measure_unlogged(4);
    agent.restart();
    agent.daemon().wait_for(SERVING);
    machine.measure_unlogged(7);
    agent.restart();
    agent.daemon().wait_for("Sealed state deleted");
    has_nothing(&agent);
}

#[test]
fn a_copied_disk_opens_on_no_other_tpm() {
    let mut world = World::for_tpms("", "");
    let machine = Machine::boot();
    let (agent, _) = keeping(&world, &machine, &[WEB]);
    let bundle = world.bundle();
    world.kill_server();

    let thief = Machine::boot();
    let stolen = Agent::on_copy_of(&agent, &thief, &world.address(), &bundle);

    let deleted = stolen.daemon().wait_for("Sealed state deleted");
    assert!(deleted.contains("another TPM sealed it"), "{deleted}");
    has_nothing(&stolen);
}

#[test]
fn a_file_that_was_changed_is_deleted() {
    let mut world = World::for_tpms("", "");
    let machine = Machine::boot();
    let (mut agent, _) = keeping(&world, &machine, &[WEB]);
    world.kill_server();
    agent.daemon().signal("STOP");
    let mut content = fs::read(file(&agent)).unwrap();
    *content.last_mut().unwrap() ^= 1;
    fs::write(file(&agent), content).unwrap();

    agent.restart();

    let deleted = agent.daemon().wait_for("Sealed state deleted");
    assert!(deleted.contains("changed since it was written"), "{deleted}");
    has_nothing(&agent);
    assert!(!file(&agent).exists());
}

#[test]
fn nothing_that_ended_is_served_nor_anything_to_a_clock_that_was_set_back() {
    let mut world = World::for_tpms("ca_ttl = \"3y\"", "");
    let machine = Machine::boot();
    let (mut agent, _) = keeping_on(Host::with_clock("+0"), &world, &machine, &[WEB]);
    world.kill_server();

    agent.host().set_clock("-30m");
    agent.restart();
    let refused = agent.daemon().wait_for("Sealed state not served");
    assert!(refused.contains("is the clock right?"), "{refused}");
    has_nothing(&agent);
    agent.host().set_clock("+0");
    agent.daemon().wait_for(SERVING);

    agent.daemon().signal("STOP");
    agent.host().set_clock("+2h");
    agent.restart();
    agent.daemon().wait_for("everything in it has ended");
    agent.host().set_clock("+0");
    agent.restart();
    has_nothing(&agent);
}

#[test]
fn what_ended_before_the_eyes_of_an_agent_is_gone_for_good() {
    let mut world = World::for_tpms("ca_ttl = \"3y\"", "");
    let machine = Machine::boot();
    let (mut agent, _) = keeping_on(Host::with_clock("+0"), &world, &machine, &[WEB]);
    world.kill_server();

    agent.host().set_clock("+2h");
    agent.daemon().wait_for("Sealed state deleted: it is out of date");
    agent.host().set_clock("+0");
    agent.restart();

    has_nothing(&agent);
}

#[test]
fn nothing_is_kept_where_that_is_switched_off() {
    let mut world = World::for_tpms("", "");
    let mut machine = Machine::boot();
    let (agent, _) = keeping(&world, &machine, &[WEB]);
    let bundle = world.bundle();

    machine.agent_lines = "sealed_state = \"off\"\n";
    let copy = Agent::on_copy_of(&agent, &machine, &world.address(), &bundle);
    copy.daemon().wait_for("it is switched off");
    copy.daemon().wait_for("SVID ready");
    assert!(!file(&copy).exists());
    world.kill_server();
    assert_eq!(copy.daemon().count("State is sealed"), 0);
}
