//! Serving one connection.

use std::{convert::Infallible, future::Future, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tonic::body::Body;
use tower::Service;

/// What one connection may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls and streams at once.
    pub concurrent_streams: u32,
    /// Bytes of request headers.
    pub header_list_size: u32,
    /// Silence after which a ping is sent. Each wakes a process that may hold thousands of connections.
    pub keep_alive: Duration,
    /// How long a ping may stay unanswered before the connection is given up.
    pub keep_alive_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_streams: 256,
            header_list_size: 16 * 1024,
            keep_alive: Duration::from_secs(120),
            keep_alive_timeout: Duration::from_secs(30),
        }
    }
}

/// How long calls on a retired connection may take.
const FINISH_WITHIN: Duration = Duration::from_secs(60);

/// What is to become of connections.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Course {
    /// They are cut.
    Cut,
    /// GOAWAY: no new calls, those under way may finish.
    Drain,
    /// They are served.
    #[default]
    Serve,
}

/// Serves `service` on `io` until the peer hangs up or `course` says so. Each request carries `connection` as an
/// extension, an `Arc<C>`. Thousands may be held for weeks, so the future takes little.
///
/// # Errors
///
/// The connection broke, or the peer does not speak HTTP/2.
pub fn serve<I, C, S>(
    io: I,
    service: S,
    connection: Arc<C>,
    limits: Limits,
    course: watch::Receiver<Course>,
) -> impl Future<Output = Result<(), hyper::Error>> + Send
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    C: Send + Sync + 'static,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let never = std::future::pending();
    serve_until(io, service, connection, limits, course, never)
}

/// As [`serve`]; when `retirement` comes, there are no new calls, and those under way have a minute.
///
/// # Errors
///
/// As [`serve`].
pub fn serve_until<I, C, S>(
    io: I,
    service: S,
    connection: Arc<C>,
    limits: Limits,
    mut course: watch::Receiver<Course>,
    retirement: impl Future<Output = ()> + Send,
) -> impl Future<Output = Result<(), hyper::Error>> + Send
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    C: Send + Sync + 'static,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&connection));
        service.clone().call(request.map(Body::new))
    });
    // What an async function is given, it holds twice: the large parts are boxed before.
    let mut serving = Box::pin(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.concurrent_streams)
            .max_header_list_size(limits.header_list_size)
            .keep_alive_interval(limits.keep_alive)
            .keep_alive_timeout(limits.keep_alive_timeout)
            .serve_connection(TokioIo::new(io), service),
    );
    async move {
        let mut retirement = pin!(retirement);
        let mut cut_at: Option<tokio::time::Instant> = None;
        loop {
            let cut = async {
                match cut_at {
                    Some(cut_at) => tokio::time::sleep_until(cut_at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = &mut serving => return ended,
                () = cut => return Ok(()),
                () = &mut retirement, if cut_at.is_none() => {
                    serving.as_mut().graceful_shutdown();
                    cut_at = Some(tokio::time::Instant::now() + FINISH_WITHIN);
                }
                Ok(()) = course.changed() => match *course.borrow_and_update() {
                    Course::Cut => return Ok(()),
                    Course::Drain => serving.as_mut().graceful_shutdown(),
                    Course::Serve => {}
                },
            }
        }
    }
}
