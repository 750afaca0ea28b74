//! How much of a request is taken, and for how long, before anything is known of who sends it: what is taken is held
//! in memory, and many may send at once.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use http::{Request, Response};
use http_body_util::{BodyStream, StreamBody};
use proto::bytes::Bytes;
use tokio::time::timeout;
use tonic::{Status, body::Body};
use tower::Service;

use super::attest::LONGEST_FIRST;

/// What a method takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Intake {
    /// As much as its message may be: the caller has a standing.
    Whole,
    /// A few bytes, soon.
    Little,
    /// As much as each step of its conversation allows.
    InSteps,
}

/// Longest request of which nothing but a mask is wanted, in bytes.
const LITTLE: usize = 4 * 1024;
/// How long such a call may take.
const WITHIN: Duration = Duration::from_secs(30);
/// What a message has around its payload, in bytes, generously.
const AROUND: usize = 1024;

/// How many more bytes of a request are taken. Clones are of the same request.
#[derive(Clone, Debug)]
pub(super) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Takes one more message with a payload of so many `bytes`.
    pub(super) fn grant(&self, bytes: usize) {
        self.0.fetch_add(bytes.saturating_add(AROUND), Ordering::Relaxed);
    }

    fn spend(&self, bytes: usize) -> Result<(), Status> {
        let rest = |left: usize| left.checked_sub(bytes);
        let spent = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
        spent
            .map(drop)
            .map_err(|_| Status::resource_exhausted("message is longer than is taken at this point"))
    }

    fn limit(self, body: Body) -> Body {
        let frames = BodyStream::new(body).map(move |frame| {
            let frame = frame?;
            self.spend(frame.data_ref().map_or(0, Bytes::len))?;
            Ok::<_, Status>(frame)
        });
        Body::new(StreamBody::new(frames))
    }
}

/// Hands a request on to `routes`, with no more of it than its method takes.
pub(super) async fn hand_on<S>(
    routes: &mut S,
    mut request: Request<Body>,
    intake: Intake,
) -> Result<Response<Body>, Infallible>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    match intake {
        Intake::Whole => routes.call(request).await,
        Intake::Little => {
            let request = request.map(|body| Allowance::new(LITTLE).limit(body));
            let late = |_| Ok(Status::deadline_exceeded("call took more than 30 s").into_http());
            timeout(WITHIN, routes.call(request)).await.unwrap_or_else(late)
        }
        Intake::InSteps => {
            let allowance = Allowance::new(LONGEST_FIRST + AROUND);
            request.extensions_mut().insert(allowance.clone());
            routes.call(request.map(|body| allowance.limit(body))).await
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};
    use tower::service_fn;

    use super::*;

    /// Answers 200 to whoever's request it gets as a whole.
    async fn swallow(request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let collected = request.into_body().collect().await;
        Ok(collected.map_or_else(Status::into_http, |_| Response::default()))
    }

    async fn code(intake: Intake, body: Body) -> Option<String> {
        let answer = hand_on(&mut service_fn(swallow), Request::new(body), intake).await;
        let code = answer.unwrap().headers().get("grpc-status").cloned();
        code.map(|code| code.to_str().unwrap().into())
    }

    fn of(bytes: usize) -> Body {
        Body::new(Full::new(Bytes::from(vec![0; bytes])))
    }

    #[tokio::test]
    async fn of_whoever_proved_nothing_little_is_taken() {
        let too_long = Some("8".to_owned());
        assert_eq!(code(Intake::Little, of(LITTLE)).await, None);
        assert_eq!(code(Intake::Little, of(LITTLE + 1)).await, too_long);
        assert_eq!(code(Intake::InSteps, of(LONGEST_FIRST + AROUND)).await, None);
        assert_eq!(
            code(Intake::InSteps, of(LONGEST_FIRST + AROUND + 1)).await,
            too_long
        );
        assert_eq!(code(Intake::Whole, of(LONGEST_FIRST + AROUND + 1)).await, None);
    }

    #[tokio::test]
    async fn a_step_that_is_allowed_more_may_send_more() {
        let allowance = Allowance::new(1);
        let body = allowance.clone().limit(of(AROUND + 3));
        allowance.grant(2);
        assert!(body.collect().await.is_ok());
        assert!(allowance.limit(of(1)).collect().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_end_is_given_up() {
        let frames = BodyStream::new(of(1)).chain(futures::stream::pending());
        let body = Body::new(StreamBody::new(frames));
        assert_eq!(code(Intake::Little, body).await.as_deref(), Some("4"));
    }
}
