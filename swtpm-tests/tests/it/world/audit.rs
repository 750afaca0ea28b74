//! What the audit trail of a running server answers.

use swtpm_tests::World;

const WEB: &str = "spiffe://example.org/web";

#[tokio::test]
async fn an_svids_serial_number_leads_to_who_registered_it() {
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
