//! Many agents in one process: each has its own SVID, connection and session, and nothing that is not needed for that.

use std::{
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use agent::{backoff::Backoff, refusal::retry_after, svid_key::KeyRequest};
use edge::{
    Clock,
    grpc::Client,
    tls::{self, Expected, Identity},
};
use futures::{StreamExt, stream};
use proto::{
    plastron::agent::v1::{
        Ack, AgentMessage, Open, ServerMessage, agent_message::Message as ToServer,
        agent_session_client::AgentSessionClient, server_message::Message as FromServer,
    },
    spire::api::{
        server::agent::v1::{
            AgentX509svidParams, AttestAgentRequest, CreateJoinTokenRequest,
            agent_client::AgentClient,
            attest_agent_request::{Params, Step},
            attest_agent_response,
        },
        types::AttestationData,
    },
};
use rustls_pki_types::CertificateDer;
use svid::SpiffeId;
use swtpm_tests::World;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// Sources that the herd comes from, as many racks.
pub(super) const RACKS: u8 = 8;
/// Connections on which the herd attests.
const ATTESTING: usize = 64;

/// How long each step of dialing may take, and the opening of a session: as with an agent.
const STEP_WITHIN: Duration = Duration::from_secs(10);
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// An agent that attested.
pub(super) struct Member {
    identity: Identity,
    rack: u8,
}

/// A connection, driven beside until this is dropped.
pub(super) struct Connection {
    pub(super) client: Client,
    driver: JoinHandle<()>,
}

/// A session that is open.
pub(super) struct Session {
    _connection: Connection,
    _requests: mpsc::Sender<AgentMessage>,
    _messages: Streaming<ServerMessage>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Connects from an address of `rack`, after `preface`.
pub(super) async fn dial(
    address: SocketAddr,
    rack: u8,
    identity: Option<&Identity>,
    preface: &[u8],
) -> io::Result<Connection> {
    let server = "spiffe://example.org/spire/server".parse::<SpiffeId>().unwrap();
    let config = tls::client_config(Expected::Anyone(server), identity, Clock::system()).unwrap();
    let mut tcp = within(STEP_WITHIN, connect(address, rack)).await?;
    tcp.write_all(preface).await?;
    let name = "localhost".try_into().unwrap();
    let stream = within(STEP_WITHIN, TlsConnector::from(config).connect(name, tcp)).await?;
    let (client, driver) = Client::start(stream).await.map_err(io::Error::other)?;
    let driver = tokio::spawn(driver);
    Ok(Connection { client, driver })
}

async fn within<T, E: From<io::Error>>(
    limit: Duration,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let done = timeout(limit, step).await;
    done.unwrap_or_else(|late| Err(io::Error::from(late).into()))
}

async fn connect(address: SocketAddr, rack: u8) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 1, rack), 0).into())?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Has `count` agents attest, each with a token of its own.
pub(super) async fn attested(world: &World, count: usize) -> Vec<Member> {
    let tokens = tokens(world, count).await;
    let address: SocketAddr = world.address().parse().unwrap();
    let key = Arc::new(KeyRequest::generate(None).unwrap());
    let share = tokens.len().div_ceil(ATTESTING);
    let shares = tokens.chunks(share).enumerate().map(|(number, tokens)| {
        let key = Arc::clone(&key);
        async move {
            let rack = u8::try_from(number % usize::from(RACKS)).unwrap();
            let connection = dial(address, rack, None, &[]).await.unwrap();
            let mut members = Vec::new();
            for token in tokens {
                let chain = attest(connection.client.clone(), token, &key.csr).await.unwrap();
                let identity = Identity::new(chain, &key.key).unwrap();
                members.push(Member { identity, rack });
            }
            members
        }
    });
    let members: Vec<Vec<_>> = stream::iter(shares).buffer_unordered(ATTESTING).collect().await;
    members.into_iter().flatten().collect()
}

async fn tokens(world: &World, count: usize) -> Vec<String> {
    let (client, driver) = edge::grpc::connect(&world.server_socket()).await.unwrap();
    let driver = tokio::spawn(driver);
    let token = |_| {
        let mut client = AgentClient::new(client.clone());
        async move {
            let request = CreateJoinTokenRequest {
                ttl: 3600,
                ..CreateJoinTokenRequest::default()
            };
            client
                .create_join_token(request)
                .await
                .unwrap()
                .into_inner()
                .value
        }
    };
    let tokens = stream::iter(0..count)
        .map(token)
        .buffer_unordered(128)
        .collect()
        .await;
    driver.abort();
    tokens
}

/// Attests with a token.
pub(super) async fn attest(
    client: Client,
    token: &str,
    csr: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Status> {
    let params = Params {
        data: Some(AttestationData {
            r#type: "join_token".into(),
            payload: token.into(),
        }),
        params: Some(AgentX509svidParams { csr: csr.into() }),
    };
    let request = AttestAgentRequest {
        step: Some(Step::Params(params)),
    };
    let requests = tokio_stream::once(request);
    let mut answers = AgentClient::new(client)
        .attest_agent(requests)
        .await?
        .into_inner();
    let Some(attest_agent_response::Step::Result(result)) = answers.message().await?.unwrap().step else {
        panic!("a join token is answered with an SVID");
    };
    let chain = result.svid.unwrap().cert_chain;
    Ok(chain.into_iter().map(CertificateDer::from).collect())
}

impl Member {
    /// Comes back until it has a session, as an agent does: after a pause, and after the one that the server asks for.
    /// Answers with how often it had to.
    pub(super) async fn returned(&self, address: SocketAddr) -> (Session, usize) {
        let (mut tries, mut backoff) = (0, Backoff::default());
        loop {
            tries += 1;
            let asked = match self.session(address).await {
                Ok(session) => return (session, tries),
                Err(Failed::Connection(_)) => None,
                Err(Failed::Refused(status)) => {
                    // A connection that the server closed, a limit, or too slow: anything else would be for good.
                    let passes = matches!(
                        status.code(),
                        Code::DeadlineExceeded | Code::ResourceExhausted | Code::Unavailable | Code::Unknown
                    );
                    assert!(passes, "refused for good: {status}");
                    retry_after(&status)
                }
            };
            tokio::time::sleep(backoff.failed(asked)).await;
        }
    }

    /// Opens a session, and acknowledges the first update.
    async fn session(&self, address: SocketAddr) -> Result<Session, Failed> {
        let connection = dial(address, self.rack, Some(&self.identity), &[]).await?;
        within(OPEN_WITHIN, opened(connection)).await
    }
}

/// Opens a session on a connection.
async fn opened(connection: Connection) -> Result<Session, Failed> {
    let (requests, queue) = mpsc::channel(2);
    requests.try_send(said(ToServer::Open(Open::default()))).unwrap();
    let mut client = AgentSessionClient::new(connection.client.clone());
    let mut messages = client.session(ReceiverStream::new(queue)).await?.into_inner();
    loop {
        let message = messages.message().await?.and_then(|message| message.message);
        match message.ok_or_else(|| Status::unavailable("the session ended"))? {
            FromServer::Update(update) => {
                let revision = update.revision;
                requests.try_send(said(ToServer::Ack(Ack { revision }))).unwrap();
                break;
            }
            FromServer::Welcome(_) => {}
            other => panic!("a herd of join tokens is not told {other:?}"),
        }
    }
    Ok(Session {
        _connection: connection,
        _requests: requests,
        _messages: messages,
    })
}

fn said(message: ToServer) -> AgentMessage {
    AgentMessage {
        message: Some(message),
    }
}

enum Failed {
    Connection(#[expect(dead_code, reason = "shown where a test fails")] std::io::Error),
    Refused(Status),
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Connection(error)
    }
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}
