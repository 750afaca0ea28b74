//! AttestAgent: the conversation in which a host proves itself.
//!
//! ```text
//!   agent                                   server
//!     ── params{type, payload, csr} ──────────▶  attestor.start
//!     ◀── challenge ───────────────────────────  Step::Challenge   } any number of
//!     ── challenge_response ──────────────────▶  next.handle       } times
//!                                                Step::Done: sign ▶ audit ▶ store ▶ publish
//!     ◀── result{svid} ────────────────────────
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use attest::ek::{CertificateId, EkHash};
use futures::Stream;
use plugin_api::{
    Attested, Claim, Context, Expect, Host, HostPolicies, Newcomer, NodeAttestor, Records, Refusal, Step,
};
use proto::spire::api::{
    server::agent::v1::{
        AttestAgentRequest, AttestAgentResponse,
        attest_agent_request::{Params, Step as Message},
        attest_agent_response::{Result as Outcome, Step as Answer},
    },
    types::AttestationData,
};
use svid::{
    SelectorSet, SpiffeId, Timestamp,
    x509::{CertificateRequest, X509Svid},
};
use tokio::time::timeout;
use tonic::{Status, Streaming};
use tracing::{error, info};

use super::{
    Connection, MAX_EVIDENCE, agent::AgentService, connection::Attesting, intake::Allowance, limit, page,
    shares::Share, status,
};
use crate::{
    authorize::Presented,
    convert, issue,
    journal::Record,
    registry::{
        AgentSvid, HostId, Snapshot, TokenHash, changes,
        host_changes::{self, TooManyPending},
    },
};

/// A message of so many bytes has a log, which takes milliseconds to appraise.
const LARGE: usize = 16 * 1024;
/// How long the server waits for the first message: agents have everything ready before they dial.
const FIRST_WITHIN: Duration = Duration::from_secs(10);
/// Longest first payload and request in bytes: logs come later, from whoever proved a key.
const MAX_FIRST: usize = 512 * 1024;
const MAX_CSR: usize = 16 * 1024;
/// Longest first message in bytes.
pub(super) const LONGEST_FIRST: usize = MAX_FIRST + MAX_CSR;
/// Longest answer of a stranger in bytes: it has no log.
const SHORT: usize = 64 * 1024;
/// How long the server waits for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Most challenges in one conversation: a kernel's measurement list comes in up to 14 parts.
const MAX_STEPS: usize = 18;

/// The server's side of a conversation, as a stream of what it says. `place` is given back at its end.
pub(super) fn conversation(
    service: AgentService,
    connection: Arc<Connection>,
    place: (Attesting, Option<Share>),
    allowance: Allowance,
    messages: Streaming<AttestAgentRequest>,
) -> impl Stream<Item = Result<AttestAgentResponse, Status>> + Send {
    let conversation = Conversation {
        service,
        connection,
        _place: place,
        place_as_stranger: None,
        allowance,
        messages,
        steps: 0,
        stage: Stage::ExpectParams,
    };
    futures::stream::try_unfold(conversation, Conversation::advance)
}

struct Conversation {
    service: AgentService,
    connection: Arc<Connection>,
    _place: (Attesting, Option<Share>),
    /// While nothing is known of the other end.
    place_as_stranger: Option<Share>,
    allowance: Allowance,
    messages: Streaming<AttestAgentRequest>,
    steps: usize,
    stage: Stage,
}

enum Stage {
    ExpectParams,
    ExpectAnswer(Evidence, Box<dyn Expect>),
    Over,
}

/// What the first message brought.
struct Evidence {
    attestor: Arc<dyn NodeAttestor>,
    exporter: Option<[u8; 32]>,
    csr: Vec<u8>,
    request: CertificateRequest,
}

/// What a decision is made on.
struct Facts {
    snapshot: Arc<Snapshot>,
    now: Timestamp,
    exporter: Option<[u8; 32]>,
    csr: Vec<u8>,
}

impl Facts {
    fn show<T>(&self, decide: impl FnOnce(&Context<'_>) -> T) -> T {
        decide(&Context {
            now: self.now,
            trust_domain: &self.snapshot.trust_domain,
            records: &*self.snapshot,
            exporter: self.exporter,
            csr: &self.csr,
            nonce: edge::random(),
        })
    }
}

/// A host that has to wait for an operator.
#[derive(Debug, thiserror::Error)]
#[error("host {0} waits for approval; an operator runs `plastron-server host approve --id {0}`")]
struct HostPending(HostId);

type Said = Option<(AttestAgentResponse, Conversation)>;

impl Conversation {
    async fn advance(mut self) -> Result<Said, Status> {
        let (evidence, step) = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => return Ok(None),
            Stage::ExpectParams => {
                let (evidence, payload) = self.receive_params().await?;
                let attestor = Arc::clone(&evidence.attestor);
                let size = payload.len();
                let decide = move |context: &Context<'_>| attestor.start(&payload, context);
                let step = self.decide(&evidence, size, decide).await?;
                (evidence, step)
            }
            Stage::ExpectAnswer(evidence, next) => {
                let longest = if next.is_of_known_host() {
                    MAX_EVIDENCE
                } else {
                    SHORT
                };
                self.allowance.grant(longest);
                let answer = self.receive_answer().await?;
                let size = answer.len();
                let decide = move |context: &Context<'_>| next.handle(&answer, context);
                let step = self.decide(&evidence, size, decide).await?;
                (evidence, step)
            }
        };
        match step {
            Step::Challenge { send, next } => {
                self.steps += 1;
                if self.steps > MAX_STEPS {
                    return Err(Status::aborted("attestation takes too many steps"));
                }
                self.place_as_stranger = None;
                if !next.is_of_known_host() {
                    self.place_as_stranger = self
                        .service
                        .take_place(&self.service.strangers, &self.connection)?;
                }
                self.stage = Stage::ExpectAnswer(evidence, next);
                Ok(Some((
                    AttestAgentResponse {
                        step: Some(Answer::Challenge(send)),
                    },
                    self,
                )))
            }
            Step::Newcomer(newcomer) => Err(self.admit(&evidence, *newcomer).await?),
            Step::Done(attested) => {
                let outcome = self.conclude(evidence, attested).await?;
                Ok(Some((
                    AttestAgentResponse {
                        step: Some(Answer::Result(outcome)),
                    },
                    self,
                )))
            }
        }
    }

    async fn receive_params(&mut self) -> Result<(Evidence, Vec<u8>), Status> {
        let Message::Params(params) = receive(&mut self.messages, FIRST_WITHIN).await? else {
            return Err(Status::invalid_argument("malformed param: missing params"));
        };
        let arrived = Instant::now();
        let kind = params.data.as_ref().map(|data| data.r#type.clone());
        let kind = kind.unwrap_or_default();
        let attestor = self.attestor(&kind);
        // Before anything else is looked at: a connection carries one attempt, whatever its outcome.
        let exporter = match &attestor {
            Some(attestor) if attestor.binds_connection() => {
                let taken = self.connection.take_exporter(arrived);
                Some(taken.map_err(|error| Status::failed_precondition(error.to_string()))?)
            }
            _ => None,
        };
        let (data, csr) = check_params(params)?;
        let attestor = attestor.ok_or_else(|| {
            Status::failed_precondition(format!(
                "error getting node attestor: could not find node attestor type {kind:?}"
            ))
        })?;
        if let (Some(source), Some(key)) = (self.connection.source(), attestor.claimed_key(&data.payload)) {
            self.service.host_limit.check_key(&(source, key), 1)?;
        }
        let request = CertificateRequest::verify(&csr)
            .map_err(|error| status::invalid("failed to parse CSR", &error))?;
        Ok((
            Evidence {
                attestor,
                exporter,
                csr,
                request,
            },
            data.payload,
        ))
    }

    fn attestor(&self, name: &str) -> Option<Arc<dyn NodeAttestor>> {
        let mut attestors = self.service.attestors.iter();
        attestors.find(|attestor| attestor.name() == name).cloned()
    }

    async fn receive_answer(&mut self) -> Result<Vec<u8>, Status> {
        match receive(&mut self.messages, ANSWER_WITHIN).await? {
            Message::ChallengeResponse(answer) => Ok(answer),
            Message::Params(_) => Err(Status::invalid_argument("expected a challenge response")),
        }
    }

    /// Decides on a message of `size` bytes: a large one where that keeps nobody waiting.
    async fn decide(
        &self,
        evidence: &Evidence,
        size: usize,
        decide: impl FnOnce(&Context<'_>) -> Result<Step, Refusal> + Send + 'static,
    ) -> Result<Step, Status> {
        let facts = Facts {
            snapshot: self.service.registry.snapshot(),
            now: self.service.clock.now(),
            exporter: evidence.exporter,
            csr: evidence.csr.clone(),
        };
        let decided = if size < LARGE {
            facts.show(decide)
        } else {
            let _place = self.service.appraisals.acquire().await;
            let decided = tokio::task::spawn_blocking(move || facts.show(decide)).await;
            decided.map_err(|_| Status::unavailable("server is stopping"))?
        };
        match decided {
            Ok(step) => Ok(step),
            Err(refusal) => {
                self.note_refusal(evidence, &refusal).await;
                Err(status::refused(&refusal))
            }
        }
    }

    async fn note_refusal(&self, evidence: &Evidence, refusal: &Refusal) {
        let meters = &self.service.meters;
        meters
            .attestations
            .count([evidence.attestor.name(), refusal.code]);
        meters.refusals.count([refusal.code]);
        let (attestor, address) = (evidence.attestor.name(), self.connection.address_text());
        let reason = edge::Chain(&*refusal.source).to_string();
        info!(
            node_attestor_type = attestor,
            caller_addr = address,
            reject = refusal.code,
            error = reason,
            "Attestation refused"
        );
        // Should it not be stored, the evidence is refused all the same, and a host without evidence is stale soon.
        let condemned = self.service.verdicts.condemn(refusal, &address).await;
        if let Err(error) = condemned {
            error!(%error, reject = refusal.code, "Host not quarantined");
        }
        let (verdicts, source) = (&self.service.verdicts, self.connection.source());
        verdicts.alarm_of(refusal, None, &address, source).await;
        let Some(unrecorded) = self.service.refusals.note(source, refusal.code, Instant::now()) else {
            return;
        };
        let record = Record::new("attestation_refused", &address)
            .with("node_attestor_type", &attestor)
            .with("reject", &refusal.code)
            .with("reason", &reason)
            .with("alike_before", &unrecorded);
        // That the trail can't be written is logged there; the refusal stands.
        let _unaudited = self
            .service
            .registry
            .change(move |draft| draft.audit(record))
            .await;
    }

    /// Notes a TPM of no enrolled host; answers with the refusal.
    async fn admit(&self, evidence: &Evidence, newcomer: Newcomer) -> Result<Status, Status> {
        let address = self
            .connection
            .address()
            .ok_or_else(|| status::bug("a TPM on the local socket"))?;
        let id: HostId = page::new_id().into();
        let admit =
            move |draft: &mut _| host_changes::admit(draft, &newcomer, limit::source(address.ip()), id);
        let admitted = self
            .service
            .registry
            .change(admit)
            .await
            .map_err(|error| status::not_changed(&error))?;
        let refusal = turned_away(admitted);
        self.note_refusal(evidence, &refusal).await;
        Ok(status::refused(&refusal))
    }

    async fn conclude(&self, evidence: Evidence, attested: Attested) -> Result<Outcome, Status> {
        let name = evidence.attestor.name();
        let id = self.agent_id(name, &attested)?;
        self.check_presented(&id)?;
        let mut admitted = self.service.admission.turn(1).await?;
        let ca = &self.service.ca;
        let signing = ca.signing().map_err(|error| status::not_signed(&error))?;
        let key = evidence.request.public_key.clone();
        let template = issue::agent_svid(id.clone(), key, &self.service.lifetimes, ca.occasion(&signing));
        let signed = signing
            .sign(&template)
            .map_err(|error| status::not_signed(&error))?;
        admitted.signed();
        let proven = X509Svid {
            id: id.clone(),
            serial: signed.svid().serial.clone(),
            not_before: signed.svid().not_before,
            not_after: signed.svid().not_after,
        };
        let can_reattest = attested.can_reattest;
        let claimed = claimed(&attested);
        let attestation = self.attestation(name, attested, &proven);
        let ledger = signed.ledger_record(Record::new("svid_issued", &id));
        // Before the host is verified: whoever looks for silence is not to see one that has just spoken.
        if let Some((host, _)) = &claimed {
            self.service.verdicts.pulses.note(host);
        }
        let recorded = self.service.registry.change(move |draft| {
            changes::record_attestation(draft, attestation).map(|()| draft.audit(ledger))
        });
        let recorded = recorded.await.map_err(|error| status::not_changed(&error))?;
        if let Err(error) = recorded {
            self.note_refusal(&evidence, &Refusal::denied(error.code(), error))
                .await;
            return Err(status::not_recorded(error));
        }
        let svid = signed.recorded();
        self.service.ca.note_agent_svid();
        self.service.meters.attestations.count([name, "ok"]);
        if evidence.exporter.is_some() {
            self.connection
                .prove(proven, claimed.as_ref().map(|(_, hello)| *hello));
        }
        info!(agent_id = %id, node_attestor_type = name, serial_num = %svid.serial, expires_at = %svid.not_after,
            caller_addr = self.connection.address_text(), "Agent attested");
        Ok(Outcome {
            svid: Some(convert::svid_to_wire(&svid)),
            reattestable: can_reattest,
        })
    }

    fn agent_id(&self, attestor: &str, attested: &Attested) -> Result<SpiffeId, Status> {
        let trust_domain = self.service.registry.snapshot().trust_domain.clone();
        let id = SpiffeId::new(
            trust_domain,
            &format!("/spire/agent/{attestor}/{}", attested.suffix),
        );
        id.map_err(|error| status::invalid("invalid agent ID", &error))
    }

    /// Whoever shows one agent's SVID does not become another.
    fn check_presented(&self, id: &SpiffeId) -> Result<(), Status> {
        match self.connection.presented() {
            Presented::Proven(svid) | Presented::Svid(svid) if svid.id != *id => {
                Err(Status::permission_denied(
                    "this connection presented the SVID of another ID; attest on a connection without one",
                ))
            }
            _ => Ok(()),
        }
    }

    fn attestation(
        &self,
        attestor: &'static str,
        attested: Attested,
        svid: &X509Svid,
    ) -> changes::Attestation {
        changes::Attestation {
            path: svid.id.shared_path(),
            attestation_type: attestor,
            svid: AgentSvid {
                serial: svid.serial.clone(),
                not_after: svid.not_after,
            },
            selectors: attested
                .selectors_of(attestor)
                .into_iter()
                .collect::<SelectorSet>(),
            can_reattest: attested.can_reattest,
            claims: attested.claims,
            address: self.connection.address_text(),
        }
    }
}

/// The next message of an agent, if it comes in time.
async fn receive(messages: &mut Streaming<AttestAgentRequest>, within: Duration) -> Result<Message, Status> {
    let late = |_| Status::deadline_exceeded(format!("no message from agent in {} s", within.as_secs()));
    let message = timeout(within, messages.message()).await.map_err(late)??;
    message
        .and_then(|message| message.step)
        .ok_or_else(|| Status::invalid_argument("failed to receive request from stream: it ended"))
}

/// Which host an attestation is of, and SHA-256 of what that said first.
fn claimed(attested: &Attested) -> Option<(HostId, [u8; 32])> {
    attested.claims.iter().find_map(|claim| match claim {
        Claim::Host(claim) => Some((Arc::clone(&claim.id), claim.hello)),
        Claim::JoinToken(_) => None,
    })
}

fn check_params(params: Params) -> Result<(AttestationData, Vec<u8>), Status> {
    let malformed = |what: &str| Status::invalid_argument(format!("malformed param: {what}"));
    let data = params.data.ok_or_else(|| malformed("missing attestation data"))?;
    let csr = params
        .params
        .ok_or_else(|| malformed("missing X509-SVID parameters"))?
        .csr;
    if csr.is_empty() {
        return Err(malformed("missing CSR"));
    }
    if data.r#type.is_empty() {
        return Err(malformed("missing attestation data type"));
    }
    if data.payload.is_empty() {
        return Err(malformed("missing attestation data payload"));
    }
    if data.payload.len() > MAX_FIRST || csr.len() > MAX_CSR {
        return Err(malformed("payload or CSR is too long"));
    }
    Ok((data, csr))
}

impl Records for Snapshot {
    fn join_token(&self, token: &str) -> Option<plugin_api::JoinToken> {
        let known = self.tokens.get(&TokenHash::of(token))?;
        Some(plugin_api::JoinToken {
            expires_at: known.expires_at,
        })
    }

    fn host_of_ak(&self, name: &attest::Name) -> Option<Arc<Host>> {
        self.hosts.with_ak(name).cloned()
    }

    fn host_of_ek(&self, hash: &EkHash) -> Option<Arc<Host>> {
        self.hosts.with_ek(hash).cloned()
    }

    fn host_of_certificate(&self, id: &CertificateId) -> Option<Arc<Host>> {
        self.hosts.with_certificate(id).cloned()
    }

    fn policies_of(&self, host: &Host) -> HostPolicies {
        self.policies.of(host)
    }
}

/// What a TPM of no enrolled host is told.
fn turned_away(admitted: Result<Arc<Host>, TooManyPending>) -> Refusal {
    match admitted {
        Ok(host) => Refusal::denied("host_pending", HostPending(Arc::clone(&host.id))),
        Err(too_many) => Refusal::denied("too_many_pending", too_many),
    }
}

#[cfg(test)]
mod tests {
    use svid::Timestamp;
    use tokio::time::Instant;

    use super::{super::silence::silent, *};

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_says_nothing_is_given_up_when_its_window_ends() {
        async fn check(within: Duration, seconds: u64) {
            let begun = Instant::now();
            let refused = receive(&mut silent(), within).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::DeadlineExceeded);
            assert_eq!(begun.elapsed(), Duration::from_secs(seconds));
        }
        check(FIRST_WITHIN, 10).await;
        check(ANSWER_WITHIN, 60).await;
    }

    #[test]
    fn a_tpm_of_no_host_is_told_to_wait_or_that_too_many_do() {
        let host = Host::enrolled("6f9c".into(), Timestamp::from_unix(0));
        let waits = turned_away(Ok(Arc::new(host)));
        assert_eq!(waits.code, "host_pending");
        assert!(waits.source.to_string().contains("6f9c"), "{}", waits.source);
        let refused = turned_away(Err(TooManyPending));
        assert_eq!(refused.code, "too_many_pending");
        let told = status::refused(&refused);
        assert_eq!(told.code(), tonic::Code::PermissionDenied);
        assert!(told.message().contains("(too_many_pending)"), "{told}");
    }
}
