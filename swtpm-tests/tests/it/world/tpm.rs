use attest::HashAlg;
use swtpm_tests::{Agent, Machine, Options, World};

const WEB: &str = "spiffe://example.org/web";
/// TPM_CC_Quote.
const QUOTE: u32 = 0x158;

#[test]
fn an_enrolled_host_attests_and_serves_its_workloads() {
    let world = World::for_tpms("", "");
    let machine = Machine::boot();
    let host = world.enrol(&machine);
    let agent = world.agent_with(&machine);
    let _entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");

    let fetched = agent.cli(&["api", "fetch", "x509"]);

    assert_eq!(fetched["svids"][0]["spiffe_id"], WEB);
    let agents = world.cli(&["agent", "list"]);
    assert_eq!(agents["agents"][0]["attestation_type"], "tpm", "{agents}");
    assert_eq!(agents["agents"][0]["can_reattest"], true, "{agents}");
    let shown = world.cli(&["host", "show", "--id", &host]);
    assert_eq!(shown["agent_id"], machine.agent_id(), "{shown}");
    assert_ne!(shown["attestation_key_name"], "", "{shown}");
}

#[test]
fn a_host_that_nobody_enrolled_waits_until_it_is_approved() {
    let world = World::for_tpms("", "");
    let machine = Machine::boot();
    let agent = Agent::on(&machine, &world.address(), &world.bundle());

    let refusal = agent.daemon().wait_for("host_pending");
    let pending = world.cli(&["host", "list", "--pending"]);
    let id = pending["hosts"][0]["id"].as_str().unwrap().to_owned();
    assert!(refusal.contains(&format!("host approve --id {id}")), "{refusal}");
    assert_eq!(
        pending["hosts"][0]["endorsement_keys"][0]["certificate_verified"], true,
        "{pending}"
    );
    let _approved = world.cli(&["host", "approve", "--id", &id, "--name", "db-1"]);

    agent.daemon().wait_for("Agent ready");
}

/// What one person ordered is shown to the one who approves it, and nothing is approved unasked.
#[test]
fn a_host_that_somebody_ordered_is_shown_before_it_is_approved() {
    let world = World::for_tpms("host_approvals = 2\n", "");
    let hash = "ab".repeat(32);
    let imported = world.cli(&["host", "import", "--ek-hash", &hash]);
    let id = imported["results"][0]["host"]["id"].as_str().unwrap().to_owned();
    let pending = || world.cli(&["host", "list", "--pending"])["hosts"].clone();
    let before = pending();
    assert_eq!(before[0]["id"], id.as_str(), "{before}");

    let approve = ["host", "approve", "--id", &id];
    let refused = world.outcome(&approve);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    for words in [&hash, "nothing was approved: give --yes, or ask at a terminal"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(pending(), before);

    // Who ordered it is no second person.
    let noted = world.cli(&[&approve[..], &["--yes"]].concat());
    assert_eq!(noted["enrolment"], "ENROLMENT_PENDING", "{noted}");
    assert_eq!(pending(), before);
}

#[test]
fn a_host_enrolled_by_its_certificate_attests() {
    let world = World::for_tpms("", "");
    let machine = Machine::boot();
    let certificate = &machine.endorsement_keys()["endorsement_keys"][0];
    let text = |name: &str| certificate[name].as_str().unwrap();
    let by_certificate = [
        "host",
        "import",
        "--issuer",
        text("issuer"),
        "--serial-number",
        text("serial_number"),
    ];
    let _imported = world.cli(&by_certificate);

    let agent = world.agent_with(&machine);

    let agents = world.cli(&["agent", "list"]);
    assert_eq!(agents["agents"].as_array().unwrap().len(), 1, "{agents}");
    drop(agent);
}

/// A machine whose agent keeps the key of its SVID in memory.
fn with_key_in_memory() -> Machine {
    let mut machine = Machine::boot();
    machine.agent_settings = "svid_key = \"memory\"\n";
    machine
}

#[test]
fn a_known_host_attests_again_with_one_tpm_command() {
    let world = World::for_tpms("agent_ttl = \"20s\"", "");
    let machine = with_key_in_memory();
    let _host = world.enrol(&machine);
    let agent = world.agent_with(&machine);
    machine.proxy.take_commands();

    agent.daemon().wait_for_more("\"Attested\"", 2);

    assert_eq!(machine.proxy.take_commands(), [QUOTE]);
    assert_eq!(world.server().count("Attestation refused"), 0);
}

#[test]
fn a_session_that_was_cut_resumes_with_one_quote() {
    let mut world = World::for_tpms("", "");
    let machine = with_key_in_memory();
    let _host = world.enrol(&machine);
    let agent = world.agent_with(&machine);
    machine.proxy.take_commands();

    world.restart_server();
    agent.daemon().wait_for_more("Session opened", 2);

    assert_eq!(machine.proxy.take_commands(), [QUOTE]);
    assert_eq!(agent.daemon().count("\"Attested\""), 1);
}

#[test]
fn a_copied_disk_gives_nothing_on_another_tpm() {
    let world = World::for_tpms("", "");
    let machine = Machine::boot();
    let _host = world.enrol(&machine);
    let agent = world.agent_with(&machine);
    let kept: Vec<_> = std::fs::read_dir(agent.data_dir())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(kept, ["bundle.json"], "a key, or what may be one");

    let thief = Machine::boot();
    let stolen = Agent::on_copy_of(&agent, &thief, &world.address(), &world.bundle());
    stolen.daemon().wait_for("host_pending");
    assert_eq!(stolen.daemon().count("\"Attested\""), 0);
}

#[test]
fn a_host_that_is_changed_while_it_runs_is_refused_at_its_next_attestation() {
    let world = World::for_tpms("agent_ttl = \"20s\"", "");
    let machine = Machine::boot();
    let _host = world.enrol(&machine);
    let agent = world.agent_with(&machine);

    machine.tpm.extend(4, HashAlg::Sha256, &[1; 32]);

    let refusal = world.server().wait_for("Attestation refused");
    assert!(refusal.contains("PCR 4 of bank sha256"), "{refusal}");
    assert!(refusal.contains("log_mismatch"), "{refusal}");
    world.server().wait_for("Host quarantined");
    agent.daemon().wait_for("host_quarantined");
}

#[test]
fn a_host_that_is_removed_loses_its_standing() {
    let world = World::for_tpms("", "");
    let machine = Machine::boot();
    let host = world.enrol(&machine);
    let agent = world.agent_with(&machine);

    let _removed = world.cli(&["host", "remove", "--id", &host]);

    agent.daemon().wait_for("Server withdrew this host's standing");
    agent.daemon().wait_for("host_pending");
}

#[test]
fn a_host_that_is_removed_while_it_can_not_hear_loses_its_standing_when_it_comes_back() {
    let mut world = World::for_tpms("", "");
    let machine = Machine::boot();
    let host = world.enrol(&machine);
    let agent = world.agent_with(&machine);
    let _entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");

    agent.daemon().signal("STOP");
    let _removed = world.cli(&["host", "remove", "--id", &host]);
    world.restart_server();
    agent.daemon().signal("CONT");

    agent.daemon().wait_for("host_pending");
    agent.daemon().wait_for("Every SVID of this host is void");
    let outcome = agent.outcome(&["api", "fetch", "x509"]);
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(said.contains("no identity issued"), "{said}");
}

#[test]
fn an_agent_whose_tpm_is_dead_says_so_and_recovers() {
    let world = World::for_tpms("", "");
    let machine = Machine::boot();
    let _host = world.enrol(&machine);
    machine.proxy.cut();

    let agent = Agent::on(&machine, &world.address(), &world.bundle());
    let message = agent.daemon().wait_for("Not connected to the server");
    // It is noticed when it is opened, or with the first command.
    let notices = ["cannot open TPM", "the TPM no longer answers"];
    assert!(notices.iter().any(|notice| message.contains(notice)), "{message}");

    machine.proxy.switch_to(&machine.tpm);
    agent.daemon().wait_for("Agent ready");
}

/// What the certificate of a TPM says stays known, also where nobody shows it again, until another TPM is put in its place.
#[test]
fn what_a_certificate_says_of_a_tpm_selects_its_node() {
    let mut world = World::for_tpms("evidence_interval = \"1s\"", "");
    let machine = Machine::boot();
    let host = world.enrol(&machine);
    let agent = world.agent_with(&machine);
    let certified = |world: &World| {
        let agents = world.cli(&["agent", "list"]);
        let selectors = agents["agents"][0]["selectors"].as_array().unwrap();
        let values = selectors
            .iter()
            .map(|selector| selector["value"].as_str().unwrap().to_owned());
        values
            .filter(|value| value.starts_with("vendor:") || value.starts_with("model:"))
            .collect::<Vec<_>>()
    };
    let expected = ["model:swtpm", "vendor:00001014"];
    assert_eq!(certified(&world), expected);

    // Looked at anew, by what is on record or in a round.
    let policy = swtpm_tests::new_dir().join("policy.toml");
    let text = "format = 1\nname = \"on\"\nversion = 1\n[secure_boot]\nenforced = true\n";
    std::fs::write(&policy, text).unwrap();
    let _applied = world.cli(&["policy", "apply", policy.to_str().unwrap()]);
    let _assigned = world.cli(&["policy", "assign", "--host", &host, "--set", "on"]);
    let _promoted = world.cli(&["policy", "promote", "on"]);
    let _entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !world.cli(&["agent", "list"]).to_string().contains("policy:on") {
        assert!(
            std::time::Instant::now() < deadline,
            "{}",
            world.cli(&["agent", "list"])
        );
    }
    assert_eq!(certified(&world), expected);
    world.restart_server();
    agent.daemon().wait_for_more("Session opened", 2);
    assert_eq!(certified(&world), expected);
    drop(agent);

    let other = Machine::with(Options {
        certificates: false,
        ..Options::default()
    });
    let _replaced = world.cli(&["host", "replace-tpm", "--id", &host, "--ek", &other.ek_hash()]);
    let _agent = world.agent_with(&other);
    assert_eq!(certified(&world), [""; 0]);
}
