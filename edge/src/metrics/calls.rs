//! gRPC calls by method: how many ended with which code, and how long they took.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::{Frame, SizeHint};
use proto::METHODS;
use tonic::{Code, Status, body::Body};

use super::{Histogram, Kind, Registry};

/// The calls of all methods. Methods that do not exist are counted as one, `unknown`.
#[derive(Debug, Default)]
pub struct Calls {
    /// By path, in order.
    methods: Vec<(&'static str, Method)>,
    unknown: Method,
}

#[derive(Debug, Default)]
struct Method {
    codes: [AtomicU64; CODES.len()],
    seconds: Histogram,
}

/// A call that is under way. It is counted when it ends, or is dropped.
#[derive(Debug)]
pub struct Call {
    calls: Arc<Calls>,
    /// Where its method is; outside, if it is unknown.
    method: usize,
    begun: Instant,
    code: Code,
}

/// Codes by number, as gRPC writes them.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
const UNKNOWN: &str = "unknown";

impl Calls {
    /// Counts the calls of those of our methods whose path `serves` takes.
    #[must_use]
    pub fn register(registry: &mut Registry, serves: impl Fn(&str) -> bool) -> Arc<Self> {
        let paths = METHODS.iter().filter(|path| serves(path));
        let methods = paths.map(|path| (*path, Method::default()));
        let calls = Arc::new(Self {
            methods: methods.collect(),
            unknown: Method::default(),
        });
        let (counted, timed) = (Arc::clone(&calls), Arc::clone(&calls));
        let help = "gRPC calls that ended, by method and code.";
        registry.add(Kind::Counter, "plastron_grpc_calls_total", help, move |samples| {
            for (path, method) in counted.each() {
                for (code, count) in CODES.iter().zip(&method.codes) {
                    let count = count.load(Ordering::Relaxed);
                    if count > 0 {
                        samples.number(&[("method", path), ("code", code)], count);
                    }
                }
            }
        });
        let help = "How long gRPC calls took, streams from their opening to their end.";
        registry.add(
            Kind::Histogram,
            "plastron_grpc_call_seconds",
            help,
            move |samples| {
                for (path, method) in timed.each() {
                    method.seconds.show_used(&[("method", path)], samples);
                }
            },
        );
        calls
    }

    fn each(&self) -> impl Iterator<Item = (&str, &Method)> {
        let known = self
            .methods
            .iter()
            .map(|(path, method)| (path.trim_start_matches('/'), method));
        known.chain([(UNKNOWN, &self.unknown)])
    }

    fn find(&self, path: &str) -> usize {
        let found = self.methods.binary_search_by(|(known, _)| (*known).cmp(path));
        found.unwrap_or(usize::MAX)
    }

    /// Begins a call of the method with this path.
    #[must_use]
    pub fn begin(self: &Arc<Self>, path: &str) -> Call {
        Call {
            calls: Arc::clone(self),
            method: self.find(path),
            begun: Instant::now(),
            code: Code::Cancelled,
        }
    }
}

impl Call {
    /// Follows the answer until its status is known.
    #[must_use]
    pub fn follow(mut self, response: Response<Body>) -> Response<Body> {
        if let Some(code) = code_in(response.headers()) {
            self.code = code;
            return response;
        }
        response.map(|body| Body::new(Followed { body, call: self }))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let known = self.calls.methods.get(self.method);
        let method = known.map_or(&self.calls.unknown, |(_, method)| method);
        let code = usize::try_from(i32::from(self.code)).unwrap_or_default();
        if let Some(count) = method.codes.get(code) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        method.seconds.observe(self.begun.elapsed());
    }
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    Status::from_header_map(headers).map(|status| status.code())
}

/// The body of an answer, whose trailers say what became of the call.
struct Followed {
    body: Body,
    call: Call,
}

impl hyper::body::Body for Followed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(code) = frame.trailers_ref().and_then(code_in)
        {
            self.call.code = code;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
