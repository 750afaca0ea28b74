//! The listeners: TLS over TCP, and the local socket.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use edge::{
    grpc::{Course, Limits, serve_until},
    local,
    metrics::Tally,
    tls,
};
use ipnet::IpNet;
use nix::sys::socket::{setsockopt, sockopt};
use svid::x509::X509Svid;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::{
    Connection,
    gate::Gate,
    handshake::Handshakes,
    limit,
    methods::Listener,
    proofs::Proofs,
    proxy::TrustedNetworks,
    shares::{Share, Shares},
};
use crate::meters::Meters;

/// How long a load balancer may take to say whose connection it is.
const ORIGIN_WITHIN: Duration = Duration::from_secs(10);
/// Most TCP connections at once; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 32_768;
/// Most TCP connections from one source. Generous: a rack sits behind one address.
const CONNECTIONS_A_SOURCE: usize = 8192;
/// Seconds of silence after which the kernel asks for a sign of life.
const PROBE_AFTER: u32 = 30;
/// Seconds until it asks again.
const PROBE_EVERY: u32 = 10;
/// How often it asks before the connection is broken.
const PROBES: u32 = 3;
/// Pause after a failure to accept: the process is out of file descriptors.
const BREATHE: Duration = Duration::from_millis(50);

/// What stands between a TCP connection and its first call.
#[derive(Clone)]
pub(super) struct Door {
    handshakes: Handshakes,
    proxies: TrustedNetworks,
    proofs: Proofs,
    shares: Shares,
    limited: Tally<1>,
    refusals: Tally<1>,
}

/// A connection whose handshake is over, and its place among those of its source.
type Entered = (TlsStream<TcpStream>, Arc<Connection>, Share);

impl Door {
    pub(super) fn new(handshakes: Handshakes, proxies: Vec<IpNet>, meters: &Meters) -> Self {
        Self {
            handshakes,
            proxies: TrustedNetworks::new(proxies),
            proofs: Proofs::default(),
            shares: Shares::new(CONNECTIONS_A_SOURCE, CONNECTIONS),
            limited: meters.limited.clone(),
            refusals: meters.refusals.clone(),
        }
    }

    /// Lets a connection from `peer` in, if whose it is has room for it and its handshake succeeds in time.
    async fn enter(self, mut stream: TcpStream, peer: SocketAddr) -> Option<Entered> {
        let address = self.origin(&mut stream, peer).await?;
        let Some(share) = self.shares.take(limit::source(address.ip())) else {
            self.limited.count(["connections"]);
            debug!(caller_addr = %address, "Connection closed: its source has too many");
            return None;
        };
        let (stream, connection) = self.handshake(stream, address).await?;
        Some((stream, connection, share))
    }

    async fn origin(&self, stream: &mut TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
        match timeout(ORIGIN_WITHIN, self.proxies.origin(stream, peer)).await {
            Ok(Ok(address)) => Some(address),
            Ok(Err(error)) => {
                self.refusals.count(["bad_proxy_header"]);
                warn!(caller_addr = %peer, error = %edge::Chain(&error), "Connection from a trusted network closed");
                None
            }
            Err(_) => {
                debug!(caller_addr = %peer, "PROXY header took too long");
                None
            }
        }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Option<(TlsStream<TcpStream>, Arc<Connection>)> {
        // Small answers are not to wait for more.
        let _slower = stream.set_nodelay(true);
        let _longer = probe(&stream);
        let stream = match self.handshakes.accept(stream).await {
            Ok(stream) => stream,
            Err(error) => {
                debug!(caller_addr = %address, error = %edge::Chain(&error), "Handshake failed");
                return None;
            }
        };
        let (_, session) = stream.get_ref();
        let exporter = tls::exporter(session).ok()?;
        // The handshake verified it; what it says is read once more.
        let leaf = session.peer_certificates().and_then(|chain| chain.first());
        let svid = leaf.and_then(|leaf| X509Svid::parse(leaf).ok());
        let connection = Connection::remote(address, svid, exporter, self.proofs.clone());
        Some((stream, Arc::new(connection)))
    }
}

/// Has the kernel look whether a silent peer's machine is still there: that wakes nobody here.
fn probe(stream: &TcpStream) -> nix::Result<()> {
    setsockopt(stream, sockopt::TcpKeepIdle, &PROBE_AFTER)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &PROBE_EVERY)?;
    setsockopt(stream, sockopt::TcpKeepCount, &PROBES)?;
    setsockopt(stream, sockopt::KeepAlive, &true)
}

/// Serves TLS behind `door` until `course` says so and every connection is drained.
pub(super) async fn tcp(listener: TcpListener, door: Door, gate: Gate, course: watch::Receiver<Course>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut stopped = course.clone();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            break;
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let (door, gate, course) = (door.clone(), gate.clone(), course.clone());
                    connections.spawn(async move {
                        // Boxed: what it takes is given back before the connection is held, maybe for weeks.
                        let entered = Box::pin(door.enter(stream, peer)).await;
                        if let Some((stream, connection, _share)) = entered {
                            run(stream, gate, connection, course).await;
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, "Connection not accepted");
                    tokio::time::sleep(BREATHE).await;
                }
            },
            Some(_ended) = connections.join_next() => {}
            () = end_of_serving(&mut stopped) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves the local socket until `course` says so and every connection is drained.
pub(super) async fn unix(listener: UnixListener, gate: Gate, course: watch::Receiver<Course>) {
    let mut connections = JoinSet::new();
    let mut stopped = course.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve_unix(stream, gate.clone(), course.clone()))),
                Err(error) => {
                    warn!(%error, "Local connection not accepted");
                    tokio::time::sleep(BREATHE).await;
                }
            },
            Some(_ended) = connections.join_next() => {}
            () = end_of_serving(&mut stopped) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve_unix(stream: UnixStream, gate: Gate, course: watch::Receiver<Course>) {
    match local::peer(&stream) {
        Ok(peer) => {
            let connection = Arc::new(Connection::local(&peer));
            run(local::Stream::new(stream), gate, connection, course).await;
        }
        Err(error) => warn!(%error, "Local caller could not be identified"),
    }
}

async fn end_of_serving(course: &mut watch::Receiver<Course>) {
    // The sender is gone only when the server is.
    let _gone = course.wait_for(|course| *course != Course::Serve).await;
}

fn run<I>(
    io: I,
    gate: Gate,
    connection: Arc<Connection>,
    course: watch::Receiver<Course>,
) -> impl Future<Output = ()> + Send
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (limits, shared) = (Limits::default(), Arc::clone(&connection));
    let retired = Arc::clone(&connection);
    let retirement = async move {
        match retired.listener() {
            Listener::Local => std::future::pending().await,
            Listener::Tcp => retired.retirement().await,
        }
    };
    let served = serve_until(io, gate, shared, limits, course, retirement);
    async move {
        if let Err(error) = served.await {
            debug!(caller_addr = connection.address_text(), error = %edge::Chain(&error), "Connection broke");
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;

    use super::*;

    #[tokio::test]
    async fn a_machine_that_is_gone_is_found_out_within_a_minute() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        probe(&stream).unwrap();
        assert!(getsockopt(&stream, sockopt::KeepAlive).unwrap());
        let [idle, interval, probes] = [
            getsockopt(&stream, sockopt::TcpKeepIdle),
            getsockopt(&stream, sockopt::TcpKeepInterval),
            getsockopt(&stream, sockopt::TcpKeepCount),
        ]
        .map(Result::unwrap);
        assert_eq!(idle + interval * probes, 60);
    }
}
