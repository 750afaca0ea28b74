//! What every call of the Workload API needs: the header that a program tricked into connecting does not send
//! (Workload Endpoint §6).

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use edge::metrics::Calls;
use http::{Request, Response};
use tonic::{Status, body::Body, service::Routes};
use tower::Service;

/// Lets calls through that carry the header.
#[derive(Clone)]
pub(super) struct Gate {
    routes: Routes,
    calls: Arc<Calls>,
}

const HEADER: &str = "workload.spiffe.io";
const WORKLOAD_API: &str = "/SpiffeWorkloadAPI/";

impl Gate {
    pub(super) fn new(routes: Routes, calls: Arc<Calls>) -> Self {
        Self { routes, calls }
    }
}

impl Service<Request<Body>> for Gate {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = self.calls.begin(request.uri().path());
        let needs_header = request.uri().path().starts_with(WORKLOAD_API);
        let mut values = request.headers().get_all(HEADER).iter();
        let has_header = values.next().is_some_and(|value| value == "true") && values.next().is_none();
        if needs_header && !has_header {
            let status = Status::invalid_argument("security header missing from request");
            return Box::pin(async { Ok(call.follow(status.into_http())) });
        }
        let mut routes = self.routes.clone();
        Box::pin(async move { Ok(call.follow(routes.call(request).await?)) })
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    async fn check(path: &str, values: &[&str], expected: Code) {
        let mut request = Request::builder().uri(path);
        for value in values {
            request = request.header(HEADER, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = Gate::new(Routes::default(), Arc::default())
            .call(request)
            .await
            .unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), expected, "{path} {values:?}");
        if expected == Code::InvalidArgument {
            assert_eq!(status.message(), "security header missing from request");
        }
    }

    #[tokio::test]
    async fn calls_of_the_workload_api_carry_the_header_once_and_true() {
        let path = "/SpiffeWorkloadAPI/FetchX509SVID";
        // What gets through finds no method here.
        check(path, &["true"], Code::Unimplemented).await;
        check(path, &[], Code::InvalidArgument).await;
        check(path, &["false"], Code::InvalidArgument).await;
        check(path, &["TRUE"], Code::InvalidArgument).await;
        check(path, &["true", "true"], Code::InvalidArgument).await;
        check(path, &["true", "false"], Code::InvalidArgument).await;
        check(path, &["true,true"], Code::InvalidArgument).await;
    }

    #[tokio::test]
    async fn health_needs_no_header() {
        check("/grpc.health.v1.Health/Check", &[], Code::Unimplemented).await;
    }
}
