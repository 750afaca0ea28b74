//! What the audit trail of a running server answers.

use swtpm_tests::{Machine, World};

const WEB: &str = "spiffe://example.org/web";

#[test]
fn an_svids_serial_number_leads_to_who_registered_it() {
    let world = World::start();
    let agent = world.agent(&world.token());
    let id = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");
    let issued = world.audit(&[
        "query",
        "--field",
        &format!("spiffe_id={WEB}"),
        "--output",
        "json",
    ]);
    let serial = issued[0]["fields"]["serial_num"].as_str().unwrap();

    let led = world.audit(&["query", "--serial", serial, "--output", "json"]);

    assert_eq!(led[0]["issued"]["fields"]["entry_id"], id);
    assert_eq!(led[0]["agent_attested"]["actor"], agent.id());
    let created = &led[0]["entry_created"];
    assert_eq!(created["fields"]["entry_id"], id);
    assert!(created["actor"].as_str().unwrap().starts_with("local uid="));

    let verified = world.audit(&["verify", "--output", "json"]);
    let exported = world.audit(&["export"]);
    let records = verified[0]["records"].as_u64().unwrap();
    assert!(records >= 4 && exported.len() as u64 >= records);
    assert!(
        exported
            .iter()
            .any(|record| record["hash"] == verified[0]["head"])
    );
    assert_eq!(world.audit(&["tail", "-n", "2", "--output", "json"]).len(), 2);
}

#[test]
fn on_a_host_with_a_tpm_it_leads_to_the_endorsement_key_and_who_enrolled_it() {
    let world = World::for_tpms("", "");
    let machine = Machine::boot();
    let row = world.enrol(&machine);
    let agent = world.agent_with(&machine);
    let _entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");
    let issued = world.audit(&[
        "query",
        "--field",
        &format!("spiffe_id={WEB}"),
        "--output",
        "json",
    ]);
    let serial = issued[0]["fields"]["serial_num"].as_str().unwrap();

    let led = world.audit(&["query", "--serial", serial, "--output", "json"]);

    assert_eq!(led[0]["agent_attested"]["fields"]["host_id"], row);
    let enrolled = &led[0]["host_enrolled"];
    assert_eq!(enrolled["fields"]["host_id"], row);
    assert!(enrolled["actor"].as_str().unwrap().starts_with("local uid="));
    let hashes = led[0]["host_keys"]["fields"]["ek_hash"].as_str().unwrap();
    assert!(
        hashes.split(',').any(|hash| hash == machine.ek_hash()),
        "{hashes}"
    );
}
