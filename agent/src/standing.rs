//! The task that keeps the host's standing with the server: attests, opens the session, renews before the SVID
//! ends, and begins again when the connection is lost.
//!
//! ```text
//!   attest (or show the SVID that is kept) ──▶ session ──▶ at half life: attest or renew on a new connection,
//!        ▲                                       │         open its session, then close the old one
//!        └────────────── back off ◀── lost ──────┘
//! ```

use std::{sync::Arc, time::Duration};

use edge::{Chain, Clock, grpc::Client, tls::Identity};
use proto::plastron::attest::v1::Evidence;
use rustls_pki_types::CertificateDer;
use svid::{Bundle, Roots, Timestamp, x509::X509Svid};
use tokio::{sync::watch, time::Instant};
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use crate::{
    attest::{AttestError, Prover, attest},
    cache::KeeperHandle,
    link::{Address, DialError, Link, Lost},
    refusal::{Advice, advice},
    session::{Session, SessionError, SessionEvent},
    sign,
    state::{DataDir, KeptSvid, StateError},
    svid_key::{KeyRequest, KeyRequestError},
    trust::{Trust, TrustError},
    wire,
};

/// What the task works with.
pub struct Standing {
    /// Where the server is.
    pub address: Address,
    /// Whom to take for the server.
    pub trust: Trust,
    /// Where state is kept.
    pub data_dir: DataDir,
    /// What is kept there, of a host that attests once.
    pub kept: Option<KeptSvid>,
    /// How the host proves itself.
    pub prover: Prover,
    /// What takes what the server pushes.
    pub keeper: KeeperHandle,
    /// Shows the connection that calls are made on.
    pub client: watch::Sender<Option<Client>>,
    /// The time.
    pub clock: Clock,
    /// What is still to be kept.
    pub unkept: Unkept,
}

/// What the data directory should hold and does not: a disk may be full for a while.
#[derive(Default)]
pub struct Unkept {
    svid: Option<KeptSvid>,
    /// The operator was told.
    is_told: bool,
}

/// The agent's own SVID.
struct AgentSvid {
    identity: Identity,
    not_after: Timestamp,
    renew_at: Timestamp,
    /// What the key of the root that it rests on is called, if it says so.
    signed_by: Option<Vec<u8>>,
    can_reattest: bool,
}

/// A connection on which the server takes us for the agent that we are.
struct Established {
    link: Link,
    session: Session,
    svid: AgentSvid,
}

/// The host has no standing now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StandingError {
    #[error(transparent)]
    Attest(#[from] AttestError),
    #[error("server answered with an SVID that can't be used: {0}")]
    BadSvid(String),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(
        "the agent's own SVID ended at {ended}, and this host's clock shows {now}; is the clock right? If so, the host has to attest anew"
    )]
    Ended {
        ended: Timestamp,
        now: Timestamp,
        source: Box<Self>,
    },
    #[error(transparent)]
    Key(#[from] KeyRequestError),
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error("cannot renew the agent's SVID: {} ({:?})", .0.message(), .0.code())]
    Renew(Box<tonic::Status>),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Trust(#[from] TrustError),
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Longest sleep: a clock that is set is noticed after that.
const LOOK: Duration = Duration::from_secs(10);

impl Standing {
    /// Keeps the standing for ever.
    pub async fn run(mut self) {
        let mut svid = self.kept.take().and_then(|kept| self.restore(kept));
        let mut pause = FIRST_PAUSE;
        loop {
            match self.establish(svid.take()).await {
                Ok(established) => {
                    pause = FIRST_PAUSE;
                    svid = self.keep_up(established).await;
                    self.client.send_replace(None);
                }
                Err((error, kept)) => {
                    svid = self.judge(&error, kept).await;
                    self.keep();
                    warn!(error = %Chain(&error), retry_in = ?pause, "Not connected to the server");
                    tokio::time::sleep(jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// What to do with the SVID after a failure: one that the server does not honour is dropped.
    async fn judge(&mut self, error: &StandingError, svid: Option<AgentSvid>) -> Option<AgentSvid> {
        let Some(status) = error.status() else { return svid };
        match advice(status) {
            Advice::Retry => svid,
            Advice::AttestAnew => None,
            Advice::Banned => {
                error!("Agent is banned; an operator has to evict it before it can attest again");
                self.keeper.withdraw().await;
                None
            }
        }
    }

    /// Gets to a session, with the SVID at hand or by attesting. On failure, hands the SVID back.
    async fn establish(
        &mut self,
        svid: Option<AgentSvid>,
    ) -> Result<Established, (StandingError, Option<AgentSvid>)> {
        let now = self.clock.now();
        match svid {
            Some(svid) if svid.not_after > now => self.resume(svid).await,
            // It has ended only if this clock is right: it is given up when another one takes its place.
            Some(svid) => self.attest().await.map_err(|source| {
                let (ended, source) = (svid.not_after, Box::new(source));
                (StandingError::Ended { ended, now, source }, Some(svid))
            }),
            None => self.attest().await.map_err(|error| (error, None)),
        }
    }

    /// Shows the SVID on a new connection.
    async fn resume(&mut self, svid: AgentSvid) -> Result<Established, (StandingError, Option<AgentSvid>)> {
        let resumed = async {
            let expected = self.trust.expected(self.clock.now())?;
            let mut link = Link::dial(&self.address, expected, Some(&svid.identity), self.clock).await?;
            let evidence = if svid.can_reattest {
                self.prover.resume(link.exporter).await?
            } else {
                None
            };
            let session = self.open_session(&mut link, evidence).await?;
            Ok((link, session))
        };
        match resumed.await {
            Ok((link, session)) => Ok(Established { link, session, svid }),
            Err(error) => Err((error, Some(svid))),
        }
    }

    async fn attest(&mut self) -> Result<Established, StandingError> {
        self.prover.prepare().await?;
        let request = KeyRequest::generate(None)?;
        let expected = self.trust.expected(self.clock.now())?;
        let mut link = Link::dial(&self.address, expected, None, self.clock).await?;
        let (outcome, bundle) = attest(&mut link, &self.prover, request.csr).await?;
        let chain = outcome.svid.map(|svid| svid.cert_chain).unwrap_or_default();
        let kept = KeptSvid {
            chain,
            key: request.key,
        };
        if !outcome.reattestable {
            self.unkept.svid = Some(kept.clone());
        }
        self.take_bundle(bundle);
        let svid = self.accept(kept, outcome.reattestable)?;
        info!(expires_at = %svid.not_after, "Attested");
        if outcome.reattestable {
            let session = self.open_session(&mut link, None).await?;
            return Ok(Established { link, session, svid });
        }
        drop(link);
        self.resume(svid).await.map_err(|(error, _)| error)
    }

    /// Gets a newer SVID and a session that rests on it, while the old one goes on.
    async fn replace(&mut self, client: Client, can_reattest: bool) -> Result<Established, StandingError> {
        if can_reattest {
            return self.attest().await;
        }
        // What is renewed is of use only if it can be shown: no SVID is asked for while that is in doubt.
        self.trust.expected(self.clock.now())?;
        let request = KeyRequest::generate(None)?;
        let renewed = wire::renew(client, request.csr).await;
        let chain = renewed.map_err(|status| StandingError::Renew(Box::new(status)))?;
        let kept = KeptSvid {
            chain,
            key: request.key,
        };
        self.unkept.svid = Some(kept.clone());
        self.keep();
        let svid = self.accept(kept, false)?;
        let renewed = self.resume(svid).await.map_err(|(error, _)| error)?;
        info!(expires_at = %renewed.svid.not_after, "Agent SVID renewed");
        Ok(renewed)
    }

    async fn open_session(
        &mut self,
        link: &mut Link,
        evidence: Option<Evidence>,
    ) -> Result<Session, StandingError> {
        let known = self
            .keeper
            .cache()
            .borrow()
            .entries
            .values()
            .map(|entry| (Arc::clone(&entry.id), entry.revision))
            .collect();
        let client = link.client.clone();
        let opening = Session::open(client, known, evidence);
        let (session, endorsement_key_name) = link.during(opening).await??;
        if !endorsement_key_name.is_empty()
            && let Err(error) = self.prover.recognise(endorsement_key_name).await
        {
            error!(error = %Chain(&error), code = "interposer_suspected", "Endorsement key on record is not this host's");
        }
        Ok(session)
    }

    /// Follows the session until it is over. Answers with the SVID, if it may still be good.
    async fn keep_up(&mut self, mut now: Established) -> Option<AgentSvid> {
        info!("Session opened");
        self.client.send_replace(Some(now.link.client.clone()));
        // A pause is measured apart from the clock, which may be set meanwhile.
        let mut pause_until = Instant::now();
        loop {
            self.keep();
            let due_in = now.svid.renew_at.since(self.clock.now());
            let pause = pause_until.saturating_duration_since(Instant::now());
            let left = due_in.max(pause).min(LOOK);
            let event = tokio::select! {
                event = now.link.during(now.session.next()) => event.map_err(SessionError::from).flatten(),
                () = tokio::time::sleep(left) => {
                    if now.svid.renew_at <= self.clock.now() {
                        let pause = self.renew(&mut now).await;
                        pause_until = Instant::now() + pause;
                    }
                    continue;
                }
            };
            match event {
                Ok(SessionEvent::Pushed(pushed)) => {
                    if let Some(bundle) = &pushed.bundle {
                        self.trust.update(bundle);
                        now.svid.hasten(bundle, self.clock.now());
                    }
                    let passed_on = self.keeper.push(*pushed);
                    if now.link.during(passed_on).await.is_err() || now.session.acknowledge().await.is_err() {
                        return Some(now.svid);
                    }
                }
                Ok(SessionEvent::Withdrawn { code }) => {
                    error!(code, "Server withdrew this host's standing");
                    self.keeper.withdraw().await;
                    return None;
                }
                Err(error) => {
                    warn!(error = %Chain(&error), "Session ended");
                    let refused = error
                        .status()
                        .is_some_and(|status| advice(status) != Advice::Retry);
                    return (!refused).then_some(now.svid);
                }
            }
        }
    }

    /// Replaces what is established. What fails is tried again, as long as the old SVID lives; answers with the
    /// pause before.
    async fn renew(&mut self, now: &mut Established) -> Duration {
        let client = now.link.client.clone();
        let can_reattest = now.svid.can_reattest;
        let replaced = {
            let replacing = self.replace(client, can_reattest);
            now.link.during(replacing).await
        };
        match replaced.map_err(StandingError::from).flatten() {
            Ok(newer) => {
                self.client.send_replace(Some(newer.link.client.clone()));
                *now = newer;
                Duration::ZERO
            }
            Err(error) => {
                warn!(error = %Chain(&error), retry_in = ?RENEW_RETRY, expires_at = %now.svid.not_after, "Agent SVID not renewed");
                RENEW_RETRY
            }
        }
    }

    fn take_bundle(&mut self, wire: proto::spire::api::types::Bundle) {
        match wire::bundle(wire) {
            Ok(bundle) => self.trust.update(&Arc::new(bundle)),
            Err(error) => warn!(error = %Chain(&error), "Server's bundle can't be used"),
        }
        self.keep();
    }

    /// Brings to disk what is not there yet. The host goes on with what it has in memory where that fails: the
    /// token that it attested with is spent, and an SVID that is not renewed ends.
    fn keep(&mut self) {
        match self.try_to_keep() {
            Ok(()) if self.unkept.is_told => {
                info!("State kept");
                self.unkept.is_told = false;
            }
            Ok(()) => {}
            Err(_) if self.unkept.is_told => {}
            Err(error) => {
                error!(error = %Chain(&error), "State not kept; until it is, a restart may need a new join token or bundle");
                self.unkept.is_told = true;
            }
        }
    }

    fn try_to_keep(&mut self) -> Result<(), StateError> {
        if let Some(svid) = &self.unkept.svid {
            self.data_dir.keep_svid(svid)?;
            self.unkept.svid = None;
        }
        self.trust.keep()
    }

    fn restore(&self, kept: KeptSvid) -> Option<AgentSvid> {
        match self.accept(kept, false) {
            Ok(svid) => Some(svid),
            Err(error) => {
                error!(error = %Chain(&error), "Kept SVID can't be used");
                None
            }
        }
    }

    fn accept(&self, kept: KeptSvid, can_reattest: bool) -> Result<AgentSvid, StandingError> {
        let chain: Vec<CertificateDer<'static>> = kept.chain.into_iter().map(CertificateDer::from).collect();
        let leaf = chain
            .first()
            .ok_or_else(|| StandingError::BadSvid("there is no certificate".into()))?;
        let parsed = X509Svid::parse(leaf).map_err(|error| StandingError::BadSvid(error.to_string()))?;
        let (not_after, renew_at) = sign::times(&parsed, self.clock);
        let signed_by = svid::signed_by(&chain);
        let key: Zeroizing<Vec<u8>> = kept.key;
        let identity =
            Identity::new(chain, &key).map_err(|error| StandingError::BadSvid(error.to_string()))?;
        Ok(AgentSvid {
            identity,
            not_after,
            renew_at,
            signed_by,
            can_reattest,
        })
    }
}

impl AgentSvid {
    /// Has the SVID replaced soon if its authority is tainted: not by all hosts at the same moment. At once if it is
    /// revoked.
    fn hasten(&mut self, bundle: &Bundle, now: Timestamp) {
        let standing = Roots::of(bundle).standing(self.signed_by.as_deref());
        let within = match standing {
            svid::Standing::Good => return,
            svid::Standing::Tainted => REPLACE_WITHIN,
            svid::Standing::Void => Duration::ZERO,
        };
        info!(?standing, "Authority of the agent's SVID is no longer good");
        let random = f64::from(u16::from_be_bytes(edge::random())) / f64::from(u16::MAX);
        self.renew_at = self.renew_at.min(now.plus(within.mul_f64(random)));
    }
}

impl StandingError {
    /// What the server said, if it was the server who refused.
    fn status(&self) -> Option<&tonic::Status> {
        match self {
            Self::Attest(AttestError::Refused(status)) | Self::Renew(status) => Some(status),
            Self::Ended { source, .. } => source.status(),
            Self::Session(error) => error.status(),
            _ => None,
        }
    }
}

/// How soon an SVID is replaced whose authority is tainted.
const REPLACE_WITHIN: Duration = Duration::from_secs(5);
/// Pause after a renewal that failed.
const RENEW_RETRY: Duration = Duration::from_secs(5);

/// Half of `pause` to all of it: hosts that lost the server together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let random = u32::from_be_bytes(edge::random());
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}
