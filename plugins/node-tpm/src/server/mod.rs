//! The server's side: the conversation, each of whose states takes the proof of the one before.

mod appraise;
mod blame;
mod config;
mod expect;
mod ima;
mod keys;
mod list;
mod outcome;
mod rounds;
mod subject;
mod svid_key;
mod tpm;
mod trust;

use std::sync::Arc;

use attest::{
    CertifiedKey, EvidenceKind, PcrSelection, Reject, VerifiedAk, VerifiedQuote,
    credential::IssuedCredential, hello_digest,
};
use plugin_api::{
    Appraised, Asked, Context, EnrolledEk, Host, HostClaim, NodeAttestor, Refusal, SessionBinding, Step,
};
use prost::Message;
use proto::{bytes::Bytes, plastron::attest::v1 as wire};

use crate::{
    NAME, NO_NONCE,
    wire::{OfferedEk, Opening, first_endorsement_key},
};
use appraise::{Appraisal, Offered, sha256};
use blame::blamed_at_first;
pub use config::{Config, EventLogs};
use expect::{ExpectCredential, ExpectSupplied};
pub use ima::KernelLists;
use subject::Subject;
use trust::Trust;
pub use trust::{CrlPolicy, TrustError, TrustProblem};

/// Accepts enrolled hosts whose TPM proves them, and whose event log explains their PCRs.
pub struct TpmAttestor(Arc<Rules>);

/// What hosts are judged by.
#[derive(Debug)]
struct Rules {
    trust: Trust,
    pcrs: PcrSelection,
    /// Whether the same PCRs of every active bank are quoted.
    all_banks: bool,
    event_logs: EventLogs,
    kernel_lists: KernelLists,
    /// Whether a host may sleep.
    accept_suspend: bool,
    /// Whether the keys of SVIDs have to be in TPMs.
    require_tpm_svid_key: bool,
}

/// A host whose attestation key is proven.
struct Proven {
    host: Arc<Host>,
    ak: VerifiedAk,
    /// The endorsement key with which a credential was recovered now.
    activated: Option<EnrolledEk>,
    /// The key that is in the TPM, and that an SVID is asked for.
    svid_key: Option<CertifiedKey>,
}

/// A payload of another plugin of the same name.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("payload is JSON, as the TPM plugin of SPIRE's community sends it; this host needs plastron-agent")]
struct JsonPayload;

/// A session opens with what was accepted before, or not at all.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("PCRs or event log are not those of the last attestation; attest anew")]
struct NewEvidence;

/// The server binds no evidence: it is no TLS connection.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("connection has no TLS exporter to bind evidence to")]
struct NoExporter;

impl NodeAttestor for TpmAttestor {
    fn name(&self) -> &'static str {
        NAME
    }

    fn binds_connection(&self) -> bool {
        true
    }

    fn claimed_key(&self, payload: &[u8]) -> Option<[u8; 32]> {
        first_endorsement_key(payload).map(|public| sha256(&public))
    }

    fn start(&self, payload: &[u8], context: &Context<'_>) -> Result<Step, Refusal> {
        let (opening, subject) = open(payload, EvidenceKind::Attest, context)?;
        let Some((host, ak)) = keys::recognise(&opening, context.records)? else {
            return self.challenge(opening, subject, context);
        };
        let proven = Proven {
            host,
            ak,
            activated: None,
            svid_key: None,
        };
        Rules::judge(&self.0, proven, opening, subject, context)
    }

    fn resume(&self, evidence: &[u8], path: &str, context: &Context<'_>) -> Result<HostClaim, Refusal> {
        let (opening, subject) = open(evidence, EvidenceKind::Session, context)?;
        if opening.svid_key.is_some() {
            // No SVID is asked for.
            return Err(Reject::Unexpected.into());
        }
        let (host, ak) = keys::recognise(&opening, context.records)?.ok_or(Reject::AkOfOtherHost)?;
        let proven = Proven {
            host,
            ak,
            activated: None,
            svid_key: None,
        };
        let offered = Offered::of(&opening);
        let quote = opening.quote.verify(&proven.ak, &subject.binding(&NO_NONCE))?;
        if proven.host.agent_path.as_deref() != Some(path) {
            return Err(Refusal::from(Reject::AkOfOtherHost).alarming([&*proven.host]));
        }
        keys::check_listed(&opening.endorsement_keys, &proven.host, context.records)?;
        self.0
            .check_certificate(&quote, &proven, &opening.endorsement_keys, context.now)?;
        match self.0.appraise_first(quote, &proven, &offered, context)? {
            Appraisal::Accepted(accepted) if is_explained(&accepted.appraised, &proven.host) => {
                self.0.check_svid_key_noted(&proven.host)?;
                Ok(proven.claim(*accepted, subject.hello))
            }
            Appraisal::Accepted(_) | Appraisal::Open(_) => Err(Refusal::invalid("evidence_new", NewEvidence)),
        }
    }

    fn begin_round(
        &self,
        host: &Arc<Host>,
        session: &SessionBinding,
        context: &Context<'_>,
    ) -> Option<Asked> {
        rounds::begin(&self.0, host, session, context)
    }
}

/// Whether a log tells the PCRs, or they are as they were when the host was accepted without one.
fn is_explained(appraised: &Appraised, host: &Host) -> bool {
    let is_as_before = |before: &Appraised| {
        (&before.selection, before.pcr_digest) == (&appraised.selection, appraised.pcr_digest)
    };
    appraised.event_log.is_some() || host.appraised.as_ref().is_some_and(is_as_before)
}

/// Reads a first message, and checks that it is about this connection before anything costs more.
fn open(payload: &[u8], kind: EvidenceKind, context: &Context<'_>) -> Result<(Opening, Subject), Refusal> {
    if payload.first() == Some(&b'{') {
        return Err(Refusal::invalid("json_payload", JsonPayload));
    }
    let opening = Opening::parse(payload)?;
    let exporter = context
        .exporter
        .ok_or_else(|| Refusal::invalid("not_bound", NoExporter))?;
    let subject = Subject {
        kind,
        exporter,
        csr: context.csr.into(),
        hello: hello_digest(&opening.hello),
    };
    opening.quote.check_binding(&subject.binding(&NO_NONCE))?;
    Ok((opening, subject))
}

impl TpmAttestor {
    /// Asks the TPM for proof that it holds both the attestation key and an endorsement key.
    fn challenge(&self, opening: Opening, subject: Subject, context: &Context<'_>) -> Result<Step, Refusal> {
        let ek: OfferedEk = keys::choose(&opening.endorsement_keys, context.records)
            .ok_or(Reject::Unexpected)?
            .clone();
        let (credential, blob) = IssuedCredential::issue(ek.key.public(), opening.attestation_key.name())?;
        let activate = wire::Activate {
            endorsement_key_name: Bytes::copy_from_slice(credential.endorsement_key().as_bytes()),
            credential_blob: blob.credential_blob.into(),
            secret: blob.secret.into(),
        };
        Ok(Step::Challenge {
            send: challenge(wire::challenge::Step::Activate(activate)),
            next: Box::new(ExpectCredential {
                rules: Arc::clone(&self.0),
                opening,
                subject,
                ek,
                credential,
            }),
        })
    }
}

fn challenge(step: wire::challenge::Step) -> Vec<u8> {
    wire::Challenge { step: Some(step) }.encode_to_vec()
}

impl Rules {
    /// Appraises a quote that is the first of its connection. What is refused from here on, the host surely said.
    fn appraise_first(
        &self,
        quote: VerifiedQuote,
        proven: &Proven,
        offered: &Offered,
        context: &Context<'_>,
    ) -> Result<Appraisal, Refusal> {
        let host = &proven.host;
        let policies = context.records.policies_of(host);
        let continuity = self.check_continuity(&quote, host);
        let appraisal = continuity.and_then(|()| self.appraise(quote, host, offered, &policies));
        appraisal.map_err(|reject| blamed_at_first(Refusal::from(reject), host, &policies))
    }

    /// Verifies the first quote of a host that is known, and asks for more where it takes more.
    fn judge(
        rules: &Arc<Self>,
        mut proven: Proven,
        opening: Opening,
        subject: Subject,
        context: &Context<'_>,
    ) -> Result<Step, Refusal> {
        let offered = Offered::of(&opening);
        let quote = opening.quote.verify(&proven.ak, &subject.binding(&NO_NONCE))?;
        keys::check_listed(&opening.endorsement_keys, &proven.host, context.records)?;
        // What booted comes first: a key that does not count hides nothing that the host surely said.
        let svid_key = rules.check_svid_key(opening.svid_key, &proven.ak, &subject);
        rules.check_certificate(&quote, &proven, &opening.endorsement_keys, context.now)?;
        // One that proves nothing harms nobody who is known otherwise: it only tells nothing.
        let certified = |proven: &Proven| {
            let keys = &opening.endorsement_keys;
            let attributes = keys::attributes(keys, proven, &rules.trust.roots, context.now);
            attributes.ok().flatten()
        };
        match rules.appraise_first(quote, &proven, &offered, context)? {
            Appraisal::Accepted(mut accepted) => {
                if accepted.lacks_certified() {
                    accepted.add_certified(certified(&proven).as_ref());
                }
                proven.svid_key = svid_key?;
                Ok(Step::Done(proven.attested(*accepted, subject.hello)))
            }
            Appraisal::Open(mut missing) => {
                missing.certified = certified(&proven);
                let awaited = ExpectSupplied {
                    rules: Arc::clone(rules),
                    proven,
                    svid_key,
                    subject,
                    nonce: context.nonce,
                    missing: *missing,
                };
                Ok(awaited.ask())
            }
        }
    }
}
