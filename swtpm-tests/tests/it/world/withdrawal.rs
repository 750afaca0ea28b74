use std::path::Path;

use proto::spire::api::{
    server::agent::v1::{BanAgentRequest, agent_client::AgentClient},
    types::Spiffeid,
};
use swtpm_tests::{Agent, World};

const WEB: &str = "spiffe://example.org/web";

#[test]
fn an_agent_that_is_evicted_drops_what_it_has() {
    let world = World::start();
    let agent = serving(&world);
    let watch = agent.watch();
    watch.wait_for(WEB);

    let _evicted = world.cli(&["agent", "evict", "--spiffe-id", agent.id()]);

    let withdrawal = agent.daemon().wait_for("Server withdrew this host's standing");
    assert!(withdrawal.contains("agent_evicted"), "{withdrawal}");
    has_nothing(&agent);
    watch.wait_for("no identity issued");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_banned_stays_out_and_says_what_to_do() {
    let world = World::start();
    let mut agent = serving(&world);

    ban(&world.server_socket(), agent.id()).await;

    let withdrawal = agent.daemon().wait_for("Server withdrew this host's standing");
    assert!(withdrawal.contains("agent_banned"), "{withdrawal}");
    agent.daemon().wait_for("an operator has to evict it");
    has_nothing(&agent);
    agent.daemon().wait_for_more("Not connected to the server", 2);
    assert_eq!(agent.daemon().count("Session opened"), 1);

    // Its SVID is on disk, and of no use.
    agent.restart();
    agent.daemon().wait_for("an operator has to evict it");
    agent.daemon().wait_for("Not connected to the server");
    assert_eq!(agent.daemon().count("Session opened"), 0);
}

fn serving(world: &World) -> Agent {
    let agent = world.agent(&world.token());
    let _entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");
    agent
}

fn has_nothing(agent: &Agent) {
    agent.daemon().wait_for("Every SVID of this host is void");
    agent.daemon().wait_for("Agent not ready");
    let outcome = agent.outcome(&["api", "fetch", "x509"]);
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(said.contains("no identity issued (PermissionDenied)"), "{said}");
}

/// What `spire-server agent ban` does.
async fn ban(socket: &Path, id: &str) {
    let path = id.strip_prefix("spiffe://example.org").unwrap();
    let (client, connection) = edge::grpc::connect(socket).await.unwrap();
    let mut client = AgentClient::new(client);
    let request = BanAgentRequest {
        id: Some(Spiffeid {
            trust_domain: "example.org".into(),
            path: path.into(),
        }),
    };
    tokio::select! {
        biased;
        banned = client.ban_agent(request) => drop(banned.unwrap()),
        () = connection => panic!("the connection ended"),
    }
}
