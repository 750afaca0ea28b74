//! One message on one connection.

use std::{io, pin::pin, time::Duration};

use aws_lc_rs::hmac;
use http::{
    Request, StatusCode,
    header::{CONTENT_TYPE, HOST, USER_AGENT},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use super::Poster;

/// A message did not arrive, as far as anybody knows.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The listener can't be reached.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// What it says is no HTTP.
    #[error("the connection failed")]
    Http(#[from] hyper::Error),
    /// It takes too long.
    #[error("no answer within {} s", WITHIN.as_secs())]
    Late,
    /// It does not want it.
    #[error("it answered {0}")]
    Refused(StatusCode),
    /// The URL makes no request.
    #[error("cannot make a request")]
    Request(#[from] http::Error),
    /// It is not who it should be.
    #[error("TLS handshake failed")]
    Tls(#[source] io::Error),
}

/// How long a listener may take, to be reached and to answer.
const WITHIN: Duration = Duration::from_secs(10);
/// Of the refusals that are the sender's fault, those that pass.
const PASSING: [StatusCode; 3] = [
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::TOO_EARLY,
    StatusCode::TOO_MANY_REQUESTS,
];
/// HMAC-SHA256 over the body, in lower-case hex.
const SIGNATURE: &str = "plastron-signature";

impl PostError {
    /// Whether the same message is refused the next time, too: the listener understood it, and does not want it.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Refused(status) => status.is_client_error() && !PASSING.contains(status),
            _ => false,
        }
    }
}

impl Poster {
    /// Where messages go, without their path.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.to_string()
    }

    /// Sends a message in JSON: it arrived if the listener answers with a status of success.
    ///
    /// # Errors
    ///
    /// It did not arrive, or nobody knows.
    pub async fn post(&self, body: String) -> Result<(), PostError> {
        timeout(WITHIN, self.send(body))
            .await
            .unwrap_or(Err(PostError::Late))
    }

    async fn send(&self, body: String) -> Result<(), PostError> {
        let tcp = TcpStream::connect((self.url.host.as_str(), self.url.port)).await;
        let tcp = tcp.map_err(PostError::Connect)?;
        let Some((connector, name)) = &self.tls else {
            return self.exchange(tcp, body).await;
        };
        let stream = connector.connect(name.clone(), tcp).await;
        self.exchange(stream.map_err(PostError::Tls)?, body).await
    }

    async fn exchange<S>(&self, stream: S, body: String) -> Result<(), PostError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let request = self.request(body)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut answer = pin!(sender.send_request(request));
        let answer = tokio::select! {
            answer = &mut answer => answer,
            // The answer may have come before the end, which says nothing more.
            _ended = connection => answer.await,
        };
        let status = answer?.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(PostError::Refused(status))
        }
    }

    fn request(&self, body: String) -> Result<Request<String>, PostError> {
        let signature = hmac::sign(&self.key, body.as_bytes());
        let digits: String = signature
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let request = Request::post(&self.url.target)
            .header(HOST, &self.url.authority)
            .header(USER_AGENT, concat!("plastron/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header(SIGNATURE, format!("sha256={digits}"));
        Ok(request.body(body)?)
    }
}
