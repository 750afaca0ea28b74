//! Many agents that are connected and have nothing to say: memory and idle time.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use ::agent::svid_key::KeyRequest;
use anyhow::{Context, Result};
use edge::{grpc::Client, tls::Identity};
use futures::{StreamExt, TryStreamExt, stream};
use proto::plastron::agent::v1::{
    Ack, AgentMessage, Open, ServerMessage, agent_message::Message as ToServer,
    agent_session_client::AgentSessionClient, server_message::Message as FromServer,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{
    calls,
    measure::Plan,
    process::{cpu, memory},
    stage::Stage,
    work::megabytes,
};

/// Handshakes at once.
const PARALLEL: usize = 64;
/// Addresses that agents come from: a source has a share of connections.
const SOURCES: usize = 8;
/// For everything that opening leaves behind to end.
const SETTLE: Duration = Duration::from_secs(20);
const IDLE: Duration = Duration::from_secs(60);

/// A session that is open.
struct Follower {
    _client: Client,
    _requests: mpsc::Sender<AgentMessage>,
    _messages: Streaming<ServerMessage>,
}

/// Measures a server with `sessions` sessions.
pub(crate) async fn run(binaries: &Path, plan: &Plan, sessions: usize) -> Result<()> {
    if !plan.wants("idle sessions") {
        return Ok(());
    }
    allow_files()?;
    let stage = Stage::set(binaries).await?;
    let process = stage.server.id();
    let idle = memory(process)?;
    let key = KeyRequest::generate(None)?;
    let tokens = calls::tokens(&stage.socket(), sessions).await?;
    let opening = tokens.into_iter().enumerate().map(|(number, token)| {
        let (stage, key) = (&stage, &key);
        async move { open(stage, key, token, source(number)?).await }
    });
    let open: Vec<Follower> = stream::iter(opening)
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    tokio::time::sleep(SETTLE).await;
    let more = memory(process)?.saturating_sub(idle);
    println!(
        "{:34} {:8.1} MB over idle for {}, {:.1} KB each",
        "idle sessions, memory",
        megabytes(more),
        open.len(),
        megabytes(more) * 1000.0 / f64::from(u32::try_from(open.len())?)
    );
    let before = cpu(process)?;
    tokio::time::sleep(IDLE).await;
    let used = cpu(process)?.saturating_sub(before).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    println!("{:34} {used:8.2} % of a core", "idle sessions, time");
    Ok(())
}

fn source(number: usize) -> Result<Ipv4Addr> {
    Ok(Ipv4Addr::new(127, 0, 1, u8::try_from(number % SOURCES)?))
}

/// Attests, and opens a session on a connection of its own.
async fn open(stage: &Stage, key: &KeyRequest, token: String, source: Ipv4Addr) -> Result<Follower> {
    let (client, _) = calls::dial_from(source, stage.address(), None).await?;
    let svid = calls::attest(client, "join_token", token.into_bytes(), key.csr.clone()).await?;
    session(stage, &calls::identity(svid, &key.key)?, source).await
}

async fn session(stage: &Stage, identity: &Identity, source: Ipv4Addr) -> Result<Follower> {
    let (client, _) = calls::dial_from(source, stage.address(), Some(identity)).await?;
    let (requests, queue) = mpsc::channel(2);
    requests.send(said(ToServer::Open(Open::default()))).await?;
    let mut sessions = AgentSessionClient::new(client.clone());
    let mut messages = sessions.session(ReceiverStream::new(queue)).await?.into_inner();
    loop {
        let message = messages.message().await?.context("the session ended")?;
        if let Some(FromServer::Update(update)) = message.message {
            let revision = update.revision;
            requests.send(said(ToServer::Ack(Ack { revision }))).await?;
            break;
        }
    }
    Ok(Follower {
        _client: client,
        _requests: requests,
        _messages: messages,
    })
}

fn said(message: ToServer) -> AgentMessage {
    AgentMessage {
        message: Some(message),
    }
}

/// The server inherits it.
fn allow_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}
