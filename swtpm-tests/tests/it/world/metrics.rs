//! What Prometheus gets, and that it is what `deploy/` describes.

use std::collections::BTreeSet;

use swtpm_tests::{Agent, World, free_port};

use super::http::get;

const DOCUMENTED: &str = include_str!("../../../../deploy/metrics.md");
const DASHBOARD: &str = include_str!("../../../../deploy/grafana/plastron.json");

fn health(port: u16) -> String {
    let table = |name: &str| format!("[{name}.health_checks]\nlistener_enabled = true\nbind_port = {port}\n");
    table("server")
}

fn metrics(port: u16) -> String {
    let answer = get(port, "/metrics").unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("text/plain; version=0.0.4"),
        "{answer}"
    );
    answer
}

/// Names and kinds.
fn exported(metrics: &str) -> BTreeSet<(String, String)> {
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, kind)| (name.into(), kind.into()))
        .collect()
}

/// Names and kinds in the tables under `heading` of the description.
fn documented(heading: &str) -> BTreeSet<(String, String)> {
    let section = DOCUMENTED.split("\n## ").find(|part| part.starts_with(heading));
    let rows = section.unwrap().lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(|cell| cell.trim().trim_matches('`'));
        (cells.next().unwrap().into(), cells.next().unwrap().into())
    })
    .collect()
}

#[test]
fn the_dashboard_shows_what_is_documented_and_nothing_else() {
    let all: BTreeSet<_> = ["Both", "Server", "Agent"]
        .iter()
        .flat_map(|heading| documented(heading))
        .collect();
    let words = DASHBOARD.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named = words.filter(|word| {
        [
            "plastron_server_",
            "plastron_agent_",
            "plastron_grpc_",
            "process_",
        ]
        .iter()
        .any(|start| word.starts_with(start))
    });
    let shown: BTreeSet<_> = named
        .map(|word| word.trim_end_matches("_bucket").to_owned())
        .collect();
    let names: BTreeSet<_> = all.into_iter().map(|(name, _)| name).collect();
    assert_eq!(shown, names);
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 10);
}

#[tokio::test]
async fn a_running_server_and_agent_export_what_is_documented() {
    let (server, agent) = (free_port(), free_port());
    let world = World::with(&health(server));
    let settings = health(agent).replace("[server.", "[agent.");
    let running = Agent::start_with(&settings, &world.address(), &world.bundle(), &world.token());
    running.daemon().wait_for("Agent ready");
    let _entry = world.entry(running.id(), "spiffe://example.org/web", &[]);
    running.daemon().wait_for("SVID ready");

    let (of_server, of_agent) = (metrics(server), metrics(agent));

    let both = documented("Both");
    assert_eq!(exported(&of_server), &both | &documented("Server"));
    assert_eq!(exported(&of_agent), &both | &documented("Agent"));
    for line in [
        "plastron_server_entries 1",
        "plastron_server_agents{state=\"active\"} 1",
        "plastron_server_sessions 1",
        "plastron_server_attestations_total{node_attestor_type=\"join_token\",code=\"ok\"} 1",
        "plastron_server_svids_issued_total{kind=\"agent\"} 1",
        "plastron_server_svids_issued_total{kind=\"workload\"} 1",
        "plastron_server_limited_total{limit=\"signing\"} 0",
        "plastron_grpc_calls_total{method=\"spire.api.server.entry.v1.Entry/BatchCreateEntry\",code=\"OK\"} 1",
    ] {
        assert!(
            of_server.lines().any(|shown| shown == line),
            "{line} in {of_server}"
        );
    }
    for line in [
        "plastron_agent_session_open 1",
        "plastron_agent_svids 1",
        "plastron_agent_attestations_total{outcome=\"ok\"} 1",
    ] {
        assert!(
            of_agent.lines().any(|shown| shown == line),
            "{line} in {of_agent}"
        );
    }
}
