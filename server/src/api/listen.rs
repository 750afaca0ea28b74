//! The listeners: TLS over TCP, and the local socket.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use edge::{
    grpc::{Course, Limits, serve, serve_until},
    local,
    metrics::Tally,
    tls,
};
use rustls::ServerConfig;
use svid::x509::X509Svid;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, warn};

use super::{Connection, gate::Gate, limit, proofs::Proofs, shares::Shares};

/// How long a handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Most TCP connections at once; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 32_768;
/// Most TCP connections from one source. Generous: a rack sits behind one address.
const CONNECTIONS_A_SOURCE: usize = 8192;
/// Pause after a failure to accept: the process is out of file descriptors.
const BREATHE: Duration = Duration::from_millis(50);

/// Serves TLS until `course` says so and every connection is drained.
pub(super) async fn tcp(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    gate: Gate,
    limited: Tally<1>,
    course: watch::Receiver<Course>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let acceptor = TlsAcceptor::from(tls);
    let proofs = Proofs::default();
    let shares = Shares::new(CONNECTIONS_A_SOURCE, CONNECTIONS);
    let mut connections = JoinSet::new();
    let mut stopped = course.clone();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            break;
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let Some(share) = shares.take(limit::source(address.ip())) else {
                        limited.count(["connections"]);
                        debug!(caller_addr = %address, "Connection closed: its source has too many");
                        continue;
                    };
                    let handshake = handshake(stream, address, acceptor.clone(), proofs.clone());
                    let (gate, course) = (gate.clone(), course.clone());
                    let serving = async move {
                        if let Some((stream, connection)) = handshake.await {
                            run(stream, gate, connection, course).await;
                        }
                        drop(share);
                    };
                    connections.spawn(async move {
                        serving.await;
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

async fn handshake(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    proofs: Proofs,
) -> Option<(TlsStream<TcpStream>, Arc<Connection>)> {
    // Small answers are not to wait for more.
    let _slower = stream.set_nodelay(true);
    let stream = match timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let error = tls::in_our_words(error);
            debug!(caller_addr = %address, error = %edge::Chain(&error), "Handshake failed");
            return None;
        }
        Err(_) => {
            debug!(caller_addr = %address, "Handshake took too long");
            return None;
        }
    };
    let (_, session) = stream.get_ref();
    let exporter = tls::exporter(session).ok()?;
    // The handshake verified it; what it says is read once more.
    let leaf = session.peer_certificates().and_then(|chain| chain.first());
    let svid = leaf.and_then(|leaf| X509Svid::parse(leaf).ok());
    let connection = Arc::new(Connection::remote(address, svid, exporter, proofs));
    Some((stream, connection))
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

async fn run<I>(io: I, gate: Gate, connection: Arc<Connection>, course: watch::Receiver<Course>)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (limits, shared) = (Limits::default(), Arc::clone(&connection));
    let served = if connection.address().is_some() {
        let retirement = connection.retirement();
        serve_until(io, gate, shared, limits, course, retirement).await
    } else {
        serve(io, gate, shared, limits, course).await
    };
    if let Err(error) = served {
        debug!(caller_addr = connection.address_text(), error = %edge::Chain(&error), "Connection broke");
    }
}
