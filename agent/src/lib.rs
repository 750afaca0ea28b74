//! plastron-agent: proves this host, keeps its SVIDs fresh, serves workloads.
//!
//! This file wires the tasks; each is described where it lives. Only here are tasks spawned.

pub mod attest;
pub mod backoff;
pub mod cache;
pub mod cli;
pub mod config;
mod host_tpm;
pub mod link;
pub mod meters;
pub mod refusal;
pub mod sealed;
pub mod session;
pub mod sign;
pub mod standing;
pub mod state;
pub mod svid_key;
pub mod trust;
pub mod wire;
pub mod workload;
pub mod workload_svid;

use std::{fs, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use attest::Prover;
use cache::{Cache, Keeper};
use config::{Config, Unworkable};
use edge::{Clock, grpc::Course, health, local, metrics, notify, otlp};
use link::Address;
use meters::Meters;
use plugin_catalog::AgentPluginError;
use sealed::{SealedState, SealedWith};
use standing::{Reach, Standing, Unkept};
use state::{DataDir, StateError};
use svid::Timestamp;
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tracing::{error, info, warn};
use trust::{Trust, TrustError};
use workload::WorkloadApi;

/// An agent whose tasks run and whose socket is bound.
pub struct Agent {
    tasks: JoinSet<&'static str>,
    course: watch::Sender<Course>,
}

/// The agent can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration can't work.
    #[error(transparent)]
    Config(#[from] Unworkable),
    /// The health listener can't be bound.
    #[error("cannot listen on {address}")]
    Health {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A plugin can't be used.
    #[error(transparent)]
    Plugin(#[from] AgentPluginError),
    /// The socket can't be listened on.
    #[error(transparent)]
    Socket(#[from] local::ListenError),
    /// The data directory can't be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The token file holds no token.
    #[error("join_token_file `{}` is empty; put what `plastron-server token generate` prints there", .0.display())]
    EmptyToken(PathBuf),
    /// The token file can't be read.
    #[error("cannot read join_token_file `{}`", path.display())]
    Token {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server can't be verified.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

const WORKLOAD_API: &str = "workload API";
/// Who pushes metrics.
const SERVICE: otlp::Service = otlp::Service {
    name: "plastron-agent",
    version: env!("CARGO_PKG_VERSION"),
};
/// How long the Workload API may take to end.
const DRAIN_WITHIN: Duration = Duration::from_secs(2);
/// How often readiness is looked at where nothing changes.
const READINESS_LOOK: Duration = Duration::from_secs(5);

impl Agent {
    /// Builds every task in order, and binds the socket.
    ///
    /// # Errors
    ///
    /// The agent can't start; the error says what to do.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        config.check()?;
        let mut metrics = metrics::Registry::default();
        let meters = Meters::register(&mut metrics);
        let data_dir = DataDir::open(config.agent.data_dir.clone())?;
        let trust = Trust::load(&config.agent, data_dir.clone(), clock.now())?;
        let kept = if config.plugins.node_tpm.is_some() {
            // The host proves itself each time, and nothing readable on disk is to authenticate it.
            if data_dir.forget_svid()? {
                warn!(
                    "SVID that a join token had brought was removed: this host attests by TPM. Evict its old agent."
                );
            }
            None
        } else {
            data_dir.svid()?
        };
        let token = token(&config.agent, kept.is_some())?;
        let trust_domain = &config.agent.trust_domain;
        let (tpm, tpm_answers) = watch::channel(true);
        meters::register_tpm(&mut metrics, tpm_answers.clone());
        let prover = config.plugins.node_prover(trust_domain, token, |settings| {
            host_tpm::opener(settings, meters.tpm.clone(), tpm)
        })?;
        let prover = Prover::new(prover);

        let (client, current_client) = watch::channel(None);
        let (keeper, handle) = Keeper::new(sign::signer(current_client, clock), clock);
        meters::register_state(&mut metrics, handle.cache(), client.subscribe(), clock);
        let address = Address {
            host: config.agent.server_address.clone(),
            port: config.agent.server_port,
        };
        let (sealed, sealed_handle) = SealedState::new(SealedWith {
            mode: if config.plugins.node_tpm.is_some() {
                config.agent.sealed_state
            } else {
                sealed::Mode::Off
            },
            path: data_dir.sealed_state(),
            trust_domain: config.agent.trust_domain.clone(),
            prover: prover.clone(),
            keeper: handle.clone(),
            meters: meters.sealed.clone(),
            clock,
        });
        let (ends, standing_ends) = watch::channel(None);
        let standing = Standing {
            reach: Reach {
                address,
                trust_domain: config.agent.trust_domain.clone(),
                prover,
                keeper: handle.clone(),
                attestations: meters.attestations.clone(),
                clock,
            },
            trust,
            data_dir,
            kept,
            client,
            ends,
            unkept: Unkept::default(),
            sealed: sealed_handle,
        };

        let listener = local::listen(&config.agent.socket_path, 0o777)?;
        let health = bind_health(&config.agent.health_checks).await?;
        let (ready_sender, ready) = watch::channel(false);
        let (course, followed) = watch::channel(Course::Serve);
        let cache = handle.cache();
        let api = WorkloadApi {
            keeper: handle,
            attestors: config.plugins.workload_attestors(),
            ready: ready.clone(),
            tpm_answers: config.plugins.node_tpm.as_ref().map(|_| tpm_answers),
            meters,
            clock,
        };

        let mut tasks = JoinSet::new();
        tasks.spawn(named("cache", keeper.run()));
        tasks.spawn(named("standing", standing.run()));
        tasks.spawn(named("sealed state", sealed.run()));
        tasks.spawn(named(
            "ready",
            tell_readiness(cache, standing_ends, ready_sender, clock),
        ));
        tasks.spawn(named("watchdog", watchdog()));
        tasks.spawn(named(WORKLOAD_API, api.serve(listener, followed)));
        let metrics = Arc::new(metrics);
        if let Some(listener) = health {
            let settings = config.agent.health_checks.clone();
            tasks.spawn(named(
                "health",
                serve_health(listener, settings, ready, Arc::clone(&metrics)),
            ));
        }
        if let Some(collector) = config.agent.otlp.clone() {
            tasks.spawn(named("otlp", otlp::push(collector, SERVICE, metrics, clock)));
        }
        info!(socket_path = %config.agent.socket_path.display(), trust_domain_id = %config.agent.trust_domain, "Agent started");
        // The Workload API answers from now on, if only that there is nothing yet: what waits for it may start.
        notify::ready();
        Ok(Self { tasks, course })
    }

    /// Runs until `stop` is done. A task that ends before is a fault.
    ///
    /// # Errors
    ///
    /// The name of the task that ended.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), &'static str> {
        let outcome = tokio::select! {
            () = stop => Ok(()),
            Some(ended) = self.tasks.join_next() => Err(ended.unwrap_or("a task that panicked")),
        };
        if let Err(task) = outcome {
            error!(task, "Task ended");
        }
        notify::stopping();
        self.course.send_replace(Course::Drain);
        // The Workload API tells its callers; nothing else has anything to finish.
        let drained = async {
            while self
                .tasks
                .join_next()
                .await
                .is_some_and(|ended| !matches!(ended, Ok(WORKLOAD_API)))
            {}
        };
        let _cut = timeout(DRAIN_WITHIN, drained).await;
        self.tasks.shutdown().await;
        outcome
    }
}

async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

/// The join token. One that can't be read any more is no fault where it was used already.
fn token(config: &config::Agent, has_svid: bool) -> Result<Option<String>, StartError> {
    match (&config.join_token, &config.join_token_file) {
        (Some(token), _) => Ok(Some(token.clone())),
        (None, Some(path)) => match fs::read_to_string(path) {
            Ok(text) if text.trim().is_empty() && !has_svid => Err(StartError::EmptyToken(path.clone())),
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(_) if has_svid => Ok(Some(String::new())),
            Err(source) => Err(StartError::Token {
                path: path.clone(),
                source,
            }),
        },
        (None, None) => Ok(has_svid.then(String::new)),
    }
}

async fn bind_health(config: &health::Config) -> Result<Option<tokio::net::TcpListener>, StartError> {
    if !config.listener_enabled {
        return Ok(None);
    }
    let address = SocketAddr::new(config.bind_address, config.bind_port);
    let bound = health::bind(config).await;
    bound
        .map(Some)
        .map_err(|source| StartError::Health { address, source })
}

/// Shows whether the agent can serve, as that comes and goes.
async fn tell_readiness(
    mut cache: watch::Receiver<Arc<Cache>>,
    mut standing_ends: watch::Receiver<Option<Timestamp>>,
    ready: watch::Sender<bool>,
    clock: Clock,
) {
    loop {
        let ends = *standing_ends.borrow_and_update();
        let can_serve = cache::can_serve(&cache.borrow_and_update(), ends, clock.now());
        if ready.send_replace(can_serve) != can_serve {
            say_readiness(can_serve);
        }
        let changed = async {
            tokio::select! {
                changed = cache.changed() => changed,
                changed = standing_ends.changed() => changed,
            }
        };
        // What ends does so without a change.
        if matches!(timeout(READINESS_LOOK, changed).await, Ok(Err(_))) {
            return std::future::pending().await;
        }
    }
}

fn say_readiness(can_serve: bool) {
    if can_serve {
        info!("Agent ready");
    } else {
        warn!("Agent not ready: there is nothing to serve");
    }
}

async fn watchdog() {
    notify::watchdog().await;
    std::future::pending::<()>().await;
}

async fn serve_health(
    listener: tokio::net::TcpListener,
    settings: health::Config,
    ready: watch::Receiver<bool>,
    metrics: Arc<metrics::Registry>,
) {
    if let Err(error) = health::serve(listener, &settings, ready, metrics, None).await {
        error!(%error, "Health listener failed");
    }
}
