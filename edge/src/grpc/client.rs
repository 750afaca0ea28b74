//! Calling over one connection.

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};
use tonic::body::Body;
use tower::Service;

/// Calls over one connection; clones share it. When the connection ends, every call fails.
#[derive(Clone, Debug)]
pub struct Client {
    send: SendRequest<Body>,
}

/// A connection can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The other end does not speak HTTP/2.
    #[error("peer does not speak HTTP/2")]
    Handshake(#[source] hyper::Error),
    /// Nobody listens on the socket.
    #[error("cannot connect to `{}`; does the service run, and is this its `socket_path`?", path.display())]
    Socket {
        /// Which socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Client {
    /// Starts HTTP/2 on `io`. The future that comes back drives the connection and has to be polled until it
    /// ends; it ends with the connection.
    ///
    /// # Errors
    ///
    /// The other end does not speak HTTP/2.
    pub async fn start<I>(io: I) -> Result<(Self, impl Future<Output = ()> + Send), ConnectError>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (send, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(ANSWERED_WITHIN)
            .handshake(TokioIo::new(io))
            .await
            .map_err(ConnectError::Handshake)?;
        let drive = async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "Connection ended");
            }
        };
        Ok((Self { send }, drive))
    }
}

/// Connects to a local socket.
///
/// # Errors
///
/// Nobody listens there, or does not speak HTTP/2.
pub async fn connect(path: &Path) -> Result<(Client, impl Future<Output = ()> + Send + use<>), ConnectError> {
    let failed = |source| ConnectError::Socket {
        path: path.into(),
        source,
    };
    Client::start(UnixStream::connect(path).await.map_err(failed)?).await
}

impl Service<Request<Body>> for Client {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.send.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // HTTP/2 wants an authority; what stands there plays no part in whom we talk to.
        if request.uri().authority().is_none() {
            let mut parts = request.uri().clone().into_parts();
            parts.scheme = Some(http::uri::Scheme::HTTP);
            parts.authority = Some(http::uri::Authority::from_static("plastron"));
            if let Ok(uri) = http::Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
        Box::pin(self.send.send_request(request))
    }
}

/// Silence after which a ping is sent: each wakes the server, which may have thousands of connections.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long a ping may stay unanswered before the connection counts as dead.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
