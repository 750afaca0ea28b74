use serde_json::{Value, json};
use swtpm_tests::{World, python_client, run};

#[test]
fn the_python_package_reads_the_context() {
    let world = World::start();
    let agent = world.agent(&world.token());
    let _entry = world.entry(agent.id(), "spiffe://example.org/web", &[]);
    agent.daemon().wait_for("SVID ready");

    let mut fetch = python_client("fetch.py");
    let printed = run(fetch.env("SPIFFE_ENDPOINT_SOCKET", agent.endpoint()));

    let context: Value = serde_json::from_str(&printed).unwrap();
    let expected = json!({ "svids": ["spiffe://example.org/web"], "authorities": 1 });
    assert_eq!(context, expected);
}
