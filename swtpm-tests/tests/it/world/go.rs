use std::process::Command;

use serde_json::{Value, json};
use swtpm_tests::{World, go_client, run};

const WEB: &str = "spiffe://example.org/web";

fn report(command: &mut Command) -> Value {
    serde_json::from_str(&run(command)).unwrap()
}

#[test]
fn go_spiffe_speaks_mtls_before_and_after_a_rotation() {
    let world = World::start();
    let agent = world.agent(&world.token());
    let _entry = world.entry(agent.id(), WEB, &["--x509-svid-ttl", "10"]);
    agent.daemon().wait_for("SVID ready");

    let report = report(go_client("source").env("SPIFFE_ENDPOINT_SOCKET", agent.endpoint()));

    for meeting in ["before", "after"] {
        assert_eq!(report[meeting]["client_saw"], WEB);
        assert_eq!(report[meeting]["server_saw"], WEB);
    }
    assert_ne!(report["before"]["serial"], report["after"]["serial"]);
}

#[test]
fn an_agent_of_spire_attests_synchronizes_signs_and_renews() {
    let world = World::start();
    let token = world.token();
    let agent_id = swtpm_tests::agent_id(&token);
    let _web = world.entry(&agent_id, WEB, &[]);
    let _of_another = world.entry("spiffe://example.org/elsewhere", "spiffe://example.org/db", &[]);

    let mut agent = go_client("agent");
    let report = report(agent.arg(world.address()).arg(world.bundle()).arg(&token));

    let expected = json!({
        "agent_id": agent_id,
        "reattestable": false,
        "entries": [WEB],
        "signed": [WEB],
        "renewed": true,
        "entries_after_renewal": 1,
    });
    assert_eq!(report, expected);
}
