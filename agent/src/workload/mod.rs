//! The Workload API: a local socket that any process may open, and that gives each what it is entitled to.
//! <https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Workload_API.md>

mod api;
mod caller;
mod gate;
mod health;
mod shares;

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
    sync::{OwnedSemaphorePermit, watch},
    task::JoinSet,
    time::timeout,
};
use tonic::service::Routes;
use tracing::{debug, warn};

pub use caller::{Caller, CallerError};
use gate::Gate;
pub(crate) use health::TPM as TPM_SERVICE;
use shares::{Share, Shares};

use crate::{cache::KeeperHandle, meters::Meters};

/// What the API works with.
pub struct WorkloadApi {
    /// What there is to give.
    pub keeper: KeeperHandle,
    /// What finds selectors.
    pub attestors: Vec<Arc<dyn WorkloadAttestor>>,
    /// Whether the agent can serve.
    pub ready: watch::Receiver<bool>,
    /// Whether the TPM answers, where the host attests by one.
    pub tpm_answers: Option<watch::Receiver<bool>>,
    /// What is counted.
    pub meters: Meters,
    /// The time.
    pub clock: edge::Clock,
}

/// Most connections at once; further ones are closed.
const CONNECTIONS: usize = 16_384;
/// Pause after a failure to accept: the process is out of file descriptors.
const BREATHE: Duration = Duration::from_millis(50);

/// How long streams that are told to end may take.
const END_WITHIN: Duration = Duration::from_secs(1);

/// A connection, and who is at the other end.
struct Connection {
    caller: Caller,
    share: Arc<Share>,
    _permit: OwnedSemaphorePermit,
}

impl WorkloadApi {
    /// Serves until `course` says so, and every stream has ended.
    pub async fn serve(self, listener: UnixListener, course: watch::Receiver<Course>) {
        let gate = self.gate(&course);
        let mut shares = Shares::default();
        let mut connections = JoinSet::new();
        let mut stopped = course.clone();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if connections.len() < CONNECTIONS => {
                        if let Some(connection) = identify(&stream, &mut shares) {
                            connections.spawn(serve_one(stream, connection, gate.clone(), course.clone()));
                        }
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
        // Streams end with a status that says why; a client that does not read it is cut off.
        let ended = async { while connections.join_next().await.is_some() {} };
        let _cut = timeout(END_WITHIN, ended).await;
        connections.shutdown().await;
    }

    fn gate(self, course: &watch::Receiver<Course>) -> Gate {
        let api = api::Service {
            keeper: self.keeper,
            attestors: self.attestors.into(),
            streams: self.meters.streams,
            clock: self.clock,
            course: course.clone(),
        };
        let health = health::HealthService {
            ready: self.ready,
            tpm_answers: self.tpm_answers,
            course: course.clone(),
        };
        let routes = Routes::new(SpiffeWorkloadApiServer::new(api)).add_service(HealthServer::new(health));
        Gate::new(routes.prepare(), self.meters.calls)
    }
}

/// Waits until the agent ends.
async fn end_of_serving(course: &mut watch::Receiver<Course>) {
    // The sender is gone only when the agent is.
    let _gone = course.wait_for(|course| *course != Course::Serve).await;
}

/// Finds out who connected, and whether there is room for them.
fn identify(stream: &UnixStream, shares: &mut Shares) -> Option<Arc<Connection>> {
    let peer = match local::peer(stream) {
        Ok(peer) => peer,
        Err(error) => {
            unidentified(&CallerError::Peer(error));
            return None;
        }
    };
    let (pid, uid) = (peer.pid, peer.uid);
    let Some((share, permit)) = shares.connect(uid) else {
        // The user can have this said as often as they like.
        debug!(
            pid,
            uid,
            limit = shares::CONNECTIONS,
            "Too many connections of one user"
        );
        return None;
    };
    match Caller::new(peer) {
        Ok(caller) => Some(Arc::new(Connection {
            caller,
            share,
            _permit: permit,
        })),
        Err(error) => {
            unidentified(&error);
            None
        }
    }
}

fn unidentified(error: &CallerError) {
    warn!(error = %edge::Chain(error), "Workload could not be identified");
}

async fn serve_one(
    stream: UnixStream,
    connection: Arc<Connection>,
    gate: Gate,
    course: watch::Receiver<Course>,
) {
    let pid = connection.caller.pid();
    let stream = local::Stream::new(stream);
    if let Err(error) = serve(stream, gate, connection, Limits::default(), course).await {
        debug!(pid, error = %edge::Chain(&error), "Connection broke");
    }
}
