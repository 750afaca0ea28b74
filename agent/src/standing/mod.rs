//! The task that keeps the host's standing with the server: attests, opens the session, renews before the SVID
//! ends, and begins again when the connection is lost.
//!
//! ```text
//!   attest (or show the SVID that is kept) ──▶ session ──▶ at half life: attest or renew on a new connection,
//!        ▲                                       │         open its session, then close the old one
//!        └────────────── back off ◀── lost ──────┘
//! ```

mod following;
mod reach;

use std::{sync::Arc, time::Duration};

use edge::{Chain, grpc::Client, tls::Identity};
use proto::plastron::agent::v1::Answer;
use rustls_pki_types::CertificateDer;
use svid::{Bundle, Roots, Timestamp, x509::X509Svid};
use tokio::{sync::watch, time::Instant};
use tracing::{debug, error, info, warn};

use following::{Event, Following, Renewal, Renewed};
pub use reach::Reach;
use reach::{Attested, NotOpened};

use crate::{
    attest::AttestError,
    backoff::Backoff,
    cache::{KeeperHandle, Pushed},
    link::{DialError, Link, Lost},
    refusal::{Advice, advice, is_judgement, retry_after},
    sealed::SealedHandle,
    session::{Session, SessionError, SessionEvent},
    sign,
    state::{DataDir, KeptSvid, StateError},
    svid_key::{AgentKey, KeyInHost, KeyRequestError},
    trust::{Trust, TrustError},
    wire,
};

/// What the task works with.
pub struct Standing {
    /// How to get to the server.
    pub reach: Reach,
    /// Whom to take for the server.
    pub trust: Trust,
    /// Where state is kept.
    pub data_dir: DataDir,
    /// What is kept there, of a host that attests once.
    pub kept: Option<KeptSvid>,
    /// Shows the connection that calls are made on.
    pub client: watch::Sender<Option<Client>>,
    /// Shows when the agent's own SVID ends; `None` where it has none.
    pub ends: watch::Sender<Option<Timestamp>>,
    /// What is still to be kept.
    pub unkept: Unkept,
    /// What outlives a restart while the server is away.
    pub sealed: SealedHandle,
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
    /// Its key, if the host keeps that.
    kept_key: Option<Arc<KeyInHost>>,
    not_after: Timestamp,
    renew_at: Timestamp,
    /// What the key of the root that it rests on is called, if it says so.
    signed_by: Option<Box<[u8]>>,
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
    #[error("{what} took longer than {} s; the server does not answer", limit.as_secs())]
    Late { what: &'static str, limit: Duration },
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error("cannot renew the agent's SVID: {} ({:?})", .0.message(), .0.code())]
    Renew(Box<tonic::Status>),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// A session that lasts so long is no failure.
const STEADY: Duration = Duration::from_secs(30);
/// Longest sleep: a clock that is set is noticed after that.
const LOOK: Duration = Duration::from_secs(10);

impl Standing {
    /// Keeps the standing for ever.
    pub async fn run(mut self) {
        let mut svid = self.kept.take().and_then(|kept| self.restore(kept));
        let mut backoff = Backoff::default();
        loop {
            self.show(svid.as_ref());
            let pause = match self.establish(svid.take()).await {
                Ok(established) => {
                    let began = Instant::now();
                    svid = self.keep_up(established).await;
                    self.client.send_replace(None);
                    if began.elapsed() >= STEADY {
                        backoff = Backoff::default();
                    }
                    backoff.failed(None)
                }
                Err((error, kept)) => {
                    svid = self.judge(&error, kept).await;
                    if error.is_server_away() {
                        self.sealed.serve();
                    }
                    self.keep();
                    let retry_in = backoff.failed(error.status().and_then(retry_after));
                    warn!(error = %Chain(&error), ?retry_in, "Not connected to the server");
                    retry_in
                }
            };
            self.show(svid.as_ref());
            tokio::time::sleep(pause).await;
        }
    }

    /// Shows others until when the host has a standing.
    fn show(&self, svid: Option<&AgentSvid>) {
        self.ends.send_replace(svid.map(|svid| svid.not_after));
    }

    /// What to do with the SVID after a failure: one that the server does not honour is dropped.
    async fn judge(&mut self, error: &StandingError, svid: Option<AgentSvid>) -> Option<AgentSvid> {
        // What its key signs no more, nobody can show.
        let svid = svid.filter(|svid| !svid.kept_key.as_ref().is_some_and(|key| key.is_lost()));
        self.beware(error).await;
        let Some(status) = error.status() else { return svid };
        match advice(status) {
            Advice::Retry => {
                if error.is_denied_attestation() {
                    // It was evicted, or its host removed, while nobody could tell it so.
                    deny(&self.sealed, &self.reach.keeper).await;
                }
                svid
            }
            Advice::AttestAnew => None,
            Advice::Banned => {
                say_banned();
                take_away(&self.sealed, &self.reach.keeper).await;
                None
            }
        }
    }

    /// Gets to a session, with the SVID at hand or by attesting. On failure, hands the newest SVID back.
    async fn establish(
        &mut self,
        svid: Option<AgentSvid>,
    ) -> Result<Established, (StandingError, Option<AgentSvid>)> {
        let now = self.reach.clock.now();
        match svid {
            Some(svid) if svid.not_after > now => {
                let resumed = self.resume(svid).await;
                resumed.map_err(|(error, svid)| (error, Some(svid)))
            }
            // It has ended only if this clock is right: it is given up when another one takes its place.
            Some(svid) => self.attest().await.map_err(|(source, newer)| {
                let (ended, source) = (svid.not_after, Box::new(source));
                let error = StandingError::Ended { ended, now, source };
                (error, newer.or(Some(svid)))
            }),
            None => self.attest().await,
        }
    }

    async fn resume(&self, svid: AgentSvid) -> Result<Established, NotOpened> {
        match self.trust.expected(self.reach.clock.now()) {
            Ok(expected) => self.reach.resume(expected, svid).await,
            Err(error) => Err((error.into(), svid)),
        }
    }

    async fn attest(&mut self) -> Result<Established, (StandingError, Option<AgentSvid>)> {
        let without = |error| (error, None);
        let expected = self.trust.expected(self.reach.clock.now());
        let expected = expected.map_err(|error| without(error.into()))?;
        let attested = self.reach.attest(expected).await.map_err(without)?;
        let (link, svid) = self.take_attested(attested).map_err(without)?;
        let opened = if svid.can_reattest {
            self.reach.open(link, svid).await
        } else {
            drop(link);
            self.resume(svid).await
        };
        opened.map_err(|(error, svid)| (error, Some(svid)))
    }

    fn take_attested(&mut self, attested: Attested) -> Result<(Link, AgentSvid), StandingError> {
        if let (false, AgentKey::InMemory(key)) = (attested.can_reattest, &attested.key) {
            self.unkept.svid = Some(KeptSvid {
                chain: attested.chain.clone(),
                key: key.clone(),
            });
        }
        self.take_bundle(attested.bundle);
        let svid = self.accept(attested.chain, &attested.key, attested.can_reattest)?;
        info!(expires_at = %svid.not_after, "Attested");
        Ok((attested.link, svid))
    }

    /// Follows the session until it is over. Answers with the SVID, if it may still be good.
    async fn keep_up(&mut self, established: Established) -> Option<AgentSvid> {
        info!("Session opened");
        self.show_connection(&established);
        self.take_sealing(&established.session).await;
        self.reach.keeper.connected().await;
        let mut now = Following::new(established);
        while !now.is_over() {
            self.keep();
            let due_in = now.established.svid.renew_at.since(self.reach.clock.now());
            match now.next(due_in).await {
                Event::Answered(answer) => self.answer(&mut now, answer).await,
                Event::Delivered(revision) => {
                    if now.acknowledge(revision).await.is_err() {
                        now.end();
                    }
                }
                Event::Due => self.begin_renewal(&mut now),
                Event::Look => {}
                Event::Renewed(renewed) => self.go_on_renewing(&mut now, renewed).await,
                Event::Session(Ok(SessionEvent::Asked(question))) => {
                    if let Some(sealing) = &question.sealing {
                        self.sealed.accepted(Some(sealing)).await;
                    }
                    now.ask(&self.reach.prover, question);
                }
                Event::Session(Ok(SessionEvent::Pushed { pushed, revision })) => {
                    self.take_pushed(&mut now, *pushed, revision).await;
                }
                Event::Session(Ok(SessionEvent::Withdrawn { code })) => {
                    self.withdraw(&code).await;
                    return None;
                }
                Event::Session(Err(error)) => {
                    if !self.outlives(&mut now, &error) {
                        return None;
                    }
                }
            }
        }
        Some(now.newest())
    }

    /// Goes by what may be sealed to as this session begins.
    async fn take_sealing(&self, session: &Session) {
        if session.is_suspect() {
            self.sealed.void().await;
        } else {
            self.sealed.accepted(session.sealing()).await;
        }
    }

    /// Opens nothing more where something may sit between CPU and TPM.
    async fn beware(&self, error: &StandingError) {
        if error.is_interposer_suspected() {
            self.sealed.void().await;
        }
    }

    /// Has calls made on this connection from now on.
    fn show_connection(&self, established: &Established) {
        self.show(Some(&established.svid));
        self.client.send_replace(Some(established.link.client.clone()));
    }

    async fn take_pushed(&mut self, now: &mut Following, pushed: Pushed, revision: u64) {
        if let Some(bundle) = &pushed.bundle {
            self.trust.update(bundle);
            now.established.svid.hasten(bundle, self.reach.clock.now());
        }
        let keeper = &self.reach.keeper;
        let number = keeper.push(pushed).await;
        let delivered = keeper.deliveries().clone().delivered(number);
        let settled = self.sealed.clone().settled(number);
        now.deliver(revision, async {
            tokio::join!(delivered, settled);
        });
    }

    /// Gives the server new evidence. Without any it signs nothing for this host soon, and goes on asking.
    async fn answer(&self, now: &mut Following, answer: Result<Answer, AttestError>) {
        let prover = &self.reach.prover;
        match answer {
            Ok(answer) => {
                if now.answer(prover, answer).await.is_err() {
                    now.end();
                }
            }
            Err(error) => {
                warn!(error = %Chain(&error), "No evidence for the server");
                now.go_on_answering(prover);
            }
        }
    }

    async fn withdraw(&self, code: &str) {
        error!(code, "Server withdrew this host's standing");
        match code {
            BANNED => say_banned(),
            QUARANTINED => say_quarantined(),
            _ => {}
        }
        take_away(&self.sealed, &self.reach.keeper).await;
    }

    /// Notes that the session ended. Answers whether its SVID may still be good.
    fn outlives(&self, now: &mut Following, error: &SessionError) -> bool {
        now.end();
        if now.is_renewing() {
            // The session that is being opened ends this one, whatever comes of it.
            debug!(error = %Chain(error), "Older session closed in favour of the renewal");
            return true;
        }
        warn!(error = %Chain(error), "Session ended");
        let refusal = error.status().map(advice);
        // The server may have ended the old SVID for a newer one.
        now.newer.is_some() || refusal.is_none_or(|advice| advice == Advice::Retry)
    }

    /// Begins to get a newer SVID and a session that rests on it, while the old one goes on.
    fn begin_renewal(&self, now: &mut Following) {
        // What is renewed is of use only if it can be shown: no SVID is asked for while that is in doubt.
        let expected = match self.trust.expected(self.reach.clock.now()) {
            Ok(expected) => expected,
            Err(error) => return not_renewed(now, &error.into()),
        };
        let reach = self.reach.clone();
        if now.established.svid.can_reattest {
            now.renew(Box::pin(async move {
                Renewed::Attested(reach.attest(expected).await.map(Box::new))
            }));
        } else {
            let client = now.established.link.client.clone();
            now.renew(Box::pin(
                async move { Renewed::Signed(reach.renew(client).await) },
            ));
        }
    }

    /// Takes what a step of the renewal brought, and begins the next one. What fails is tried again, as long as the
    /// old SVID lives.
    async fn go_on_renewing(&mut self, now: &mut Following, renewed: Renewed) {
        let next = match renewed {
            Renewed::Attested(attested) => attested
                .and_then(|attested| self.take_attested(*attested))
                .map(|(link, svid)| self.opening(link, svid)),
            Renewed::Signed(signed) => signed.and_then(|kept| self.take_signed(kept)),
            Renewed::Opened(Ok(newer)) => {
                info!(expires_at = %newer.svid.not_after, "Agent SVID renewed");
                self.show_connection(&newer);
                self.take_sealing(&newer.session).await;
                *now = Following::new(*newer);
                self.reach.keeper.connected().await;
                return;
            }
            Renewed::Opened(Err(failed)) => {
                let (error, svid) = *failed;
                now.newer = Some(svid);
                Err(error)
            }
        };
        match next {
            Ok(step) => now.renew(step),
            Err(error) => {
                self.beware(&error).await;
                not_renewed(now, &error);
            }
        }
    }

    fn take_signed(&mut self, kept: KeptSvid) -> Result<Renewal, StandingError> {
        // On disk before it is shown: the first use of the new SVID ends the old one.
        self.unkept.svid = Some(kept.clone());
        self.keep();
        let svid = self.accept(kept.chain, &AgentKey::InMemory(kept.key), false)?;
        let expected = self.trust.expected(self.reach.clock.now())?;
        let reach = self.reach.clone();
        Ok(Box::pin(
            async move { opened(reach.resume(expected, svid).await) },
        ))
    }

    fn opening(&self, link: Link, svid: AgentSvid) -> Renewal {
        let reach = self.reach.clone();
        Box::pin(async move { opened(reach.open(link, svid).await) })
    }

    fn take_bundle(&mut self, wire: proto::spire::api::types::Bundle) {
        match wire::bundle(wire, &self.reach.trust_domain) {
            Ok(bundle) => self.trust.update(&Arc::new(bundle)),
            // The SVID counts all the same: a token that it took is spent. The session brings the bundle again.
            Err(error) => error!(error = %Chain(&error), "Server's bundle can't be used"),
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
        match self.accept(kept.chain, &AgentKey::InMemory(kept.key), false) {
            Ok(svid) => Some(svid),
            Err(error) => {
                error!(error = %Chain(&error), "Kept SVID can't be used");
                None
            }
        }
    }

    fn accept(
        &self,
        chain: Vec<Vec<u8>>,
        key: &AgentKey,
        can_reattest: bool,
    ) -> Result<AgentSvid, StandingError> {
        let chain: Vec<CertificateDer<'static>> = chain.into_iter().map(CertificateDer::from).collect();
        let leaf = chain
            .first()
            .ok_or_else(|| StandingError::BadSvid("there is no certificate".into()))?;
        let parsed = X509Svid::parse(leaf).map_err(|error| StandingError::BadSvid(error.to_string()))?;
        let (not_after, renew_at) = sign::times(&parsed, self.reach.clock);
        let signed_by = svid::signed_by(&chain).map(Vec::into_boxed_slice);
        let identity = key.identity(chain);
        Ok(AgentSvid {
            identity: identity.map_err(|error| StandingError::BadSvid(error.to_string()))?,
            kept_key: key.in_host(),
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

/// How soon an SVID is replaced whose authority is tainted.
const REPLACE_WITHIN: Duration = Duration::from_secs(5);

impl StandingError {
    /// Whether the server took the proof, and wants no such host.
    fn is_denied_attestation(&self) -> bool {
        match self {
            Self::Attest(AttestError::Refused(status)) => status.code() == tonic::Code::PermissionDenied,
            Self::Ended { source, .. } => source.is_denied_attestation(),
            _ => false,
        }
    }

    /// Whether the server can't be reached, or is as good as away. What is wrong with the host itself says nothing of that.
    fn is_server_away(&self) -> bool {
        match self {
            Self::Dial(_) | Self::Late { .. } | Self::Lost(_) => true,
            Self::Attest(AttestError::Lost(_)) | Self::Session(SessionError::Lost(_)) => true,
            Self::Ended { source, .. } => source.is_server_away(),
            _ => self.status().is_some_and(|status| !is_judgement(status)),
        }
    }

    /// Whether something may sit between CPU and TPM.
    fn is_interposer_suspected(&self) -> bool {
        match self {
            Self::Attest(error) => error.is_interposer_suspected(),
            Self::Ended { source, .. } => source.is_interposer_suspected(),
            _ => false,
        }
    }

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

/// Takes everything from workloads, and what was kept for them: neither waits for the other. What is being opened comes too
/// late then.
async fn take_away(sealed: &SealedHandle, keeper: &KeeperHandle) {
    tokio::join!(sealed.void(), keeper.withdraw());
}

/// As [`take_away`], of what there is: where there was nothing, something may have been opened meanwhile.
async fn deny(sealed: &SealedHandle, keeper: &KeeperHandle) {
    tokio::join!(sealed.void(), keeper.deny());
    keeper.deny().await;
}

fn opened(opened: Result<Established, NotOpened>) -> Renewed {
    Renewed::Opened(opened.map(Box::new).map_err(Box::new))
}

fn not_renewed(now: &mut Following, error: &StandingError) {
    let expires_at = now.established.svid.not_after;
    let retry_in = now.put_off(error.status().and_then(retry_after));
    warn!(error = %Chain(error), ?retry_in, %expires_at, "Agent SVID not renewed");
}

/// Code of the withdrawal of an agent that is banned.
const BANNED: &str = "agent_banned";

/// Code of the withdrawal of a host that said what is refused.
const QUARANTINED: &str = "host_quarantined";

fn say_quarantined() {
    error!(
        "Host is quarantined; once it is what it should be, an operator has to release it (`plastron-server host release`)"
    );
}

fn say_banned() {
    error!("Agent is banned; an operator has to evict it before it can attest again");
}

#[cfg(test)]
mod tests;
