//! What the host does to get to the server. Nothing here changes what the agent holds: a renewal happens beside the
//! session that it replaces, and its owner takes what comes of it.

use std::{future::Future, sync::Arc, time::Duration};

use edge::{Chain, Clock, grpc::Client, metrics::Tally, tls::Expected};
use proto::{plastron::attest::v1::Evidence, spire::api::types::Bundle};
use svid::TrustDomain;
use tokio::time::timeout;
use tracing::error;

use super::{AgentSvid, Established, StandingError};
use crate::{
    attest::{AttestError, Prover, attest},
    cache::KeeperHandle,
    link::{Address, Link},
    session::Session,
    state::KeptSvid,
    svid_key::{AgentKey, AgentKeyRequest, KeyRequest},
    wire,
};

/// What it takes to get to the server. Cheap to clone.
#[derive(Clone)]
pub struct Reach {
    /// Where the server is.
    pub address: Address,
    /// Ours.
    pub trust_domain: TrustDomain,
    /// How the host proves itself.
    pub prover: Prover,
    /// What knows which entries are held.
    pub keeper: KeeperHandle,
    /// Attestations by outcome.
    pub attestations: Tally<1>,
    /// The time.
    pub clock: Clock,
}

/// What an attestation brought.
pub(super) struct Attested {
    pub(super) link: Link,
    /// Leaf first, in DER.
    pub(super) chain: Vec<Vec<u8>>,
    pub(super) key: AgentKey,
    pub(super) bundle: Bundle,
    pub(super) can_reattest: bool,
}

/// A session that could not be opened, and the SVID that it would have rested on.
pub(super) type NotOpened = (StandingError, AgentSvid);

/// How long an attestation may take, from dialing to the server's bundle.
const ATTEST_WITHIN: Duration = Duration::from_secs(60);
/// How long a session may take to open, with dialing where that is needed.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

impl Reach {
    /// Has the host attest, where `expected` answers.
    pub(super) async fn attest(&self, expected: Expected) -> Result<Attested, StandingError> {
        let attesting = async {
            self.prover.prepare().await?;
            let request = self.prover.request().await?;
            within("attestation", ATTEST_WITHIN, self.prove(expected, request)).await
        };
        let attested = attesting.await;
        self.attestations
            .count([attested.as_ref().map_or_else(outcome, |_| "ok")]);
        attested
    }

    async fn prove(&self, expected: Expected, request: AgentKeyRequest) -> Result<Attested, StandingError> {
        let mut link = Link::dial(&self.address, expected, None, self.clock).await?;
        let (outcome, bundle) = attest(&mut link, &self.prover, request.csr).await?;
        let chain = outcome.svid.map(|svid| svid.cert_chain).unwrap_or_default();
        Ok(Attested {
            link,
            chain,
            key: request.key,
            bundle,
            can_reattest: outcome.reattestable,
        })
    }

    /// Asks for a newer SVID, over the connection that there is.
    pub(super) async fn renew(&self, client: Client) -> Result<KeptSvid, StandingError> {
        let request = KeyRequest::generate(None)?;
        let renewed = wire::renew(client, request.csr).await;
        let chain = renewed.map_err(|status| StandingError::Renew(Box::new(status)))?;
        Ok(KeptSvid {
            chain,
            key: request.key,
        })
    }

    /// Opens a session on the connection on which the host attested.
    pub(super) async fn open(&self, link: Link, svid: AgentSvid) -> Result<Established, NotOpened> {
        let opened = within("opening the session", OPEN_WITHIN, self.open_session(link, None));
        established(opened, svid).await
    }

    /// Shows the SVID on a new connection, and opens a session there.
    pub(super) async fn resume(&self, expected: Expected, svid: AgentSvid) -> Result<Established, NotOpened> {
        let resumed = async {
            if svid.can_reattest {
                // The server gives it 10 s from the handshake, and a TPM may take as long to find its keys.
                self.prover.prepare().await?;
            }
            let link = Link::dial(&self.address, expected, Some(&svid.identity), self.clock).await?;
            let evidence = if svid.can_reattest {
                self.prover.resume(link.exporter).await?
            } else {
                None
            };
            self.open_session(link, evidence).await
        };
        let resumed = within("opening the session", OPEN_WITHIN, resumed).await;
        established(std::future::ready(resumed), svid).await
    }

    async fn open_session(
        &self,
        mut link: Link,
        evidence: Option<Evidence>,
    ) -> Result<(Link, Session), StandingError> {
        let known = self
            .keeper
            .cache()
            .borrow()
            .entries
            .values()
            .map(|entry| (Arc::clone(&entry.id), entry.revision))
            .collect();
        let opening = Session::open(link.client.clone(), self.trust_domain.clone(), known, evidence);
        let (mut session, endorsement_key_name) = link.during(opening).await??;
        if !endorsement_key_name.is_empty()
            && let Err(error) = self.prover.recognise(endorsement_key_name).await
        {
            error!(error = %Chain(&error), code = "interposer_suspected", "Endorsement key on record is not this host's");
            if error.is_interposer_suspected() {
                session.suspect();
            }
        }
        Ok((link, session))
    }
}

/// What an attestation that failed is counted as.
fn outcome(error: &StandingError) -> &'static str {
    match error {
        StandingError::Attest(AttestError::Prover(_)) => "prover",
        StandingError::Attest(AttestError::Refused(_)) => "refused",
        StandingError::Dial(_) | StandingError::Lost(_) | StandingError::Attest(AttestError::Lost(_)) => {
            "unreachable"
        }
        StandingError::Late { .. } => "late",
        _ => "failed",
    }
}

async fn established(
    opening: impl Future<Output = Result<(Link, Session), StandingError>>,
    svid: AgentSvid,
) -> Result<Established, NotOpened> {
    match opening.await {
        Ok((link, session)) => Ok(Established { link, session, svid }),
        Err(error) => Err((error, svid)),
    }
}

async fn within<T>(
    what: &'static str,
    limit: Duration,
    step: impl Future<Output = Result<T, StandingError>>,
) -> Result<T, StandingError> {
    let done = timeout(limit, step).await;
    done.unwrap_or(Err(StandingError::Late { what, limit }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_answer_is_given_up() {
        let never = std::future::pending::<Result<(), StandingError>>();
        let late = within("attestation", ATTEST_WITHIN, never).await.unwrap_err();
        assert_eq!(
            late.to_string(),
            "attestation took longer than 60 s; the server does not answer"
        );
    }
}
