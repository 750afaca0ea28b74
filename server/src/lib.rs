//! plastron-server: attests agents, holds entries, issues SVIDs.
//!
//! This file wires the tasks; each is described where it lives. Only here are tasks spawned.

pub mod api;
pub mod appraisals;
mod aside;
pub mod authorize;
pub mod backup;
pub mod belief;
pub mod ca;
pub mod cli;
pub mod config;
pub mod convert;
pub mod issue;
pub mod journal;
pub mod meters;
pub mod pulses;
pub mod registry;
pub mod sessions;
pub mod store;
pub mod webhook;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use api::{AlarmRates, Api, Verdicts};
use aside::Aside;
use attest::policy::PolicyKey;
use backup::RestoreError;
use belief::Belief;
use ca::{Ca, CrlPaths, Orders, Outputs, Rotation, RotationConfig};
use config::{Config, Unworkable};
use edge::{
    Clock,
    grpc::Course,
    health, local, log, metrics, notify, otlp, tls,
    webhook::{Poster, WebhookError},
};
use journal::{Journal, JournalError};
use meters::Meters;
use plugin_catalog::ServerPluginError;
use registry::{EventLogs, LoadError, Owner, Registry, changes};
use sessions::Hub;
use store::{Store, StoreError};
use tokio::{
    net::{TcpListener, TcpSocket, UnixListener},
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tracing::{error, info};
use webhook::{Patience, Sending, Webhook};

/// A server whose tasks run and whose listeners are bound.
pub struct Server {
    tasks: JoinSet<&'static str>,
    /// Tells what the others did, and so ends after them.
    telling: JoinSet<&'static str>,
    /// Gone when that may take no longer.
    told: oneshot::Sender<()>,
    address: SocketAddr,
    ready: watch::Receiver<bool>,
    course: watch::Sender<Course>,
    journal: std::thread::JoinHandle<()>,
    _aside: Aside,
}

/// The server can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address can't be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// Which one.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The configuration can't work.
    #[error(transparent)]
    Config(#[from] Unworkable),
    /// The data directory can't be made.
    #[error("cannot use data directory `{}`", path.display())]
    DataDir {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The audit trail can't be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The state can't be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A key for policies can't be used.
    #[error("cannot use policy key `{}`", path.display())]
    PolicyKey {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A restore did not get to its end.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A thread can't be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// A plugin can't be used.
    #[error(transparent)]
    Plugin(#[from] ServerPluginError),
    /// The local socket can't be listened on.
    #[error(transparent)]
    Socket(#[from] local::ListenError),
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// TLS can't be set up.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// The webhook can't be told.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
}

/// Who pushes metrics.
const SERVICE: otlp::Service = otlp::Service {
    name: "plastron-server",
    version: env!("CARGO_PKG_VERSION"),
};
/// The tasks that serve calls.
const REMOTE_API: &str = "remote API";
const LOCAL_API: &str = "local API";
/// Changes that wait for the sessions to be told.
const PUBLICATIONS: usize = 1024;
/// TCP connections that wait to be accepted; the kernel has a limit of its own, by default 4096.
const BACKLOG: u32 = 8192;
/// How long calls under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How long notices that wait may take then.
const TELL: Duration = Duration::from_secs(3);

impl Server {
    /// Builds every task in order, and binds the listeners. Operators change what is logged by `log`.
    ///
    /// # Errors
    ///
    /// The server can't start; the error says what to do.
    pub async fn start(config: Config, clock: Clock, log: log::Handle) -> Result<Self, StartError> {
        config.check()?;
        let data_dir = &config.server.data_dir;
        let unusable = |source| StartError::DataDir {
            path: data_dir.clone(),
            source,
        };
        std::fs::create_dir_all(data_dir).map_err(unusable)?;
        backup::check_unfinished(data_dir)?;
        let mut metrics = metrics::Registry::default();
        let meters = Meters::register(&mut metrics);
        let store = Arc::new(Store::open(data_dir, config.store)?);
        let (journal, journal_thread) = Journal::open(data_dir.join("audit"), clock)?;
        let journal = journal.metered(meters.journal_append.clone());
        let keys = config.plugins.key_manager(data_dir)?;
        let policy_keys = policy_keys(&config.server.policy_keys)?;
        let upstream = config
            .plugins
            .upstream_authority(&config.server.trust_domain, clock.now())?;
        let has_upstream = upstream.is_some();

        let backups = backup::Source {
            store: Arc::clone(&store),
            journal: journal.clone(),
            keys_path: config.plugins.keys_path(data_dir),
            data_dir: data_dir.clone(),
            trust_domain: config.server.trust_domain.clone(),
            clock,
        };
        let (publications, receiver) = mpsc::channel(PUBLICATIONS);
        let trust_domain = config.server.trust_domain.clone();
        let event_logs = EventLogs::new(Arc::clone(&store));
        let (owner, registry) = Owner::load(store, journal.clone(), trust_domain, clock, publications)?;
        let owner = owner.metered(meters.store_commit.clone());
        let owner = owner.mixing(config.server.mixed);
        let (owner, notices) = telling(owner, &config, &meters)?;
        meters::register_state(&mut metrics, &registry);
        let (hub, sessions, confirmed) = Hub::new(receiver, registry.snapshot().authorities.sequence);

        let hub = hub.metered(meters.sessions.clone());
        let (signing, signed_with) = watch::channel(None);
        let (jwt_signing, tokens_signed_with) = watch::channel(None);
        let (certificate, shown) = watch::channel(None);
        let ca = Ca::new(signed_with, tokens_signed_with, journal, clock).metered(meters.issued.clone());
        let (orders, ordered) = Orders::new();
        let rotation = RotationConfig {
            lifetimes: config.lifetimes(),
            ca_key: config.server.ca_key_type,
            jwt_key: config.server.jwt_key_type,
            confirmed,
            orders: ordered,
            crl_paths: CrlPaths {
                ledger: data_dir.join("audit"),
                crls: data_dir.join("crl"),
            },
            upstream,
            clock_ahead: meters.clock_ahead.clone(),
        };
        let rotation = Rotation::new(
            rotation,
            registry.clone(),
            keys,
            ca.clone(),
            clock,
            Outputs {
                signing,
                jwt_signing,
                certificate,
            },
        );

        let aside = Aside::start().map_err(StartError::Thread)?;
        let (tcp, local, health) = bind(&config, aside.handle())?;
        let address = tcp.local_addr().map_err(|source| StartError::Bind {
            address: bind_address(&config),
            source,
        })?;
        let tls = tls::server_config(shown.clone(), bundles(registry.clone()), clock)?;
        let (pulses, evidence) = (pulses::Pulses::default(), config.evidence_times());
        let verdicts = Verdicts {
            registry: registry.clone(),
            pulses: pulses.clone(),
            lifetimes: config.lifetimes(),
            meters: meters.clone(),
            alarm_rates: AlarmRates::default(),
        };
        let (ready_sender, ready) = watch::channel(false);
        let (course, followed) = watch::channel(Course::Serve);
        let api = Api {
            registry: registry.clone(),
            ca,
            sessions,
            attestors: config.plugins.node_attestors()?,
            orders,
            has_upstream,
            lifetimes: config.lifetimes(),
            jwt_profile: config.jwt_profile(),
            certificate: shown.clone(),
            log,
            pulses: pulses.clone(),
            evidence,
            admin_ids: config.server.admin_ids.clone(),
            approvals: config.server.host_approvals,
            limits: config.server.ratelimit,
            proxies: config.server.proxy_protocol_trusted_cidrs.clone(),
            clock,
            ready: ready.clone(),
            backups,
            verdicts: verdicts.clone(),
            event_logs: event_logs.clone(),
            policy_keys,
            meters,
        };

        let mut tasks = JoinSet::new();
        tasks.spawn(named("registry", owner.run()));
        tasks.spawn(named("sessions", hub.run()));
        tasks.spawn(named("rotation", rotation.run()));
        tasks.spawn(named("pulses", pulses::watch(registry.clone(), pulses, evidence)));
        let appraisals = appraisals::watch(registry.clone(), event_logs, verdicts, clock);
        tasks.spawn(named("appraisals", appraisals));
        let crls = registry.clone();
        tasks.spawn(named("prune", prune(registry, clock)));
        tasks.spawn(named("ready", become_ready(shown, ready_sender)));
        tasks.spawn(named("watchdog", watchdog()));
        let (remote, local) = api.serve(tcp, tls, local, followed);
        tasks.spawn(named(REMOTE_API, remote));
        tasks.spawn_on(named(LOCAL_API, local), aside.handle());
        let metrics = Arc::new(metrics);
        if let Some(listener) = health {
            let (settings, ready) = (config.server.health_checks.clone(), ready.clone());
            let crls = crl_files(config.server.crl_path.clone(), crls);
            let serving = serve_health(listener, settings, ready, Arc::clone(&metrics), crls);
            tasks.spawn_on(named("health", serving), aside.handle());
        }
        let (mut telling, (told, no_longer)) = (JoinSet::new(), oneshot::channel());
        if let Some(notices) = notices {
            let stop = async { drop(no_longer.await) };
            telling.spawn(named("webhook", notices.run(stop)));
        }
        if let Some(collector) = config.server.otlp.clone() {
            tasks.spawn(named("otlp", otlp::push(collector, SERVICE, metrics, clock)));
        }
        info!(%address, trust_domain_id = %config.server.trust_domain, "Server started");
        Ok(Self {
            tasks,
            telling,
            told,
            address,
            ready,
            course,
            journal: journal_thread,
            _aside: aside,
        })
    }

    /// Where the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Becomes true when the server can serve.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Runs until `stop` is done, then lets calls under way finish. A task that ends before is a fault.
    ///
    /// # Errors
    ///
    /// The name of the task that ended.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), &'static str> {
        let outcome = tokio::select! {
            () = stop => Ok(()),
            Some(ended) = self.tasks.join_next() => Err(ended.unwrap_or("a task that panicked")),
            Some(ended) = self.telling.join_next() => Err(ended.unwrap_or("a task that panicked")),
        };
        if let Err(task) = outcome {
            error!(task, "Task ended");
        }
        notify::stopping();
        self.course.send_replace(Course::Drain);
        let drained = async {
            let mut serving = vec![REMOTE_API, LOCAL_API];
            while !serving.is_empty()
                && let Some(ended) = self.tasks.join_next().await
            {
                serving.retain(|task| ended.as_ref().ok() != Some(task));
            }
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            info!("Calls under way were cut off");
        }
        self.tasks.shutdown().await;
        // Nobody tells any more: it sends what waits, and ends.
        if tokio::time::timeout(TELL, self.telling.join_next())
            .await
            .is_err()
        {
            drop(self.told);
            let _ended = self.telling.join_next().await;
        }
        // Everyone who could write is gone: the thread has nothing to wait for.
        let _panicked = self.journal.join();
        outcome
    }
}

async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

/// The keys that may have signed policies.
fn policy_keys(paths: &[PathBuf]) -> Result<Arc<[PolicyKey]>, StartError> {
    let read = |path: &PathBuf| {
        let unusable = |source| StartError::PolicyKey {
            path: path.clone(),
            source,
        };
        let bytes = std::fs::read(path).map_err(unusable)?;
        let der = pem::parse(&bytes).map_or(bytes, pem::Pem::into_contents);
        PolicyKey::parse(&der).map_err(|error| unusable(io::Error::other(error)))
    };
    paths.iter().map(read).collect()
}

/// An owner that tells the webhook, if one is configured, and the task that sends.
fn telling(owner: Owner, config: &Config, meters: &Meters) -> Result<(Owner, Option<Sending>), WebhookError> {
    let Some(settings) = &config.server.webhook else {
        return Ok((owner, None));
    };
    let poster = Poster::open(settings)?;
    let trust_domain = config.server.trust_domain.clone();
    let (webhook, sending) = Webhook::new(poster, Patience::USUAL, trust_domain, meters.webhook.clone());
    Ok((owner.telling(webhook), Some(sending)))
}

fn bind_address(config: &Config) -> SocketAddr {
    SocketAddr::new(config.server.bind_address, config.server.bind_port)
}

fn bind(
    config: &Config,
    aside: &Handle,
) -> Result<(TcpListener, UnixListener, Option<TcpListener>), StartError> {
    let at = |address| listen(address).map_err(|source| StartError::Bind { address, source });
    let tcp = at(bind_address(config))?;
    let _there = aside.enter();
    // The folder keeps others out; in it, the group may administer.
    let local = local::listen(&config.server.socket_path, 0o770)?;
    let settings = &config.server.health_checks;
    let health = settings
        .listener_enabled
        .then(|| at(SocketAddr::new(settings.bind_address, settings.bind_port)));
    Ok((tcp, local, health.transpose()?))
}

/// With room for thousands who come back at once: whoever finds none is dropped by the kernel, and tries again ever later.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Connections of a server that ended do not keep the address.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Clients are verified with our own bundle.
fn bundles(registry: Registry) -> tls::BundleSource {
    Arc::new(move |trust_domain| {
        let snapshot = registry.snapshot();
        let ours = *trust_domain == snapshot.trust_domain;
        ours.then(|| Arc::new(snapshot.authorities.bundle(trust_domain.clone())))
    })
}

/// Every second forgets what ended, unless the clock by which it did is in doubt.
async fn prune(registry: Registry, clock: Clock) {
    let mut belief = Belief::new(clock.moment());
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if belief.look(clock.moment()).is_some() {
            continue;
        }
        // What could not be stored now is tried again a second later.
        let _again = registry.change(changes::prune).await;
    }
}

/// The server is ready when it has a certificate to show.
async fn become_ready(mut certificate: tls::Certificate, ready: watch::Sender<bool>) {
    if certificate.wait_for(Option::is_some).await.is_ok() {
        ready.send_replace(true);
        notify::ready();
        info!("Server ready");
    }
    std::future::pending::<()>().await;
}

async fn watchdog() {
    notify::watchdog().await;
    std::future::pending::<()>().await;
}

/// The newest CRL of each authority, by its name in the folder of CRLs.
fn crl_files(path: String, registry: Registry) -> health::Files {
    let find = move |name: &str| {
        let authority = name.strip_suffix(".crl")?;
        let snapshot = registry.snapshot();
        snapshot.crls.get(authority).map(|crl| crl.der.clone())
    };
    health::Files {
        path,
        media_type: "application/pkix-crl",
        find: Arc::new(find),
    }
}

async fn serve_health(
    listener: TcpListener,
    settings: health::Config,
    ready: watch::Receiver<bool>,
    metrics: Arc<metrics::Registry>,
    crls: health::Files,
) {
    if let Err(error) = health::serve(listener, &settings, ready, metrics, Some(crls)).await {
        error!(%error, "Health listener failed");
    }
}
