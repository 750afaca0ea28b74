//! A fleet: hosts with TPMs in software that show again and again what they are, and that come back all at once.

use std::{
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{self, Poll},
    time::{Duration, Instant},
};

use ::agent::link::{DialError, Link};
use anyhow::{Result, anyhow};
use edge::{
    Clock,
    grpc::Client,
    tls::{self, Expected, Identity},
};
use futures::{StreamExt, TryStreamExt, stream};
use proto::plastron::host::v1::{
    EndorsementKey, Finding, ImportHostsRequest, ListHostsRequest, NewHost, hosts_client::HostsClient,
};
use svid::SpiffeId;
use swtpm_tests::fleet::{Member, Standing};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use crate::{
    calls,
    measure::Plan,
    process::{cpu, memory},
    stage::Stage,
    work::megabytes,
};

/// The event log of the hosts.
pub(crate) const LOG: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../attest/testdata/eventlogs/guard-good-1.eventlog.bin"
);
/// Attestations at once, in the beginning.
const PARALLEL: usize = 32;
/// For everything that attestation leaves behind to end.
const SETTLE: Duration = Duration::from_secs(20);
/// Two rounds of each host, and a little more.
const WATCHED: Duration = Duration::from_secs(150);

/// What passed on connections, and what was asked. Clones count together.
#[derive(Clone, Default)]
struct Passed {
    bytes: Arc<AtomicU64>,
    questions: Arc<AtomicU64>,
}

/// A stream whose bytes are counted, both ways.
struct Counted<S> {
    stream: S,
    passed: Passed,
}

/// Hosts that follow the server.
type Following = Vec<(Member, JoinHandle<()>)>;

/// Measures a server with a fleet of so many `hosts`; in the end it is `away` for so long.
pub(crate) async fn run(binaries: &Path, plan: &Plan, hosts: usize, away: Duration) -> Result<()> {
    if !plan.wants("fleet") {
        return Ok(());
    }
    let mut stage = Stage::with_limits(binaries).await?;
    let server = stage.server.id();
    let idle = memory(server)?;
    let passed = Passed::default();
    let members = enrolled(&stage, hosts).await?;
    let begin = |member| begun(member, &stage, &passed);
    let following = stream::iter(members).map(begin).buffer_unordered(PARALLEL);
    let following = following
        .map_ok(|(member, following, _)| (member, following))
        .try_collect::<Following>()
        .await?;
    tokio::time::sleep(SETTLE).await;
    let more = megabytes(memory(server)?.saturating_sub(idle));
    println!(
        "{:34} {more:8.1} MB over idle for {hosts} (target 100)",
        "fleet, memory"
    );
    watch(server, &passed, &following).await?;
    let following = come_back(&stage, &passed, following).await?;
    outlast(&mut stage, &passed, following, away).await
}

/// How much the rounds cost.
async fn watch(server: u32, passed: &Passed, following: &Following) -> Result<()> {
    let (bytes, questions) = passed.now();
    let (before, begun) = (cpu(server)?, Instant::now());
    tokio::time::sleep(WATCHED).await;
    let (more_bytes, more_questions) = passed.now();
    let rounds = more_questions.saturating_sub(questions).max(1);
    let used = cpu(server)?.saturating_sub(before).as_secs_f64();
    println!(
        "{:34} {:8.2} % of a core (target 1), {:.0} µs each for {rounds} rounds",
        "fleet, rounds",
        used / begun.elapsed().as_secs_f64() * 100.0,
        used * 1e6 / f64::from(u32::try_from(rounds)?),
    );
    println!(
        "{:34} {:8} bytes each, both ways, with what HTTP/2 adds and its pings (target 700)",
        "fleet, rounds",
        more_bytes.saturating_sub(bytes) / rounds
    );
    anyhow::ensure!(
        following.iter().all(|(_, task)| !task.is_finished()),
        "a host lost its session"
    );
    Ok(())
}

/// The server is away for so long, and all come back.
async fn outlast(stage: &mut Stage, passed: &Passed, following: Following, away: Duration) -> Result<()> {
    stage.restart_server_after(away).await?;
    println!("{:34} {:8} s", "fleet, the server was away", away.as_secs());
    come_back(stage, passed, following).await?;
    let request = ListHostsRequest::default();
    let mut hosts = HostsClient::new(calls::local(&stage.socket()).await?);
    let listed = hosts.list_hosts(request).await?.into_inner().hosts;
    let verified = listed.iter().filter_map(|host| host.verdict.as_ref());
    let verified = verified
        .filter(|verdict| verdict.finding() == Finding::Verified)
        .count();
    println!(
        "{:34} {verified:8} of {} verified, the others quarantined or stale",
        "fleet, after that",
        listed.len()
    );
    Ok(())
}

/// All lose their connections, and come back.
async fn come_back(stage: &Stage, passed: &Passed, following: Following) -> Result<Following> {
    let (members, tasks): (Vec<_>, Vec<_>) = following.into_iter().unzip();
    tasks.iter().for_each(JoinHandle::abort);
    let begun_at = Instant::now();
    let returning = members.into_iter().map(|member| async {
        let (member, following, tries) = begun(member, stage, passed).await?;
        anyhow::Ok((member, following, tries, begun_at.elapsed()))
    });
    let back: Vec<_> = stream::iter(returning)
        .buffer_unordered(usize::MAX)
        .try_collect()
        .await?;
    let most = back.iter().map(|(.., took)| *took).max().unwrap_or_default();
    let tries: usize = back.iter().map(|(_, _, tries, _)| tries).sum();
    println!(
        "{:34} {:8.2} s until the last of {} is back (target 30), {tries} tries, none refused for good",
        "fleet, all come back",
        most.as_secs_f64(),
        back.len()
    );
    let standing = back
        .into_iter()
        .map(|(member, following, ..)| (member, following));
    Ok(standing.collect())
}

/// A host in its session, followed beside; and how often it tried.
async fn begun(
    mut member: Member,
    stage: &Stage,
    passed: &Passed,
) -> Result<(Member, JoinHandle<()>, usize)> {
    let (standing, tries) = member
        .stand(|identity| dial(stage.address(), identity, passed.clone()))
        .await
        .map_err(|fallen| anyhow!("a host was refused for good: {fallen:?}"))?;
    Ok((member, tokio::spawn(follow(standing, passed.clone())), tries))
}

async fn follow(standing: Standing, passed: Passed) {
    let questions = Arc::clone(&passed.questions);
    let fallen = standing
        .follow(move || {
            questions.fetch_add(1, Ordering::Relaxed);
        })
        .await;
    eprintln!("a host lost its session: {fallen:?}");
}

async fn enrolled(stage: &Stage, hosts: usize) -> Result<Vec<Member>> {
    let (members, hashes): (Vec<_>, Vec<_>) = (0..hosts).map(|_| Member::boot(Path::new(LOG))).unzip();
    let host = |(number, hash)| NewHost {
        name: format!("load-{number}"),
        endorsement_keys: vec![EndorsementKey {
            hash,
            ..EndorsementKey::default()
        }],
        ..NewHost::default()
    };
    let hosts = hashes.into_iter().enumerate().map(host).collect();
    HostsClient::new(calls::local(&stage.socket()).await?)
        .import_hosts(ImportHostsRequest {
            hosts,
            ..ImportHostsRequest::default()
        })
        .await?;
    Ok(members)
}

/// As an agent does, but counting.
async fn dial(address: (&str, u16), identity: Option<Identity>, passed: Passed) -> Result<Link, DialError> {
    let failed = |source| DialError::Handshake {
        host: address.0.into(),
        port: address.1,
        source,
    };
    let server =
        SpiffeId::parse("spiffe://example.org/spire/server").map_err(|_| DialError::Name("server".into()))?;
    let config = tls::client_config(Expected::Anyone(server), identity.as_ref(), Clock::system())?;
    let name = "localhost"
        .try_into()
        .map_err(|_| DialError::Name("localhost".into()))?;
    let tcp = TcpStream::connect(address).await.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    let stream = TlsConnector::from(config)
        .connect(name, tcp)
        .await
        .map_err(failed)?;
    let exporter = tls::exporter(stream.get_ref().1)?;
    let (client, driver) = Client::start(Counted { stream, passed }).await?;
    Ok(Link::of(client, exporter, driver))
}

impl Passed {
    /// Bytes and questions until now.
    fn now(&self) -> (u64, u64) {
        let [bytes, questions] = [&self.bytes, &self.questions].map(|count| count.load(Ordering::Relaxed));
        (bytes, questions)
    }

    fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.passed.count(buffer.filled().len().saturating_sub(before));
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(length)) = written {
            self.passed.count(length);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
