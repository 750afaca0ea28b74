//! The server's half of node attestation: sans-IO. Bytes and what the server knows go in, a [`Step`] comes out.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use attest::{
    Name, Reject,
    ek::{CertificateId, EkHash},
    wire::ClockInfo,
};
use svid::{Selector, Timestamp, TrustDomain};

use crate::{Host, HostClaim, HostPolicies, KernelList, Newcomer, PolicyNotMet};

/// Proves hosts to the server. Never does any I/O: what it needs to know is in the [`Context`].
pub trait NodeAttestor: Send + Sync {
    /// Its name on the wire, such as `tpm`; agents of its hosts are named under `/spire/agent/<name>/`.
    fn name(&self) -> &'static str;

    /// Whether evidence is bound to the connection that it arrives on. If so, a connection carries one
    /// attestation, whatever its outcome.
    fn binds_connection(&self) -> bool;

    /// By which hosts are told apart where their attempts are limited, as the first message says; nothing proves it, and
    /// it costs next to nothing to read. `None` where attempts cost little.
    fn claimed_key(&self, payload: &[u8]) -> Option<[u8; 32]> {
        let _ = payload;
        None
    }

    /// Looks at the first message.
    ///
    /// # Errors
    ///
    /// The host is refused.
    fn start(&self, payload: &[u8], context: &Context<'_>) -> Result<Step, Refusal>;

    /// Looks at the evidence with which the agent at `path` opens its session, on a connection where its host did
    /// not attest. Answers with what becomes of the host's row.
    ///
    /// # Errors
    ///
    /// The host is refused; it may still attest anew.
    fn resume(&self, evidence: &[u8], path: &str, context: &Context<'_>) -> Result<HostClaim, Refusal> {
        let _ = (evidence, path, context);
        Err(Refusal::invalid(
            "unexpected_evidence",
            "hosts of this attestor open sessions without evidence",
        ))
    }

    /// Begins a round of the session of `host`, on a connection where the host proved itself: what it is asked.
    /// `None` if hosts of this attestor give no evidence in their sessions.
    fn begin_round(
        &self,
        host: &Arc<Host>,
        session: &SessionBinding,
        context: &Context<'_>,
    ) -> Option<Asked> {
        let _ = (host, session, context);
        None
    }
}

/// What the evidence in a session is about; kept with the session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionBinding {
    /// TLS exporter of the connection.
    pub exporter: [u8; 32],
    /// SHA-256 of what the host said first on it.
    pub hello: [u8; 32],
    /// The clock and counts that the host's TPM showed last.
    pub clock: ClockInfo,
    /// How far the kernel's list was proven since the host's row was written.
    pub grown: Option<Grown>,
}

/// A kernel's list got longer, and nothing else is new. It need not be stored: whoever forgets it is shown the same
/// entries again, since they are in the PCR.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grown {
    /// The digest over all PCRs, as signed.
    pub pcr_digest: [u8; 32],
    /// How far the list is proven.
    pub list: KernelList,
}

/// A question to a host in its session.
pub struct Asked {
    /// To the host.
    pub send: Vec<u8>,
    /// How long it may take to answer. Who is later said nothing.
    pub within: Duration,
    /// Who looks at the answer.
    pub next: Box<dyn ExpectEvidence>,
}

/// One awaited answer in a session. Consumed by it, so a nonce is spent once.
pub trait ExpectEvidence: Send + Sync {
    /// Looks at the answer.
    ///
    /// # Errors
    ///
    /// The host is refused.
    fn handle(self: Box<Self>, answer: &[u8], context: &Context<'_>) -> Result<Round, Refusal>;
}

/// What a round of a session came to.
pub enum Round {
    /// It takes more to tell.
    Ask(Asked),
    /// Something is new, and accepted.
    Changed(Box<HostClaim>),
    /// The host is what it was, and its kernel's list got longer; its TPM shows this clock.
    Grown(ClockInfo, Box<Grown>),
    /// The host is what it was; its TPM shows this clock.
    Unchanged(ClockInfo),
}

/// One awaited answer. Consumed by it, so a challenge is answered once.
pub trait Expect: Send + Sync {
    /// Whether the host has proven a key by now: it may send logs, and strangers do not take its place.
    fn is_of_known_host(&self) -> bool {
        false
    }

    /// Looks at the answer.
    ///
    /// # Errors
    ///
    /// The host is refused.
    fn handle(self: Box<Self>, answer: &[u8], context: &Context<'_>) -> Result<Step, Refusal>;
}

/// What comes next.
pub enum Step {
    /// Send this, and hand the answer to `next`.
    Challenge {
        /// To the agent.
        send: Vec<u8>,
        /// Who looks at the answer.
        next: Box<dyn Expect>,
    },
    /// The host is who it says it is.
    Done(Attested),
    /// It is a TPM, and of no host that anybody enrolled. It gets nothing but a row that waits for approval.
    Newcomer(Box<Newcomer>),
}

/// Everything that the world may tell a decision.
pub struct Context<'a> {
    /// The time.
    pub now: Timestamp,
    /// The server's trust domain.
    pub trust_domain: &'a TrustDomain,
    /// What the server knows.
    pub records: &'a dyn Records,
    /// TLS exporter of the connection, for attestors that bind to it.
    pub exporter: Option<[u8; 32]>,
    /// The certificate request in DER; its signature is verified.
    pub csr: &'a [u8],
    /// Fresh for this step.
    pub nonce: [u8; 32],
}

/// What the server knows, as of one moment.
pub trait Records: Sync {
    /// A join token that was not used yet.
    fn join_token(&self, token: &str) -> Option<JoinToken>;

    /// The host with an attestation key of this Name.
    fn host_of_ak(&self, name: &Name) -> Option<Arc<Host>>;

    /// The host with this endorsement key.
    fn host_of_ek(&self, hash: &EkHash) -> Option<Arc<Host>>;

    /// The host with an endorsement key of this certificate.
    fn host_of_certificate(&self, id: &CertificateId) -> Option<Arc<Host>>;

    /// The policies that a host is held to.
    fn policies_of(&self, host: &Host) -> HostPolicies;
}

/// A join token that was not used yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct JoinToken {
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A host that an attestor vouches for.
#[derive(Clone, Debug)]
pub struct Attested {
    /// What follows `/spire/agent/<name>/` in the agent's ID.
    pub suffix: String,
    /// Values of selectors; the server gives them the attestor's name as kind.
    pub selectors: Vec<String>,
    /// Whether it renews by attesting again.
    pub can_reattest: bool,
    /// What is true only if it still is when the attestation is stored.
    pub claims: Vec<Claim>,
}

/// Something that an attestation uses up or changes, in the same commit that records it.
#[derive(Clone, Debug)]
pub enum Claim {
    /// What the attestation says of the host's row.
    Host(Box<HostClaim>),
    /// This join token, which must not be used a second time.
    JoinToken(String),
}

impl Attested {
    /// The selectors, of the kind that `attestor` gives.
    #[must_use]
    pub fn selectors_of(&self, attestor: &str) -> Vec<Selector> {
        self.selectors
            .iter()
            .filter_map(|value| Selector::new(attestor, value).ok())
            .collect()
    }
}

/// Evidence was refused: a stable code for the peer, the reason for the log and the audit trail.
#[derive(Debug, thiserror::Error)]
#[error("attestation refused ({code})")]
pub struct Refusal {
    /// Never changes.
    pub code: &'static str,
    /// How it is to be taken.
    pub kind: RefusalKind,
    /// The host that surely said what is refused: its key signed it, for this connection or nonce.
    pub said_by: Option<Arc<str>>,
    /// The revision of that host's row that was decided on.
    pub revision: u64,
    /// The generation of what that host was held to then ([`HostPolicies::generation`]).
    pub policy_generation: u64,
    /// Hosts of which it proves that their keys are at two places: somebody has to look at them.
    pub alarms: Vec<Arc<str>>,
    /// Why.
    pub source: Box<dyn Error + Send + Sync>,
}

/// How a refusal is to be taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefusalKind {
    /// The proof is good, or could be, and the host is not welcome, or not yet.
    Denied,
    /// The message is not what it should be, or proves nothing.
    Invalid,
}

impl Refusal {
    /// A message that is not what it should be.
    pub fn invalid(code: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            code,
            kind: RefusalKind::Invalid,
            said_by: None,
            revision: 0,
            policy_generation: 0,
            alarms: Vec::new(),
            source: source.into(),
        }
    }

    /// A host that is not welcome.
    pub fn denied(code: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            code,
            kind: RefusalKind::Denied,
            said_by: None,
            revision: 0,
            policy_generation: 0,
            alarms: Vec::new(),
            source: source.into(),
        }
    }

    /// What is refused is surely what this host said, which was held to `policies`.
    #[must_use]
    pub fn said_by(self, host: &Host, policies: &HostPolicies) -> Self {
        Self {
            said_by: Some(Arc::clone(&host.id)),
            revision: host.revision,
            policy_generation: policies.generation(),
            ..self
        }
    }

    /// Keys of these hosts are at two places, or one host shows those of another.
    #[must_use]
    pub fn alarming<'a>(self, hosts: impl IntoIterator<Item = &'a Host>) -> Self {
        let alarms = hosts.into_iter().map(|host| Arc::clone(&host.id)).collect();
        Self { alarms, ..self }
    }
}

/// Evidence of a TPM that was refused. What the host surely said of itself, or what it is, is denied; what proves
/// nothing is invalid.
impl From<Reject> for Refusal {
    fn from(reject: Reject) -> Self {
        match reject {
            Reject::AkOfOtherHost
            | Reject::CertificationMissing
            | Reject::EkAdvisory
            | Reject::EkOfOtherHost
            | Reject::FirmwareOlder
            | Reject::ImaBootAggregate
            | Reject::ImaMissing
            | Reject::ImaUnexplained(_)
            | Reject::ImaWeakHash
            | Reject::LogEventData(_)
            | Reject::LogMismatch(..)
            | Reject::LogMissing
            | Reject::LogSeparator(_)
            | Reject::LogUnexplained
            | Reject::PcrUninitialized(_)
            | Reject::TpmCleared
            | Reject::TpmResumed => Self::denied(reject.code(), reject),
            _ => Self::invalid(reject.code(), reject),
        }
    }
}

/// A host that shows surely that it is not what it has to be.
impl From<PolicyNotMet> for Refusal {
    fn from(not_met: PolicyNotMet) -> Self {
        Self::denied(PolicyNotMet::CODE, not_met)
    }
}

impl fmt::Debug for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask(_) => f.write_str("Ask"),
            Self::Changed(claim) => f.debug_tuple("Changed").field(claim).finish(),
            Self::Grown(clock, grown) => f.debug_tuple("Grown").field(clock).field(grown).finish(),
            Self::Unchanged(clock) => f.debug_tuple("Unchanged").field(clock).finish(),
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Challenge { .. } => f.write_str("Challenge"),
            Self::Done(attested) => f.debug_tuple("Done").field(attested).finish(),
            Self::Newcomer(newcomer) => f.debug_tuple("Newcomer").field(newcomer).finish(),
        }
    }
}
