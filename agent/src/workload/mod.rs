//! The Workload API: a local socket that any process may open, and that gives each what it is entitled to.
//! <https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Workload_API.md>

mod api;
mod caller;
mod gate;
mod health;

use std::{sync::Arc, time::Duration};

use edge::{
    grpc::{Course, Limits, serve},
    local,
};
use plugin_api::WorkloadAttestor;
use proto::{
    grpc::health::v1::health_server::HealthServer,
    spiffe::workload::spiffe_workload_api_server::SpiffeWorkloadApiServer,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
};
use tonic::service::Routes;
use tracing::{debug, warn};

pub use caller::{Caller, CallerError};
use gate::Gate;

use crate::cache::KeeperHandle;

/// What the API works with.
pub struct WorkloadApi {
    /// What there is to give.
    pub keeper: KeeperHandle,
    /// What finds selectors.
    pub attestors: Vec<Arc<dyn WorkloadAttestor>>,
    /// Whether the agent can serve.
    pub ready: watch::Receiver<bool>,
    /// The time.
    pub clock: edge::Clock,
}

/// Most connections at once; further ones are closed.
const CONNECTIONS: usize = 16_384;
/// Pause after a failure to accept: the process is out of file descriptors.
const BREATHE: Duration = Duration::from_millis(50);

impl WorkloadApi {
    /// Serves until `course` says so, and every stream has ended.
    pub async fn serve(self, listener: UnixListener, course: watch::Receiver<Course>) {
        let api = api::Service {
            keeper: self.keeper,
            attestors: self.attestors.into(),
            clock: self.clock,
        };
        let routes = Routes::new(SpiffeWorkloadApiServer::new(api))
            .add_service(HealthServer::new(health::HealthService { ready: self.ready }));
        let gate = Gate::new(routes.prepare());
        let mut connections = JoinSet::new();
        let mut stopped = course.clone();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if connections.len() < CONNECTIONS => {
                        connections.spawn(serve_one(stream, gate.clone(), course.clone()));
                    }
                    Ok(_) => warn!(limit = CONNECTIONS, "Too many connections to the Workload API"),
                    Err(error) => {
                        warn!(%error, "Connection not accepted");
                        tokio::time::sleep(BREATHE).await;
                    }
                },
                Some(_ended) = connections.join_next() => {}
                () = end_of_serving(&mut stopped) => break,
            }
        }
        // Streams of workloads have no end of their own: clients reconnect when the agent is back.
        connections.shutdown().await;
    }
}

async fn end_of_serving(course: &mut watch::Receiver<Course>) {
    // The sender is gone only when the agent is.
    let _gone = course.wait_for(|course| *course != Course::Serve).await;
}

async fn serve_one(stream: UnixStream, gate: Gate, course: watch::Receiver<Course>) {
    let caller = match local::peer(&stream)
        .map_err(CallerError::Peer)
        .and_then(Caller::new)
    {
        Ok(caller) => Arc::new(caller),
        Err(error) => {
            warn!(error = %edge::Chain(&error), "Workload could not be identified");
            return;
        }
    };
    let stream = local::Stream::new(stream);
    if let Err(error) = serve(stream, gate, Arc::clone(&caller), Limits::default(), course).await {
        debug!(pid = caller.pid(), error = %edge::Chain(&error), "Connection broke");
    }
}
