//! A connection to the server: TLS, then gRPC. It is dialed once and never redials; when it ends, whoever uses it
//! learns so.

use std::{future::Future, io, pin::Pin, time::Duration};

use edge::{
    Clock,
    grpc::{Client, ConnectError},
    tls::{self, Expected, Exporter, Identity},
};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, runtime::Handle, sync::oneshot, task::spawn_blocking, time::timeout};
use tokio_rustls::TlsConnector;

/// How long each step of dialing may take.
const STEP_WITHIN: Duration = Duration::from_secs(10);

/// Where the server is.
#[derive(Clone, Debug)]
pub struct Address {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A connection to the server.
pub struct Link {
    /// Calls over it.
    pub client: Client,
    /// What evidence is bound to.
    pub exporter: Exporter,
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// The server can't be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The other end speaks no HTTP/2.
    #[error(transparent)]
    Grpc(#[from] ConnectError),
    /// The TLS handshake failed.
    #[error("cannot establish TLS with {host}:{port}")]
    Handshake {
        /// Whom.
        host: String,
        /// On which port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The name is neither a name nor an address.
    #[error("server_address `{0}` is neither a host name nor an address")]
    Name(String),
    /// Nobody answers.
    #[error(
        "cannot connect to {host}:{port}; is the server up, and do server_address and server_port name it?"
    )]
    Tcp {
        /// Whom.
        host: String,
        /// On which port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// TLS can't be set up at this end.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

/// The connection ended while something was under way on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("connection to the server was lost")]
pub struct Lost;

impl Link {
    /// Dials `address`, where `expected` must answer; as `identity` where there is one.
    ///
    /// # Errors
    ///
    /// The server can't be reached, or is not the expected one.
    pub async fn dial(
        address: &Address,
        expected: Expected,
        identity: Option<&Identity>,
        clock: Clock,
    ) -> Result<Self, DialError> {
        let config = tls::client_config(expected, identity, clock)?;
        let name =
            ServerName::try_from(address.host.clone()).map_err(|_| DialError::Name(address.host.clone()))?;
        let tcp = TcpStream::connect((address.host.as_str(), address.port));
        let tcp = within(tcp).await.map_err(|source| address.tcp(source))?;
        // Small messages are not to wait for more.
        let _slower = tcp.set_nodelay(true);
        let shaking_hands = TlsConnector::from(config).connect(name, tcp);
        let stream = if identity.is_some_and(Identity::blocks) {
            within(aside(shaking_hands)).await
        } else {
            within(shaking_hands).await
        };
        let stream = stream.map_err(|source| address.handshake(source))?;
        let exporter = tls::exporter(stream.get_ref().1)?;
        let (client, driver) = Client::start(stream).await?;
        Ok(Self {
            client,
            exporter,
            driver: Box::pin(driver),
        })
    }

    /// A connection that was made otherwise.
    #[must_use]
    pub fn of(client: Client, exporter: Exporter, driver: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            client,
            exporter,
            driver: Box::pin(driver),
        }
    }

    /// Has `act` happen while the connection is driven.
    ///
    /// # Errors
    ///
    /// The connection ended before.
    pub async fn during<T>(&mut self, act: impl Future<Output = T>) -> Result<T, Lost> {
        tokio::select! {
            biased;
            outcome = act => Ok(outcome),
            () = &mut self.driver => Err(Lost),
        }
    }
}

impl Address {
    fn tcp(&self, source: io::Error) -> DialError {
        DialError::Tcp {
            host: self.host.clone(),
            port: self.port,
            source,
        }
    }

    fn handshake(&self, error: io::Error) -> DialError {
        DialError::Handshake {
            host: self.host.clone(),
            port: self.port,
            source: tls::in_our_words(error),
        }
    }
}

async fn within<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(STEP_WITHIN, step).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s")),
    }
}

/// Has a step happen on a thread that may block: a key in the TPM signs within it. The thread goes on for no longer than
/// somebody waits, but for a signature that is under way. The step has no timers: they panic when the runtime ends.
async fn aside<T: Send + 'static>(
    step: impl Future<Output = io::Result<T>> + Send + 'static,
) -> io::Result<T> {
    let (waiting, nobody_waits) = oneshot::channel::<()>();
    let runtime = Handle::current();
    let done = spawn_blocking(move || {
        runtime.block_on(async {
            tokio::select! {
                biased;
                _gone = nobody_waits => Err(io::ErrorKind::Interrupted.into()),
                outcome = step => outcome,
            }
        })
    })
    .await;
    drop(waiting);
    done.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_step_that_nobody_waits_for_ends() {
        let (end, ended) = mpsc::channel::<()>();
        let step = async move {
            let _end = end;
            std::future::pending::<io::Result<()>>().await
        };
        assert!(aside(step).now_or_never().is_none());
        // It says nothing; it is gone.
        let gone = spawn_blocking(move || ended.recv()).await;
        assert!(gone.unwrap().is_err());
    }
}
