//! What is known of a connection.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use edge::{local, tls::Exporter};
use svid::x509::X509Svid;
use tokio::{sync::Notify, time::sleep};

use super::{
    limit,
    methods::Listener,
    proofs::{Proof, Proofs},
};
use crate::authorize::Presented;

/// One connection: shared by all calls on it.
#[derive(Debug)]
pub struct Connection {
    presented: Presented,
    /// What it counts for since the host proved itself on it, until it does so elsewhere.
    proven: OnceLock<Proven>,
    proofs: Proofs,
    address: Option<SocketAddr>,
    binding: Option<Binding>,
    /// Whether a call was let through.
    used: AtomicBool,
    /// Agent sessions on it.
    sessions: AtomicUsize,
    /// Told when the last of them ended.
    free: Notify,
    /// Whether somebody attests on it now.
    attesting: AtomicBool,
    /// Whether a session is being opened on it now.
    opening: AtomicBool,
}

/// An agent session on a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct OnConnection(Arc<Connection>);

/// An attestation on a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Attesting(Arc<Connection>);

/// A session that is being opened on a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Opening(Arc<Connection>);

/// That the host proved itself on a connection.
#[derive(Debug)]
struct Proven {
    presented: Presented,
    proof: Proof,
    /// SHA-256 of what it said first, for attestors whose hosts give further evidence.
    hello: Option<[u8; 32]>,
}

#[derive(Debug)]
struct Binding {
    exporter: Exporter,
    established: Instant,
    taken: AtomicBool,
}

/// Evidence can't be bound to this connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotBound {
    /// An attestation was tried on it before.
    #[error("a connection carries one attestation; dial a new one")]
    AlreadyUsed,
    /// It is local.
    #[error("attestation needs a TLS connection")]
    NoExporter,
    /// The first message came too late after the handshake.
    #[error("evidence arrived more than {} s after the handshake; prepare it before dialing", WITHIN.as_secs())]
    TooLate,
}

/// How soon a connection has to be used.
const USED_WITHIN: Duration = Duration::from_secs(15);
/// How soon after that whoever showed no SVID has to have proven itself, or to be about to: nothing else takes longer.
const STANDS_WITHIN: Duration = Duration::from_secs(15);
/// How old a connection gets after that, where no agent session keeps it.
const MAX_AGE: Duration = Duration::from_secs(180);
/// How soon after the handshake evidence has to arrive.
const WITHIN: Duration = Duration::from_secs(10);

impl Connection {
    /// A process on this host.
    #[must_use]
    pub fn local(peer: &local::Peer) -> Self {
        Self {
            presented: Presented::Local {
                uid: peer.uid,
                pid: peer.pid,
            },
            proven: OnceLock::new(),
            proofs: Proofs::default(),
            address: None,
            binding: None,
            used: AtomicBool::new(false),
            sessions: AtomicUsize::new(0),
            free: Notify::new(),
            attesting: AtomicBool::new(false),
            opening: AtomicBool::new(false),
        }
    }

    /// A TLS connection whose handshake is just over.
    #[must_use]
    pub fn remote(address: SocketAddr, svid: Option<X509Svid>, exporter: Exporter, proofs: Proofs) -> Self {
        Self {
            presented: svid.map_or(Presented::Anonymous, Presented::Svid),
            proven: OnceLock::new(),
            proofs,
            address: Some(address),
            binding: Some(Binding {
                exporter,
                established: Instant::now(),
                taken: AtomicBool::new(false),
            }),
            used: AtomicBool::new(false),
            sessions: AtomicUsize::new(0),
            free: Notify::new(),
            attesting: AtomicBool::new(false),
            opening: AtomicBool::new(false),
        }
    }

    /// Notes that a call on it was let through.
    pub(super) fn note_use(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Notes an agent session: it keeps the connection.
    pub(super) fn hold(self: &Arc<Self>) -> OnConnection {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        OnConnection(Arc::clone(self))
    }

    /// Begins an attestation; `None` while there is another.
    pub(super) fn begin_attestation(self: &Arc<Self>) -> Option<Attesting> {
        let is_first = !self.attesting.swap(true, Ordering::AcqRel);
        is_first.then(|| Attesting(Arc::clone(self)))
    }

    /// Begins to open a session; `None` while another is opened.
    pub(super) fn begin_opening(self: &Arc<Self>) -> Option<Opening> {
        let is_first = !self.opening.swap(true, Ordering::AcqRel);
        is_first.then(|| Opening(Arc::clone(self)))
    }

    /// Waits until it is no longer worth its place: nobody made a call that was let through, or it is old and no agent
    /// session keeps it. Clients of SPIRE expect a connection to be closed after three minutes.
    pub(super) async fn retirement(&self) {
        sleep(USED_WITHIN).await;
        if !self.used.load(Ordering::Relaxed) {
            return;
        }
        sleep(STANDS_WITHIN).await;
        let is_nobodys = matches!(self.presented(), Presented::Anonymous);
        if is_nobodys && !self.attesting.load(Ordering::Acquire) {
            return;
        }
        sleep(MAX_AGE.saturating_sub(STANDS_WITHIN)).await;
        // One that ended before left its word.
        while self.sessions.load(Ordering::Acquire) > 0 {
            self.free.notified().await;
        }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn presented(&self) -> &Presented {
        match self.proven.get() {
            Some(proven) if proven.proof.is_current() => &proven.presented,
            _ => &self.presented,
        }
    }

    /// Notes that the host of the agent with `svid` proved itself on this connection: from now on the other end is
    /// that agent. Evidence is taken once, so there is no second proof to note. `hello` is SHA-256 of what the host
    /// said first, where it gives further evidence.
    pub fn prove(&self, svid: X509Svid, hello: Option<[u8; 32]>) {
        let proof = self.proofs.note(svid.id.shared_path());
        let _first = self.proven.set(Proven {
            presented: Presented::Proven(svid),
            proof,
            hello,
        });
    }

    /// What further evidence on it is bound to: its exporter, and SHA-256 of what the host said first.
    pub(super) fn session_binding(&self) -> Option<(Exporter, [u8; 32])> {
        let hello = self.proven.get()?.hello?;
        Some((self.binding.as_ref()?.exporter, hello))
    }

    /// Where it came in.
    pub(super) fn listener(&self) -> Listener {
        match self.presented {
            Presented::Local { .. } => Listener::Local,
            Presented::Anonymous | Presented::Proven(_) | Presented::Svid(_) => Listener::Tcp,
        }
    }

    /// From where, if not from this host.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// From where, as far as limits tell sources apart; `None` if from this host.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        self.address.map(|address| limit::source(address.ip()))
    }

    /// From where, for logs and the audit trail.
    #[must_use]
    pub fn address_text(&self) -> String {
        self.address
            .map_or_else(|| "local".into(), |address| address.to_string())
    }

    /// Takes the exporter; whoever comes second, or late, gets none. `arrived` is when the evidence came in.
    ///
    /// # Errors
    ///
    /// Evidence can't be bound to this connection.
    pub fn take_exporter(&self, arrived: Instant) -> Result<Exporter, NotBound> {
        let binding = self.binding.as_ref().ok_or(NotBound::NoExporter)?;
        if binding.taken.swap(true, Ordering::AcqRel) {
            return Err(NotBound::AlreadyUsed);
        }
        if arrived.saturating_duration_since(binding.established) > WITHIN {
            return Err(NotBound::TooLate);
        }
        Ok(binding.exporter)
    }
}

impl Drop for OnConnection {
    fn drop(&mut self) {
        if self.0.sessions.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.free.notify_one();
        }
    }
}

impl Drop for Attesting {
    fn drop(&mut self) {
        self.0.attesting.store(false, Ordering::Release);
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.opening.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection::remote(([127, 0, 0, 1], 1).into(), None, [7; 32], Proofs::default())
    }

    #[test]
    fn the_exporter_is_given_once() {
        let connection = connection();
        assert_eq!(connection.take_exporter(Instant::now()), Ok([7; 32]));
        assert_eq!(
            connection.take_exporter(Instant::now()),
            Err(NotBound::AlreadyUsed)
        );
    }

    #[test]
    fn late_evidence_uses_the_connection_up() {
        let connection = connection();
        let late = Instant::now() + WITHIN + Duration::from_secs(1);
        assert_eq!(connection.take_exporter(late), Err(NotBound::TooLate));
        assert_eq!(
            connection.take_exporter(Instant::now()),
            Err(NotBound::AlreadyUsed)
        );
    }

    #[test]
    fn a_local_socket_binds_nothing() {
        let peer = local::Peer {
            pid: 1,
            uid: 0,
            gid: 0,
            pidfd: None,
        };
        assert_eq!(
            Connection::local(&peer).take_exporter(Instant::now()),
            Err(NotBound::NoExporter)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_nobody_uses_is_retired_soon() {
        let begun = tokio::time::Instant::now();
        connection().retirement().await;
        assert_eq!(begun.elapsed(), USED_WITHIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nobody_proves_itself_is_retired_soon() {
        let connection = Arc::new(connection());
        connection.note_use();
        let begun = tokio::time::Instant::now();
        connection.retirement().await;
        assert_eq!(begun.elapsed(), USED_WITHIN + STANDS_WITHIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_used_connection_is_retired_when_it_is_old_and_no_session_keeps_it() {
        let connection = Arc::new(connection());
        connection.note_use();
        let _attesting = connection.begin_attestation().unwrap();
        let begun = tokio::time::Instant::now();
        connection.retirement().await;
        assert_eq!(begun.elapsed(), USED_WITHIN + MAX_AGE);

        let session = connection.hold();
        let begun = tokio::time::Instant::now();
        let ending = async {
            sleep(MAX_AGE * 10).await;
            drop(session);
        };
        tokio::join!(connection.retirement(), ending);
        assert!(begun.elapsed() >= MAX_AGE * 10);
    }

    #[test]
    fn one_session_is_opened_at_a_time() {
        let connection = Arc::new(connection());
        let first = connection.begin_opening().unwrap();
        assert!(connection.begin_opening().is_none());
        drop(first);
        assert!(connection.begin_opening().is_some());
    }

    #[test]
    fn one_attests_at_a_time() {
        let connection = Arc::new(connection());
        let first = connection.begin_attestation().unwrap();
        assert!(connection.begin_attestation().is_none());
        drop(first);
        assert!(connection.begin_attestation().is_some());
    }
}
