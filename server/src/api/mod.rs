//! The edge of the server: listeners, and one thin handler a method. Handlers convert, ask, and convert back;
//! who may call is decided at the [`gate`] in front of them, what happens elsewhere.

mod admin;
mod admission;
mod agent;
mod alarm_rates;
mod attest;
mod authority;
mod bundle;
mod connection;
mod debug;
mod entry;
mod filter;
mod gate;
mod handshake;
mod health;
mod host;
mod intake;
mod jwt;
mod limit;
mod listen;
mod logger;
mod methods;
mod outlived;
mod page;
mod policy;
mod proofs;
mod proxy;
mod refusals;
mod revocation;
mod rounds;
mod sealing;
mod serials;
mod session;
mod shares;
#[cfg(test)]
mod silence;
mod status;
mod svid;
mod sync;
mod verdicts;

use std::{collections::HashSet, future::Future, num::NonZeroU32, sync::Arc, time::Duration};

use ::attest::policy::{Policy, PolicyKey};
use ::svid::{SpiffeId, Timestamp};
use edge::{Clock, grpc::Course, log, metrics::Tally, tls::Certificate};
use governor::Quota;
use ipnet::IpNet;
use plugin_api::NodeAttestor;
use proto::{
    grpc::health::v1::health_server::HealthServer,
    plastron::{
        admin::v1::admin_server::AdminServer, agent::v1::agent_session_server::AgentSessionServer,
        host::v1::hosts_server::HostsServer, policy::v1::policies_server::PoliciesServer,
        revocation::v1::revocation_server::RevocationServer,
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

use admission::Admission;
pub(crate) use alarm_rates::AlarmRates;
pub use connection::{Connection, NotBound};
pub use filter::go_time;
use gate::{Gate, Rules};
use handshake::Handshakes;
use limit::{ClaimedHost, Limiter};
use listen::Door;
pub use proofs::Proofs;
pub use proxy::{BadHeader, read_header};
use serials::Serials;
pub use verdicts::Verdicts;

use crate::{
    backup,
    ca::{Ca, Orders},
    config::RateLimits,
    issue::{JwtProfile, Lifetimes},
    meters::Meters,
    pulses::{EvidenceTimes, Pulses},
    registry::{EventLogs, Registry, consent::Approvals},
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
    /// Whether somebody else signs the server's authorities.
    pub has_upstream: bool,
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
    /// How many people it takes to let a host in.
    pub approvals: Approvals,
    /// Which calls are limited.
    pub limits: RateLimits,
    /// Whose word is taken for where a connection comes from.
    pub proxies: Vec<IpNet>,
    /// The time.
    pub clock: Clock,
    /// Whether the server can serve.
    pub ready: watch::Receiver<bool>,
    /// What backups are taken of.
    pub backups: backup::Source,
    /// Who judges hosts by what they say.
    pub verdicts: Verdicts,
    /// Event logs of hosts.
    pub event_logs: EventLogs,
    /// Who may have signed policies; anybody, where there are none.
    pub policy_keys: Arc<[PolicyKey]>,
    /// What is counted.
    pub meters: Meters,
}

/// Most attestations under way, from one source and in all: each may hold a log of some megabytes.
const ATTESTING_A_SOURCE: usize = 256;
const ATTESTING: usize = 1024;
/// Most of those of which the host is not known yet: anybody can begin one, and let the server wait.
const STRANGERS_A_SOURCE: usize = 64;
const STRANGERS: usize = 512;
/// Largest message of an attestation: evidence with an event log.
const MAX_EVIDENCE: usize = 5 * 1024 * 1024;
/// Largest import of hosts: a thousand, with keys by issuers of the greatest length.
const MAX_IMPORT: usize = 32 * 1024 * 1024;
/// Largest request about policies: one, with its signature.
const MAX_POLICY: usize = Policy::MAX_LEN + 64 * 1024;
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

/// Attestations from one source.
const ATTEST: Quota = Quota::per_second(nonzero(100)).allow_burst(nonzero(1000));
/// Attestations of one host by its endorsement key: one that fails all the time tries less often.
const ATTEST_A_HOST: Quota = Quota::per_minute(nonzero(60));
/// Signatures for one source.
const SIGN: Quota = Quota::per_second(nonzero(2000)).allow_burst(nonzero(10_000));

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How often who may ask.
#[derive(Clone)]
struct Limiters {
    attestation: Limiter,
    host: Limiter<ClaimedHost>,
    signing: Limiter,
    /// `None` where signing is not limited.
    serials: Option<Serials>,
}

impl Limiters {
    fn new(on: RateLimits, limited: &Tally<1>) -> Self {
        let attest = |quota| on.attestation.then_some(quota);
        Self {
            attestation: Limiter::new(attest(ATTEST), "attestation", limited.clone()),
            host: Limiter::new(attest(ATTEST_A_HOST), "host", limited.clone()),
            signing: Limiter::new(on.signing.then_some(SIGN), "signing", limited.clone()),
            serials: on.signing.then(Serials::default),
        }
    }

    fn tidy(&self, now: Timestamp) {
        self.attestation.tidy();
        self.host.tidy();
        self.signing.tidy();
        if let Some(serials) = &self.serials {
            serials.tidy(now);
        }
    }
}

impl Api {
    /// What serves each of both listeners until `course` says so, and every call under way has ended.
    pub fn serve(
        self,
        tcp: TcpListener,
        tls: Arc<ServerConfig>,
        local: UnixListener,
        course: watch::Receiver<Course>,
    ) -> (
        impl Future<Output = ()> + Send + use<>,
        impl Future<Output = ()> + Send + use<>,
    ) {
        let rules = Arc::new(Rules {
            registry: self.registry.clone(),
            admin_ids: self.admin_ids.clone(),
            clock: self.clock,
            calls: Arc::clone(&self.meters.calls),
            refusals: self.meters.refusals.clone(),
        });
        let limited = self.meters.limited.clone();
        let limiters = Limiters::new(self.limits, &limited);
        let routes = self.routes(limiters.clone());
        let handshakes = Handshakes::new(tls, cores(), limited.clone());
        let door = Door::new(handshakes, self.proxies, &self.meters);
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
        let clock = self.clock;
        let tidy = async move {
            loop {
                tokio::time::sleep(Duration::from_secs(60)).await;
                limiters.tidy(clock.now());
            }
        };
        let of_tcp = Gate::new(Arc::clone(&rules), routes.prepare());
        let serving = listen::tcp(tcp, door, of_tcp, course.clone());
        let remote = async move {
            tokio::select! {
                () = serving => {}
                () = tidy => {}
            }
        };
        let local = listen::unix(local, Gate::new(rules, with_local.prepare()), course);
        (remote, local)
    }

    /// The services of both listeners.
    /// IDs that nobody mints: where it takes two people, those by which they are told apart.
    fn withheld(&self) -> HashSet<SpiffeId> {
        match self.approvals {
            Approvals::One => HashSet::new(),
            Approvals::Two => self.admin_ids.clone(),
        }
    }

    fn routes(&self, limiters: Limiters) -> Routes {
        let admission = Admission::new(cores(), self.meters.limited.clone());
        let (registry, clock) = (&self.registry, self.clock);
        let appraisals = Arc::new(Semaphore::new(cores()));
        let verdicts = self.verdicts.clone();
        let refusals = refusals::Refusals::default();
        let agents = agent::AgentService {
            registry: registry.clone(),
            ca: self.ca.clone(),
            attestors: self.attestors.clone(),
            lifetimes: self.lifetimes,
            attest_limit: limiters.attestation.clone(),
            host_limit: limiters.host,
            admission: admission.clone(),
            refusals: refusals.clone(),
            meters: self.meters.clone(),
            verdicts: verdicts.clone(),
            appraisals: Arc::clone(&appraisals),
            conversations: shares::Shares::new(ATTESTING_A_SOURCE, ATTESTING),
            strangers: shares::Shares::new(STRANGERS_A_SOURCE, STRANGERS),
            sign_limit: limiters.signing.clone(),
            serials: limiters.serials.clone(),
            clock,
        };
        let svids = svid::SvidService {
            registry: registry.clone(),
            ca: self.ca.clone(),
            lifetimes: self.lifetimes,
            jwt_profile: self.jwt_profile.clone(),
            sign_limit: limiters.signing,
            serials: limiters.serials,
            admission,
            withheld: self.withheld(),
            clock,
        };
        let authorities = authority::AuthorityService {
            registry: registry.clone(),
            orders: self.orders.clone(),
            has_upstream: self.has_upstream,
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
            attest_limit: limiters.attestation,
            refusals,
            appraisals,
            evidence_interval: self.evidence.interval,
            clock,
        };
        let hosts = host::HostService {
            registry: registry.clone(),
            clock,
            meters: self.meters.clone(),
            approvals: self.approvals,
        };
        let policies = policy::PolicyService {
            registry: registry.clone(),
            logs: self.event_logs.clone(),
            keys: Arc::clone(&self.policy_keys),
            clock,
        };
        Routes::new(AgentServer::new(agents).max_decoding_message_size(MAX_EVIDENCE))
            .add_service(BundleServer::new(bundles))
            .add_service(EntryServer::new(entry::EntryService {
                registry: registry.clone(),
                clock,
            }))
            .add_service(HostsServer::new(hosts).max_decoding_message_size(MAX_IMPORT))
            .add_service(LocalAuthorityServer::new(authorities))
            .add_service(PoliciesServer::new(policies).max_decoding_message_size(MAX_POLICY))
            .add_service(RevocationServer::new(revocation::RevocationService {
                registry: registry.clone(),
            }))
            .add_service(SvidServer::new(svids))
            .add_service(AgentSessionServer::new(sessions).max_decoding_message_size(MAX_OPEN))
    }
}
