//! All that an agent may ask a server for over SPIRE's API.

use agent::svid_key::KeyRequest;
use edge::grpc::Client;
use proto::spire::api::server::{
    agent::v1::{AgentX509svidParams, PostStatusRequest, RenewAgentRequest, agent_client::AgentClient},
    entry::v1::{GetAuthorizedEntriesRequest, entry_client::EntryClient},
    svid::v1::{BatchNewX509svidRequest, NewJwtsvidRequest, NewX509svidParams, svid_client::SvidClient},
};
use tonic::{Code, Status};

use crate::kept::Kept;

/// The call that tells an agent what it may have.
pub(crate) const ENTRIES: &str = "GetAuthorizedEntries";

/// A call, and what came of it.
pub(crate) type Outcome = (&'static str, Result<(), Status>);

/// Makes each call once.
pub(crate) async fn all(client: Client, entry_id: &str) -> Vec<Outcome> {
    let synced = async { Kept::begin(client.clone()).await?.go_on().await };
    vec![
        (ENTRIES, entries(client.clone()).await.map(drop)),
        ("SyncAuthorizedEntries", synced.await),
        ("BatchNewX509SVID", x509_svid(client.clone(), entry_id).await),
        ("NewJWTSVID", jwt_svid(client.clone(), entry_id).await),
        ("RenewAgent", renewed(client.clone()).await),
        ("PostStatus", posted(client).await),
    ]
}

/// The first entry that the agent may have.
pub(crate) async fn entry(client: Client) -> String {
    entries(client).await.unwrap().swap_remove(0)
}

async fn entries(client: Client) -> Result<Vec<String>, Status> {
    let mut entries = EntryClient::new(client);
    let request = GetAuthorizedEntriesRequest::default();
    let authorized = entries.get_authorized_entries(request).await?.into_inner();
    Ok(authorized.entries.into_iter().map(|entry| entry.id).collect())
}

async fn x509_svid(client: Client, entry_id: &str) -> Result<(), Status> {
    let params = NewX509svidParams {
        entry_id: entry_id.into(),
        csr: csr(),
    };
    let request = BatchNewX509svidRequest { params: vec![params] };
    let issued = SvidClient::new(client).batch_new_x509svid(request).await?;
    let result = issued.into_inner().results.swap_remove(0);
    match result.status {
        Some(status) if status.code != 0 => Err(Status::new(Code::from(status.code), status.message)),
        _ => Ok(()),
    }
}

async fn jwt_svid(client: Client, entry_id: &str) -> Result<(), Status> {
    let request = NewJwtsvidRequest {
        entry_id: entry_id.into(),
        audience: vec!["anybody".into()],
    };
    SvidClient::new(client).new_jwtsvid(request).await.map(drop)
}

async fn renewed(client: Client) -> Result<(), Status> {
    let params = Some(AgentX509svidParams { csr: csr() });
    let request = RenewAgentRequest { params };
    AgentClient::new(client).renew_agent(request).await.map(drop)
}

async fn posted(client: Client) -> Result<(), Status> {
    let request = PostStatusRequest::default();
    AgentClient::new(client).post_status(request).await.map(drop)
}

fn csr() -> Vec<u8> {
    KeyRequest::generate(None).unwrap().csr
}
