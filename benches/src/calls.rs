//! Calls over the public APIs.

use std::{net::Ipv4Addr, path::Path};

use anyhow::{Context, Result};
use edge::{
    Clock,
    grpc::Client,
    tls::{self, Expected, Identity},
};
use proto::{
    grpc::health::v1::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    },
    spiffe::workload::{X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient},
    spire::api::{
        server::{
            agent::v1::{
                AgentX509svidParams, AttestAgentRequest, CreateJoinTokenRequest,
                agent_client::AgentClient,
                attest_agent_request::{Params, Step},
                attest_agent_response,
            },
            entry::v1::{BatchCreateEntryRequest, entry_client::EntryClient},
        },
        types::{AttestationData, Entry, Selector, Spiffeid, X509svid},
    },
};
use rustls_pki_types::CertificateDer;
use svid::SpiffeId;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tonic::{Request, metadata::MetadataValue};

/// Connects to a local socket; the connection is driven beside.
pub(crate) async fn local(socket: &Path) -> Result<Client> {
    let (client, driver) = edge::grpc::connect(socket).await?;
    tokio::spawn(driver);
    Ok(client)
}

/// Connects to the server.
pub(crate) async fn dial(
    address: (&str, u16),
    identity: Option<&Identity>,
) -> Result<(Client, tls::Exporter)> {
    over(TcpStream::connect(address).await?, identity).await
}

/// Connects to the server from an address of this host.
pub(crate) async fn dial_from(
    source: Ipv4Addr,
    (host, port): (&str, u16),
    identity: Option<&Identity>,
) -> Result<(Client, tls::Exporter)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let address = std::net::SocketAddr::new(host.parse()?, port);
    over(socket.connect(address).await?, identity).await
}

async fn over(tcp: TcpStream, identity: Option<&Identity>) -> Result<(Client, tls::Exporter)> {
    let expected = Expected::Anyone(SpiffeId::parse("spiffe://example.org/spire/server")?);
    let config = tls::client_config(expected, identity, Clock::system())?;
    tcp.set_nodelay(true)?;
    let stream = TlsConnector::from(config)
        .connect("localhost".try_into()?, tcp)
        .await?;
    let exporter = tls::exporter(stream.get_ref().1)?;
    let (client, driver) = Client::start(stream).await?;
    tokio::spawn(driver);
    Ok((client, exporter))
}

pub(crate) async fn is_healthy(socket: &Path) -> Result<bool> {
    let client = local(socket).await?;
    let answer = HealthClient::new(client)
        .check(HealthCheckRequest::default())
        .await?;
    Ok(answer.into_inner().status() == ServingStatus::Serving)
}

/// Join tokens.
pub(crate) async fn tokens(socket: &Path, count: usize) -> Result<Vec<String>> {
    use futures::{StreamExt, TryStreamExt, stream};
    let client = local(socket).await?;
    let token = |_| {
        let mut client = AgentClient::new(client.clone());
        async move {
            let request = CreateJoinTokenRequest {
                ttl: 24 * 3600,
                ..CreateJoinTokenRequest::default()
            };
            anyhow::Ok(client.create_join_token(request).await?.into_inner().value)
        }
    };
    stream::iter(0..count)
        .map(token)
        .buffer_unordered(128)
        .try_collect()
        .await
}

/// Attests over `client`; answers with the SVID.
pub(crate) async fn attest(client: Client, kind: &str, payload: Vec<u8>, csr: Vec<u8>) -> Result<X509svid> {
    let params = Params {
        data: Some(AttestationData {
            r#type: kind.into(),
            payload,
        }),
        params: Some(AgentX509svidParams { csr }),
    };
    let request = AttestAgentRequest {
        step: Some(Step::Params(params)),
    };
    let mut answers = AgentClient::new(client)
        .attest_agent(tokio_stream::once(request))
        .await?
        .into_inner();
    match answers.message().await?.and_then(|answer| answer.step) {
        Some(attest_agent_response::Step::Result(result)) => result.svid.context("no SVID"),
        other => anyhow::bail!("server answered {other:?}"),
    }
}

/// An SVID with its key, for TLS.
pub(crate) fn identity(svid: X509svid, key: &[u8]) -> Result<Identity> {
    let chain = svid.cert_chain.into_iter().map(CertificateDer::from).collect();
    Ok(Identity::new(chain, key)?)
}

/// An entry for processes of this user.
pub(crate) fn entry(parent: &str, path: &str) -> Entry {
    let id = |path: &str| Spiffeid {
        trust_domain: "example.org".into(),
        path: path.into(),
    };
    Entry {
        spiffe_id: Some(id(path)),
        parent_id: Some(id(parent)),
        selectors: vec![Selector {
            r#type: "unix".into(),
            value: format!("uid:{}", nix::unistd::getuid()),
        }],
        ..Entry::default()
    }
}

/// Creates entries; answers with their identifiers.
pub(crate) async fn create(client: Client, entries: Vec<Entry>) -> Result<Vec<String>> {
    let request = BatchCreateEntryRequest {
        entries,
        output_mask: None,
    };
    let created = EntryClient::new(client)
        .batch_create_entry(request)
        .await?
        .into_inner();
    let id = |result: proto::spire::api::server::entry::v1::batch_create_entry_response::Result| {
        result
            .entry
            .map(|entry| entry.id)
            .context("entry was not created")
    };
    created.results.into_iter().map(id).collect()
}

/// The first answer of a new FetchX509SVID stream: how many SVIDs there are.
pub(crate) async fn fetch(client: Client) -> Result<usize> {
    let mut stream = follow(client).await?;
    Ok(stream.message().await?.context("no answer")?.svids.len())
}

/// A FetchX509SVID stream.
pub(crate) async fn follow(
    client: Client,
) -> Result<tonic::Streaming<proto::spiffe::workload::X509svidResponse>> {
    let mut request = Request::new(X509svidRequest {});
    let header = MetadataValue::from_static("true");
    request.metadata_mut().insert("workload.spiffe.io", header);
    Ok(SpiffeWorkloadApiClient::new(client)
        .fetch_x509svid(request)
        .await?
        .into_inner())
}
