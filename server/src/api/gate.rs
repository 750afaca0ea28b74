//! The gate in front of every method: decides who calls, before any handler runs. Handlers find the
//! [`Caller`] in the request; there is no way around.

use std::{
    collections::HashSet,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use edge::{
    Clock,
    metrics::{Calls, Tally},
};
use http::{Request, Response};
use svid::SpiffeId;
use tonic::{Status, body::Body, service::Routes};
use tower::Service;
use tracing::{Instrument, info, info_span};

use super::{Connection, intake, methods, status};
use crate::{
    authorize::{Caller, authorize},
    registry::{Registry, changes},
};

/// What the gate decides with.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) registry: Registry,
    pub(super) admin_ids: HashSet<SpiffeId>,
    pub(super) clock: Clock,
    pub(super) calls: Arc<Calls>,
    pub(super) refusals: Tally<1>,
}

/// Lets calls through to `routes`, or answers them itself.
#[derive(Clone)]
pub(super) struct Gate {
    rules: Arc<Rules>,
    routes: Routes,
}

impl Gate {
    pub(super) fn new(rules: Arc<Rules>, routes: Routes) -> Self {
        Self { rules, routes }
    }
}

impl Rules {
    async fn admit(&self, path: &str, connection: &Connection) -> Result<Caller, Status> {
        let access = methods::access(path, connection.listener())
            .ok_or_else(|| Status::unimplemented(format!("unknown method {path}")))?;
        let snapshot = self.registry.snapshot();
        let presented = connection.presented();
        let decided = authorize(
            path,
            access,
            presented,
            &self.admin_ids,
            &snapshot,
            self.clock.now(),
        );
        let caller = decided.map_err(|denied| {
            info!(caller_addr = connection.address_text(), method = path, error = %denied, "Call denied");
            self.refusals.count([denied.code()]);
            status::denied(&denied)
        })?;
        if let (true, Some(agent)) = (caller.is_first_use(), caller.agent()) {
            let (path, serial) = (
                Arc::clone(&agent.path),
                agent.next.as_ref().map(|next| next.serial.clone()),
            );
            let promote = move |draft: &mut _| {
                if let Some(serial) = serial {
                    changes::promote_svid(draft, &path, &serial);
                }
            };
            self.registry
                .change(promote)
                .await
                .map_err(|error| status::not_changed(&error))?;
        }
        Ok(caller)
    }
}

impl Service<Request<Body>> for Gate {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let rules = Arc::clone(&self.rules);
        let mut routes = self.routes.clone();
        let request_id = u64::from_be_bytes(edge::random());
        let span = info_span!(
            "call",
            request_id = format_args!("{request_id:016x}"),
            method = request.uri().path()
        );
        let call = rules.calls.begin(request.uri().path());
        let admitted = async move {
            let Some(connection) = request.extensions().get::<Arc<Connection>>().cloned() else {
                return Ok(call.follow(status::bug("request without connection").into_http()));
            };
            match rules.admit(request.uri().path(), &connection).await {
                Ok(caller) => {
                    connection.note_use();
                    request.extensions_mut().insert(caller);
                    let intake = methods::intake(request.uri().path());
                    Ok(call.follow(intake::hand_on(&mut routes, request, intake).await?))
                }
                Err(status) => Ok(call.follow(status.into_http())),
            }
        };
        Box::pin(admitted.instrument(span))
    }
}

/// The caller that the gate let through.
pub(super) fn caller<T>(request: &tonic::Request<T>) -> Result<Caller, Status> {
    request
        .extensions()
        .get::<Caller>()
        .cloned()
        .ok_or_else(|| status::bug("request without caller"))
}

/// The connection that a request came on.
pub(super) fn connection<T>(request: &tonic::Request<T>) -> Result<Arc<Connection>, Status> {
    request
        .extensions()
        .get::<Arc<Connection>>()
        .cloned()
        .ok_or_else(|| status::bug("request without connection"))
}
