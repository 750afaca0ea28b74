//! The edge of the server: listeners, and one thin handler a method. Handlers convert, ask, and convert back;
//! who may call is decided at the [`gate`] in front of them, what happens elsewhere.

mod admin;
mod agent;
mod attest;
mod authority;
mod bundle;
mod connection;
mod debug;
mod entry;
mod filter;
mod gate;
mod health;
mod host;
mod jwt;
mod limit;
mod listen;
mod logger;
mod methods;
mod page;
mod proofs;
mod refusals;
mod revocation;
mod rounds;
mod session;
mod shares;
mod status;
mod svid;
mod sync;
mod verdicts;

use std::{collections::HashSet, num::NonZeroU32, sync::Arc, time::Duration};

use ::svid::SpiffeId;
use edge::{Clock, grpc::Course, log, tls::Certificate};
use plugin_api::NodeAttestor;
use proto::{
    grpc::health::v1::health_server::HealthServer,
    plastron::{
        admin::v1::admin_server::AdminServer, agent::v1::agent_session_server::AgentSessionServer,
        host::v1::hosts_server::HostsServer, revocation::v1::revocation_server::RevocationServer,
    },
    spire::api::server::{
        agent::v1::agent_server::AgentServer, bundle::v1::bundle_server::BundleServer,
        debug::v1::debug_server::DebugServer, entry::v1::entry_server::EntryServer,
        localauthority::v1::local_authority_server::LocalAuthorityServer,
        logger::v1::logger_server::LoggerServer, svid::v1::svid_server::SvidServer,
    },
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{Semaphore, watch},
};
use tonic::service::Routes;

pub use connection::{Connection, NotBound};
use gate::{Gate, Rules};
use limit::{Limiter, Rate};
pub use proofs::Proofs;

use crate::{
    backup,
    ca::{Ca, Orders},
    config::RateLimits,
    issue::{JwtProfile, Lifetimes},
    meters::Meters,
    pulses::{EvidenceTimes, Pulses},
    registry::Registry,
    sessions::Sessions,
};

/// What the handlers work with.
pub struct Api {
    /// What the server knows.
    pub registry: Registry,
    /// What signs.
    pub ca: Ca,
    /// Where rotation takes orders.
    pub orders: Orders,
    /// The server's own certificate.
    pub certificate: Certificate,
    /// What is logged.
    pub log: log::Handle,
    /// Who follows.
    pub sessions: Sessions,
    /// How agents prove themselves.
    pub attestors: Vec<Arc<dyn NodeAttestor>>,
    /// How long what is issued lives.
    pub lifetimes: Lifetimes,
    /// What is the same in all JWT-SVIDs.
    pub jwt_profile: JwtProfile,
    /// When hosts gave good evidence last.
    pub pulses: Pulses,
    /// How often they are to give it.
    pub evidence: EvidenceTimes,
    /// Who administers, beside those with an admin entry.
    pub admin_ids: HashSet<SpiffeId>,
    /// Which calls are limited.
    pub limits: RateLimits,
    /// The time.
    pub clock: Clock,
    /// Whether the server can serve.
    pub ready: watch::Receiver<bool>,
    /// What backups are taken of.
    pub backups: backup::Source,
    /// What is counted.
    pub meters: Meters,
}

/// Most attestations under way, from one source and in all: each may hold a log of some megabytes.
const ATTESTING_A_SOURCE: usize = 256;
const ATTESTING: usize = 1024;
/// Largest message of an attestation: evidence with an event log.
const MAX_EVIDENCE: usize = 5 * 1024 * 1024;
/// Largest import of hosts: a thousand, with keys by issuers of the greatest length.
const MAX_IMPORT: usize = 32 * 1024 * 1024;
/// Largest opening of a session: an agent's entries by revision.
const MAX_OPEN: usize = 16 * 1024 * 1024;

/// Whether there is a method with this path.
#[must_use]
pub(crate) fn is_method(path: &str) -> bool {
    methods::access(path, methods::Listener::Local).is_some()
}

const fn nonzero(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

const ATTEST: Rate = Rate {
    per_second: nonzero(100),
    burst: nonzero(1000),
};
const SIGN: Rate = Rate {
    per_second: nonzero(2000),
    burst: nonzero(10_000),
};

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Api {
    /// Serves both listeners until `course` says so, and every call under way has ended.
    pub async fn serve(
        self,
        tcp: TcpListener,
        tls: Arc<ServerConfig>,
        local: UnixListener,
        course: watch::Receiver<Course>,
    ) {
        let rules = Arc::new(Rules {
            registry: self.registry.clone(),
            admin_ids: self.admin_ids.clone(),
            clock: self.clock,
            calls: Arc::clone(&self.meters.calls),
            refusals: self.meters.refusals.clone(),
        });
        let limited = self.meters.limited.clone();
        let limiter = |is_on: bool, rate, name| Limiter::new(is_on.then_some(rate), name, limited.clone());
        let limiters = [
            limiter(self.limits.attestation, ATTEST, "attestation"),
            limiter(self.limits.signing, SIGN, "signing"),
        ];
        let routes = self.routes(limiters.clone());
        let admin = admin::AdminService {
            source: self.backups,
            turn: Arc::new(Semaphore::new(1)),
        };
        let with_local = routes
            .clone()
            .add_service(AdminServer::new(admin))
            .add_service(DebugServer::new(debug::DebugService {
                registry: self.registry,
                certificate: self.certificate,
                clock: self.clock,
                started: self.clock.now(),
            }))
            .add_service(HealthServer::new(health::HealthService { ready: self.ready }))
            .add_service(LoggerServer::new(logger::LoggerService { log: self.log }));
        let tidy = async {
            loop {
                tokio::time::sleep(Duration::from_secs(60)).await;
                limiters.iter().for_each(Limiter::tidy);
            }
        };
        let serving = async {
            tokio::join!(
                listen::tcp(
                    tcp,
                    tls,
                    Gate::new(Arc::clone(&rules), routes.prepare()),
                    limited.clone(),
                    course.clone()
                ),
                listen::unix(local, Gate::new(Arc::clone(&rules), with_local.prepare()), course),
            )
        };
        tokio::select! {
            ((), ()) = serving => {}
            () = tidy => {}
        }
    }

    /// The services of both listeners.
    fn routes(&self, [attest_limit, sign_limit]: [Limiter; 2]) -> Routes {
        let (registry, clock) = (&self.registry, self.clock);
        let appraisals = Arc::new(Semaphore::new(cores()));
        let verdicts = verdicts::Verdicts {
            registry: registry.clone(),
            pulses: self.pulses.clone(),
            lifetimes: self.lifetimes,
            meters: self.meters.clone(),
        };
        let agents = agent::AgentService {
            registry: registry.clone(),
            ca: self.ca.clone(),
            attestors: self.attestors.clone(),
            lifetimes: self.lifetimes,
            attest_limit,
            refusals: refusals::Refusals::default(),
            meters: self.meters.clone(),
            verdicts: verdicts.clone(),
            appraisals: Arc::clone(&appraisals),
            conversations: shares::Shares::new(ATTESTING_A_SOURCE, ATTESTING),
            sign_limit: sign_limit.clone(),
            clock,
        };
        let svids = svid::SvidService {
            registry: registry.clone(),
            ca: self.ca.clone(),
            lifetimes: self.lifetimes,
            jwt_profile: self.jwt_profile.clone(),
            sign_limit,
            clock,
        };
        let authorities = authority::AuthorityService {
            registry: registry.clone(),
            orders: self.orders.clone(),
        };
        let bundles = bundle::BundleService {
            registry: registry.clone(),
            sessions: self.sessions.clone(),
        };
        let sessions = session::SessionService {
            registry: registry.clone(),
            attestors: self.attestors.clone(),
            sessions: self.sessions.clone(),
            meters: self.meters.clone(),
            verdicts,
            appraisals,
            evidence_interval: self.evidence.interval,
            clock,
        };
        let hosts = host::HostService {
            registry: registry.clone(),
        };
        Routes::new(AgentServer::new(agents).max_decoding_message_size(MAX_EVIDENCE))
            .add_service(BundleServer::new(bundles))
            .add_service(EntryServer::new(entry::EntryService {
                registry: registry.clone(),
                clock,
            }))
            .add_service(HostsServer::new(hosts).max_decoding_message_size(MAX_IMPORT))
            .add_service(LocalAuthorityServer::new(authorities))
            .add_service(RevocationServer::new(revocation::RevocationService {
                registry: registry.clone(),
            }))
            .add_service(SvidServer::new(svids))
            .add_service(AgentSessionServer::new(sessions).max_decoding_message_size(MAX_OPEN))
    }
}
