//! The TLS handshake. What of it is dear waits in turn: where thousands come back at once, those whose turn it is get
//! through in time, while if all went on together none would. So newcomers never take all processors from what costs
//! little: sessions, health, administration.

use std::{future::Future, io, os::fd::AsRawFd, sync::Arc, time::Duration};

use edge::{metrics::Tally, tls};
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};
use rustls::{ServerConfig, server::Acceptor};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

/// Makes handshakes. Clones share the turns.
#[derive(Clone)]
pub(super) struct Handshakes {
    config: Arc<ServerConfig>,
    /// One for each handshake whose keys are agreed upon and signed just now.
    turns: Arc<Semaphore>,
    limited: Tally<1>,
}

/// How long a peer may take for its first words, and again for its last.
const PEER_WITHIN: Duration = Duration::from_secs(10);
/// How long a handshake waits for its turn. Agents wait 10 s for all of it: who would get the turn later is gone before
/// it is of use.
const TURN_WITHIN: Duration = Duration::from_secs(5);
/// Turns for each processor: so many that handshakes get their share beside everything else that is ready to run, so
/// few that the others do not wait for them.
const TURNS: usize = 16;

impl Handshakes {
    /// Makes them as `config` says, on so many `processors`; counts in `limited` who waits in vain.
    pub(super) fn new(config: Arc<ServerConfig>, processors: usize, limited: Tally<1>) -> Self {
        Self {
            config,
            turns: Arc::new(Semaphore::new(processors.saturating_mul(TURNS))),
            limited,
        }
    }

    /// Makes one.
    ///
    /// # Errors
    ///
    /// It failed, or took too long.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let hello = within(LazyConfigAcceptor::new(Acceptor::default(), stream)).await?;
        let turn = self.turn().await?;
        if has_left(&hello.io) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        // This is what is dear, and nothing in it waits.
        let rest = hello.into_stream(Arc::clone(&self.config));
        drop(turn);
        within(rest).await.map_err(tls::in_our_words)
    }

    async fn turn(&self) -> io::Result<SemaphorePermit<'_>> {
        match timeout(TURN_WITHIN, self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => {
                self.limited.count(["handshakes"]);
                Err(too_late("more handshakes are waiting than the server gets to"))
            }
        }
    }
}

async fn within<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let done = timeout(PEER_WITHIN, step).await;
    done.unwrap_or_else(|_| Err(too_late("peer took more than 10 s")))
}

/// Whether the other end has hung up: a handshake with it would be for nothing.
fn has_left(stream: &TcpStream) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    match recv(stream.as_raw_fd(), &mut [0], flags) {
        Ok(length) => length == 0,
        Err(error) => error != Errno::EAGAIN,
    }
}

fn too_late(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

#[cfg(test)]
mod tests {
    use edge::{
        Clock,
        tls::{Expected, client_config, server_config},
    };
    use tokio::{net::TcpListener, sync::watch, time::Instant};
    use tokio_rustls::TlsConnector;

    use super::*;

    fn handshakes() -> Handshakes {
        let (_, certificate) = watch::channel(None);
        let config = server_config(certificate, Arc::new(|_| None), Clock::system()).unwrap();
        Handshakes::new(config, 1, Tally::default())
    }

    async fn all_turns(handshakes: &Handshakes) -> Vec<SemaphorePermit<'_>> {
        let mut taken = Vec::new();
        for _ in 0..TURNS {
            taken.push(handshakes.turn().await.unwrap());
        }
        taken
    }

    /// What comes of the handshake with a client that hangs up, or not, while it waits for its turn.
    async fn outcome(hangs_up: bool) -> io::ErrorKind {
        let handshakes = handshakes();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let expected = Expected::Anyone("spiffe://example.org/spire/server".parse().unwrap());
        let config = client_config(expected, None, Clock::system()).unwrap();
        let client = tokio::spawn(async move {
            let tcp = TcpStream::connect(address).await.unwrap();
            let name = "localhost".try_into().unwrap();
            TlsConnector::from(config).connect(name, tcp).await.map(drop)
        });
        let taken = all_turns(&handshakes).await;
        let (stream, _) = listener.accept().await.unwrap();
        assert_eq!(
            stream.peek(&mut [0]).await.unwrap(),
            1,
            "its first words are there"
        );
        let leaving = async {
            if hangs_up {
                client.abort();
                assert!(client.await.unwrap_err().is_cancelled());
            }
            drop(taken);
        };
        let (made, ()) = tokio::join!(handshakes.accept(stream), leaving);
        made.unwrap_err().kind()
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_waited_for_in_vain_only_so_long() {
        let handshakes = handshakes();
        let mut taken = all_turns(&handshakes).await;
        let begun = Instant::now();
        let refused = handshakes.turn().await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), TURN_WITHIN);
        taken.pop();
        assert!(handshakes.turn().await.is_ok());
    }

    #[tokio::test]
    async fn whoever_hung_up_meanwhile_costs_nothing_more() {
        assert_eq!(outcome(true).await, io::ErrorKind::ConnectionAborted);
        // This server has no certificate to show.
        assert_eq!(outcome(false).await, io::ErrorKind::InvalidData);
    }
}
