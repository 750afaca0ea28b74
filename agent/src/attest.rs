//! Proving the host: the agent's side of AttestAgent.

use std::sync::{Arc, Mutex, PoisonError};

use edge::tls::Exporter;
use plugin_api::{Binding, NodeProver, ProverError, Sealed, SealedKey, Sealing, TpmError};
use prost::Message;
use proto::{
    plastron::attest::v1::Evidence,
    spire::api::{
        server::{
            agent::v1::{
                AgentX509svidParams, AttestAgentRequest, AttestAgentResponse,
                agent_client::AgentClient,
                attest_agent_request::{Params, Step as ToServer},
                attest_agent_response::{Result as Outcome, Step as FromServer},
            },
            bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
        },
        types::{AttestationData, Bundle},
    },
};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::warn;

use crate::{
    link::{Link, Lost},
    svid_key::{AgentKeyRequest, KeyInHost, KeyRequestError, SharedProver},
};

/// The prover; its calls block, and happen on threads that may.
#[derive(Clone)]
pub struct Prover {
    prover: SharedProver,
    /// One call at a time, also of those that nobody waits for any more: they take one thread, however many there were.
    turn: Arc<Semaphore>,
}

/// The host did not get an identity.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// There is no key to attest for.
    #[error(transparent)]
    Key(#[from] KeyRequestError),
    /// The connection ended.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The host can't prove itself.
    #[error(transparent)]
    Prover(#[from] ProverError),
    /// The server refused.
    #[error("{} ({:?})", .0.message(), .0.code())]
    Refused(Box<Status>),
    /// The runtime is ending.
    #[error("agent is stopping")]
    Stopping,
    /// The server said something that is not in the protocol.
    #[error("attestation went wrong: {0} is missing or malformed")]
    Unexpected(&'static str),
}

impl AttestError {
    /// Whether something may sit between CPU and TPM: then the TPM is asked to open nothing.
    #[must_use]
    pub const fn is_interposer_suspected(&self) -> bool {
        matches!(
            self,
            Self::Prover(ProverError::Tpm(TpmError::InterposerSuspected))
        )
    }
}

impl From<Status> for AttestError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// More challenges than any attestor has.
const MAX_STEPS: usize = 8;

impl Prover {
    /// Wraps a prover.
    #[must_use]
    pub fn new(prover: Box<dyn NodeProver>) -> Self {
        Self {
            prover: Arc::new(Mutex::new(prover)),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Gets everything ready that needs no connection.
    ///
    /// # Errors
    ///
    /// The host can't prove itself now.
    pub async fn prepare(&self) -> Result<(), AttestError> {
        self.with(|prover| prover.prepare()).await
    }

    /// Makes the key of the next SVID, and the request to certify it.
    ///
    /// # Errors
    ///
    /// The key can't be made, or the host that keeps it does not sign.
    pub async fn request(&self) -> Result<AgentKeyRequest, AttestError> {
        let Some(key) = self.with(|prover| prover.create_svid_key()).await? else {
            return Ok(AgentKeyRequest::in_memory()?);
        };
        let key = KeyInHost::new(Arc::clone(&self.prover), key);
        Ok(self.aside(|| AgentKeyRequest::in_host(key)).await??)
    }

    /// What opens a session on the connection with this TLS exporter, where the host did not attest.
    ///
    /// # Errors
    ///
    /// The host can't prove itself now.
    pub async fn resume(&self, exporter: Exporter) -> Result<Option<Evidence>, AttestError> {
        let evidence = self.with(move |prover| prover.resume(&exporter)).await?;
        let decoded = evidence.map(|evidence| Evidence::decode(evidence.as_slice()));
        decoded
            .transpose()
            .map_err(|_| AttestError::Unexpected("session evidence"))
    }

    /// Answers what the server asks in the session on the connection with this TLS exporter.
    ///
    /// # Errors
    ///
    /// The host can't prove itself now, or does not answer that.
    pub async fn answer(&self, exporter: Exporter, asked: Vec<u8>) -> Result<Vec<u8>, AttestError> {
        self.with(move |prover| prover.answer_round(&exporter, &asked))
            .await
    }

    /// Compares the Name of the endorsement key that the server has on record with the host's own.
    ///
    /// # Errors
    ///
    /// The host has no such key.
    pub async fn recognise(&self, endorsement_key_name: Vec<u8>) -> Result<(), AttestError> {
        self.with(move |prover| prover.recognise(&endorsement_key_name))
            .await
    }

    /// Seals a key to what the server accepted; `None` where nothing seals.
    ///
    /// # Errors
    ///
    /// What seals can't be used.
    pub async fn seal(&self, key: SealedKey, sealing: Sealing) -> Result<Option<Sealed>, AttestError> {
        self.with(move |prover| prover.seal(&key, &sealing)).await
    }

    /// The key that was sealed; `None` if it is not for this host, or not in this state.
    ///
    /// # Errors
    ///
    /// What sealed it can't be used.
    pub async fn unseal(&self, sealed: Sealed) -> Result<Option<SealedKey>, AttestError> {
        self.with(move |prover| prover.unseal(&sealed)).await
    }

    /// Has the prover forget what it remembers: the server refused it.
    pub async fn refused(&self) {
        let forgotten = self
            .with(|prover| {
                prover.refused();
                Ok(())
            })
            .await;
        if let Err(error) = forgotten {
            warn!(error = %edge::Chain(&error), "Prover not told of the refusal");
        }
    }

    async fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut dyn NodeProver) -> Result<T, ProverError> + Send + 'static,
    ) -> Result<T, AttestError> {
        let prover = Arc::clone(&self.prover);
        let acted = self.aside(move || act(prover.lock().unwrap_or_else(PoisonError::into_inner).as_mut()));
        Ok(acted.await??)
    }

    /// Has `act` happen on a thread that may block, once all that came before is done.
    async fn aside<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AttestError> {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.map_err(|_| AttestError::Stopping)?;
        let acted = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            act()
        });
        acted.await.map_err(|_| AttestError::Stopping)
    }
}

/// Proves the host over `link`, for a certificate as `csr` asks. Answers with the outcome and the server's bundle.
///
/// # Errors
///
/// The host did not get an identity; the error says what to do.
pub async fn attest(
    link: &mut Link,
    prover: &Prover,
    csr: Vec<u8>,
) -> Result<(Outcome, Bundle), AttestError> {
    let client = link.client.clone();
    let exporter = link.exporter;
    link.during(async {
        let name = prover.with(|prover| Ok(prover.name())).await?;
        let binding = Binding {
            exporter,
            csr: csr.clone(),
        };
        let payload = prover.with(move |prover| prover.begin(&binding)).await?;
        let (requests, queue) = mpsc::channel(1);
        let params = Params {
            data: Some(AttestationData {
                r#type: name.into(),
                payload,
            }),
            params: Some(AgentX509svidParams { csr }),
        };
        send(&requests, ToServer::Params(params)).await?;
        let responses = AgentClient::new(client.clone())
            .attest_agent(ReceiverStream::new(queue))
            .await?;
        let outcome = converse(prover, &requests, responses.into_inner()).await;
        if let Err(AttestError::Refused(_)) = &outcome {
            prover.refused().await;
        }
        let outcome = outcome?;
        let bundle = BundleClient::new(client)
            .get_bundle(GetBundleRequest::default())
            .await?;
        Ok((outcome, bundle.into_inner()))
    })
    .await?
}

async fn converse(
    prover: &Prover,
    requests: &mpsc::Sender<AttestAgentRequest>,
    mut responses: Streaming<AttestAgentResponse>,
) -> Result<Outcome, AttestError> {
    for _ in 0..MAX_STEPS {
        let response = responses.message().await?.and_then(|response| response.step);
        match response.ok_or(AttestError::Unexpected("a result"))? {
            FromServer::Result(outcome) => return Ok(outcome),
            FromServer::Challenge(challenge) => {
                let answer = prover.with(move |prover| prover.answer(&challenge)).await?;
                send(requests, ToServer::ChallengeResponse(answer)).await?;
            }
        }
    }
    Err(AttestError::Unexpected("an end"))
}

async fn send(requests: &mpsc::Sender<AttestAgentRequest>, step: ToServer) -> Result<(), AttestError> {
    requests
        .send(AttestAgentRequest { step: Some(step) })
        .await
        .map_err(|_| AttestError::Lost(Lost))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as blocking;

    use futures::FutureExt;

    use super::*;

    /// Gets ready once it is told to; says when it begins.
    struct Hangs {
        begin: blocking::Sender<()>,
        told: blocking::Receiver<()>,
    }

    impl NodeProver for Hangs {
        fn name(&self) -> &'static str {
            "test"
        }

        fn prepare(&mut self) -> Result<(), ProverError> {
            self.begin.send(()).unwrap();
            self.told.recv().unwrap();
            Ok(())
        }

        fn begin(&mut self, _: &Binding) -> Result<Vec<u8>, ProverError> {
            Ok(Vec::new())
        }

        fn answer(&mut self, _: &[u8]) -> Result<Vec<u8>, ProverError> {
            Ok(Vec::new())
        }
    }

    #[tokio::test]
    async fn calls_that_nobody_waits_for_take_one_thread() {
        let (begin, begun) = blocking::channel();
        let (tell, told) = blocking::channel();
        let prover = Prover::new(Box::new(Hangs { begin, told }));
        for _ in 0..100 {
            assert!(prover.prepare().now_or_never().is_none());
        }
        for _ in 0..2 {
            tell.send(()).unwrap();
        }
        prover.prepare().await.unwrap();
        assert_eq!(
            begun.try_iter().count(),
            2,
            "the one that began, and the one that was waited for"
        );
    }
}
