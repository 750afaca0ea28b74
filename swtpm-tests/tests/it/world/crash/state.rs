//! What a server has.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use edge::grpc::Client;
use proto::{
    plastron::host::v1::{ListHostsRequest, hosts_client::HostsClient},
    spire::api::server::{
        agent::v1::{ListAgentsRequest, agent_client::AgentClient},
        entry::v1::{ListEntriesRequest, entry_client::EntryClient},
    },
};

/// What a server has, all of it.
pub(super) struct State {
    /// Serial numbers by SPIFFE ID.
    pub(super) agents: HashMap<String, String>,
    /// Identifiers.
    pub(super) entries: HashSet<String>,
    /// Identifiers.
    pub(super) hosts: HashSet<String>,
}

impl State {
    pub(super) async fn read(socket: &Path) -> Self {
        let (client, connection) = edge::grpc::connect(socket).await.unwrap();
        let reading = async move {
            Self {
                agents: agents(client.clone()).await,
                entries: entries(client.clone()).await,
                hosts: hosts(client).await,
            }
        };
        tokio::select! {
            state = reading => state,
            () = connection => panic!("the server is gone"),
        }
    }
}

async fn agents(client: Client) -> HashMap<String, String> {
    let mut client = AgentClient::new(client);
    let listed = client.list_agents(ListAgentsRequest::default()).await.unwrap();
    let agents = listed.into_inner().agents.into_iter().map(|agent| {
        let id = agent.id.unwrap();
        let id = format!("spiffe://{}{}", id.trust_domain, id.path);
        (id, agent.x509svid_serial_number)
    });
    agents.collect()
}

async fn entries(client: Client) -> HashSet<String> {
    let mut client = EntryClient::new(client);
    let listed = client.list_entries(ListEntriesRequest::default()).await.unwrap();
    let entries = listed.into_inner().entries.into_iter();
    entries.map(|entry| entry.id).collect()
}

async fn hosts(client: Client) -> HashSet<String> {
    let mut client = HostsClient::new(client);
    let listed = client.list_hosts(ListHostsRequest::default()).await.unwrap();
    let hosts = listed.into_inner().hosts.into_iter();
    hosts.map(|host| host.id).collect()
}
