//! What is known of a connection.

use std::{
    net::SocketAddr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use edge::{local, tls::Exporter};
use svid::x509::X509Svid;

use super::methods::Listener;
use crate::authorize::Presented;

/// One connection: shared by all calls on it.
#[derive(Debug)]
pub struct Connection {
    presented: Presented,
    /// What it counts for since the host proved itself on it.
    proven: OnceLock<Presented>,
    address: Option<SocketAddr>,
    binding: Option<Binding>,
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
            address: None,
            binding: None,
        }
    }

    /// A TLS connection whose handshake is just over.
    #[must_use]
    pub fn remote(address: SocketAddr, svid: Option<X509Svid>, exporter: Exporter) -> Self {
        Self {
            presented: svid.map_or(Presented::Anonymous, Presented::Svid),
            proven: OnceLock::new(),
            address: Some(address),
            binding: Some(Binding {
                exporter,
                established: Instant::now(),
                taken: AtomicBool::new(false),
            }),
        }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn presented(&self) -> &Presented {
        self.proven.get().unwrap_or(&self.presented)
    }

    /// Notes that the host of the agent with `svid` proved itself on this connection: from now on the other end is
    /// that agent. Evidence is taken once, so there is no second proof to note.
    pub fn prove(&self, svid: X509Svid) {
        let _first = self.proven.set(Presented::Proven(svid));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection::remote(([127, 0, 0, 1], 1).into(), None, [7; 32])
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
}
