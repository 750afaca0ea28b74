//! Many hosts in one process: each has a TPM in software with keys of its own, and the agent's own code, without
//! workloads.

use std::{fs, future::Future, path::Path, time::Duration};

use agent::{
    attest::{AttestError, Prover, attest},
    backoff::Backoff,
    link::{DialError, Link, Lost},
    refusal::{Advice, advice, retry_after},
    session::{Session, SessionError, SessionEvent},
    svid_key::KeyRequest,
};
use attest::{HashAlg, ek::EndorsementKey, event_log::EventLog};
use edge::tls::Identity;
use node_tpm::{AgentConfig, TpmProver};
use plugin_api::{TpmDevice, TpmError};
use proto::plastron::agent::v1::Answer;
use rustls_pki_types::CertificateDer;
use svid::TrustDomain;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::SoftwareTpm;

/// A host of the fleet.
pub struct Member {
    prover: Prover,
    /// Its SVID, once it attested.
    identity: Option<Identity>,
}

/// A host in its session.
pub struct Standing {
    link: Link,
    session: Session,
    prover: Prover,
}

/// A host has no session.
#[derive(Debug)]
pub enum Fallen {
    /// It did not get an identity.
    Attest(AttestError),
    /// The server can't be reached.
    Dial(DialError),
    /// It took too long.
    Late,
    /// The session is over.
    Session(SessionError),
    /// The host lost its standing, by this code.
    Withdrawn(String),
}

/// How long an agent takes at most from dialing to a session.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// A prover on a TPM whose PCRs the log at `log` explains, and the hash of its endorsement key.
///
/// # Panics
///
/// There is no such log.
#[must_use]
pub fn prover(log: &Path) -> (TpmProver, String) {
    let parsed = EventLog::parse(&fs::read(log).unwrap()).unwrap();
    let tpm = SoftwareTpm::with(parsed.replay(HashAlg::Sha256).unwrap());
    let hash = EndorsementKey::parse(&tpm.endorsement_key()).unwrap().hash();
    let mut tpm = Some(tpm);
    let open = Box::new(move || -> Result<Box<dyn TpmDevice>, TpmError> {
        Ok(Box::new(tpm.take().ok_or(TpmError::Stopped)?))
    });
    let config = AgentConfig {
        event_log_path: log.into(),
        ..AgentConfig::default()
    };
    (TpmProver::new(config, trust_domain(), open), hash.to_string())
}

fn trust_domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

impl Member {
    /// A host that booted as the log at `log` says, and the hash of its endorsement key.
    #[must_use]
    pub fn boot(log: &Path) -> (Self, String) {
        let (prover, hash) = prover(log);
        let member = Self {
            prover: Prover::new(Box::new(prover)),
            identity: None,
        };
        (member, hash)
    }

    /// Comes back until it has a session, as an agent does: after a pause, and after the one that the server asks for.
    /// `dial` connects, with what the host has to show. Answers with how often it tried, too.
    ///
    /// # Errors
    ///
    /// It is refused for good.
    pub async fn stand<D>(
        &mut self,
        dial: impl Fn(Option<Identity>) -> D,
    ) -> Result<(Standing, usize), Fallen>
    where
        D: Future<Output = Result<Link, DialError>>,
    {
        let (mut tries, mut backoff) = (0, Backoff::default());
        loop {
            tries += 1;
            let stood = timeout(OPEN_WITHIN, self.try_to_stand(&dial)).await;
            let fallen = match stood.unwrap_or(Err(Fallen::Late)) {
                Ok(standing) => return Ok((standing, tries)),
                Err(fallen) if fallen.is_for_good() => return Err(fallen),
                Err(fallen) => fallen,
            };
            let status = fallen.status();
            if status.is_some_and(|status| advice(status) == Advice::AttestAnew) {
                self.identity = None;
            }
            tokio::time::sleep(backoff.failed(status.and_then(retry_after))).await;
        }
    }

    async fn try_to_stand<D>(&mut self, dial: impl Fn(Option<Identity>) -> D) -> Result<Standing, Fallen>
    where
        D: Future<Output = Result<Link, DialError>>,
    {
        self.prover.prepare().await?;
        let mut link = dial(self.identity.clone()).await?;
        let evidence = if self.identity.is_some() {
            self.prover.resume(link.exporter).await?
        } else {
            self.identity = Some(self.attest(&mut link).await?);
            None
        };
        let opening = Session::open(link.client.clone(), trust_domain(), Vec::new(), evidence);
        let (session, _) = link.during(opening).await.map_err(lost)??;
        let prover = self.prover.clone();
        Ok(Standing {
            link,
            session,
            prover,
        })
    }

    async fn attest(&self, link: &mut Link) -> Result<Identity, AttestError> {
        let request = KeyRequest::generate(None).unwrap();
        let (outcome, _) = attest(link, &self.prover, request.csr).await?;
        let chain = outcome.svid.unwrap().cert_chain.into_iter();
        Ok(Identity::new(chain.map(CertificateDer::from).collect(), &request.key).unwrap())
    }
}

impl Standing {
    /// Answers what the server asks until the session is over, and says why it is; `asked` is told of each question.
    pub async fn follow(mut self, asked: impl Fn()) -> Fallen {
        loop {
            if let Err(fallen) = self.go_on(&asked).await {
                return fallen;
            }
        }
    }

    async fn go_on(&mut self, asked: impl Fn()) -> Result<(), Fallen> {
        match self.link.during(self.session.next()).await.map_err(lost)?? {
            SessionEvent::Asked(question) => {
                asked();
                let evidence = self.prover.answer(self.link.exporter, question.need).await?;
                let round = question.round;
                let answered = self.session.answer(Answer { round, evidence }).await;
                answered.map_err(lost)
            }
            SessionEvent::Pushed { revision, .. } => {
                let acknowledged = self.session.acknowledge(revision).await;
                acknowledged.map_err(lost)
            }
            SessionEvent::Withdrawn { code } => Err(Fallen::Withdrawn(code)),
        }
    }
}

impl Fallen {
    /// What the server said, if it said something.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Attest(AttestError::Refused(status)) | Self::Session(SessionError::Refused(status)) => {
                Some(status)
            }
            _ => None,
        }
    }

    /// Whether it does not pass by itself, nor by attesting anew.
    #[must_use]
    pub fn is_for_good(&self) -> bool {
        match self {
            Self::Dial(_) | Self::Late => false,
            Self::Withdrawn(_) => true,
            Self::Attest(_) | Self::Session(_) => self.status().is_some_and(|status| {
                let passes = [
                    Code::Aborted,
                    Code::DeadlineExceeded,
                    Code::ResourceExhausted,
                    Code::Unavailable,
                    Code::Unknown,
                ];
                advice(status) != Advice::AttestAnew && !passes.contains(&status.code())
            }),
        }
    }
}

fn lost(lost: Lost) -> Fallen {
    Fallen::Session(lost.into())
}

impl From<AttestError> for Fallen {
    fn from(error: AttestError) -> Self {
        Self::Attest(error)
    }
}

impl From<DialError> for Fallen {
    fn from(error: DialError) -> Self {
        Self::Dial(error)
    }
}

impl From<SessionError> for Fallen {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}
