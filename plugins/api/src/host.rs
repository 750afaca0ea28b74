//! Host rows: the machines that may attest with a TPM, as the server remembers them.

use std::sync::Arc;

use attest::{
    Name, PcrSelection, PcrValues, Standing,
    ek::{CaKey, CertificateId, EkHash, TpmAttributes},
    ima::Progress,
    policy::PolicyName,
    wire::{ClockInfo, Public},
};
use svid::Timestamp;

use crate::{PolicyStanding, Verdict};

/// Where the key of an agent's SVID is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SvidKeyPlace {
    /// In the host's TPM, which said so: nobody takes it away.
    Tpm,
    /// Nobody has shown that: in the agent's memory.
    Unproven,
}

impl SvidKeyPlace {
    /// As the audit trail has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
            Self::Unproven => "unproven",
        }
    }
}

/// A host. Known by its endorsement keys; its row never changes its identifier.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    /// Chosen when the row was made.
    pub id: Arc<str>,
    /// What the operator calls it; may be empty.
    pub name: String,
    /// Whether it may attest.
    pub enrolment: Enrolment,
    /// By which it is known. The agent's ID comes from the first.
    pub endorsement_keys: Vec<EnrolledEk>,
    /// The attestation key that was activated under one of them, once one was.
    pub attestation_key: Option<Public>,
    /// When the row was made.
    pub created_at: Timestamp,
    /// When it attested last.
    pub last_attested_at: Option<Timestamp>,
    /// From where it was last seen; may be empty.
    pub last_address: String,
    /// What its last accepted evidence said.
    pub appraised: Option<Appraised>,
    /// Path of its agent's SPIFFE ID, once it attested.
    pub agent_path: Option<Arc<str>>,
    /// Where the key of its agent's SVID is, once it attested.
    pub svid_key: Option<SvidKeyPlace>,
    /// The policies that it is held to; where there are none, those that are for all.
    pub policies: Vec<PolicyName>,
    /// What is thought of it.
    pub verdict: Verdict,
    /// The last sign that one of its keys is at two places.
    pub alarm: Option<Alarm>,
    /// What one person ordered, where it takes two.
    pub proposal: Option<Proposal>,
    /// Grows with each change of the row.
    pub revision: u64,
}

/// An order that waits for a second person.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proposal {
    /// What was ordered.
    pub what: String,
    /// By whom.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// A sign that a key is at two places.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Alarm {
    /// Stable code.
    pub code: String,
    /// What was seen, in an operator's words.
    pub text: String,
    /// When.
    pub at: Timestamp,
    /// How many there were, with this one.
    pub count: u64,
}

/// Whether a host may attest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Enrolment {
    /// An operator enrolled it.
    Enrolled,
    /// It proved its endorsement key, and nobody has approved it.
    Pending {
        /// When the row is dropped.
        expires_at: Timestamp,
    },
}

/// An endorsement key by which a host is known: by its hash, by its certificate, or by both.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EnrolledEk {
    /// Hash of the key.
    pub hash: Option<EkHash>,
    /// Its certificate.
    pub certificate: Option<CertificateId>,
    /// Whether the certificate led to a root.
    pub is_certified: bool,
    /// Key of the CA that issued the certificate: names are text, which other CAs can take.
    pub issuer_key: Option<CaKey>,
    /// What a certificate that led to a root says of its TPM.
    pub attributes: Option<TpmAttributes>,
    /// Its Name, once a credential was recovered with it.
    pub name: Option<Name>,
}

/// What the last accepted evidence said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Appraised {
    /// What it said of the TPM itself: later evidence is compared with it.
    pub standing: Standing,
    /// Which PCRs were quoted.
    pub selection: PcrSelection,
    /// The digest over their values, as signed.
    pub pcr_digest: [u8; 32],
    /// By which generation of what is required of the host it was accepted.
    pub policy_generation: u64,
    /// What it came to under each policy.
    pub policies: Vec<PolicyStanding>,
    /// What it says of the node, as values of selectors, sorted.
    pub selectors: Vec<String>,
    /// The event log that explained them: its SHA-256, and the values that it replays to.
    pub event_log: Option<KnownLog>,
    /// How far the kernel's measurement list (IMA) was proven by the same quote, where that is looked at.
    pub kernel_list: Option<KernelList>,
}

/// How far the kernel's measurement list of a host is proven: where it goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KernelList {
    /// The boot, how many entries, and what they left in the PCRs.
    pub progress: Progress,
    /// How many bytes these entries take.
    pub bytes: u64,
    /// How many of them are violations.
    pub violations: u64,
}

/// An event log that replayed to a verified quote.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownLog {
    /// SHA-256 of the log.
    pub sha256: [u8; 32],
    /// The PCR values that it explains.
    pub values: PcrValues,
    /// Whether the server has its bytes.
    pub is_kept: bool,
}

impl KernelList {
    /// Nothing is proven since the boot that the TPM counts as `reset_count`.
    #[must_use]
    pub fn of_boot(reset_count: u32) -> Self {
        Self {
            progress: Progress::of_boot(reset_count),
            bytes: 0,
            violations: 0,
        }
    }

    /// Whether it is of the same boot as `other`, and further.
    #[must_use]
    pub fn is_beyond(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.progress, &other.progress);
        ours.reset_count() == theirs.reset_count() && ours.entries() > theirs.entries()
    }
}

impl Appraised {
    /// What is left of it where the TPM's clock, counts and firmware are to be taken as they come.
    #[must_use]
    pub fn without_standing(self) -> Self {
        let clock = ClockInfo {
            clock: 0,
            reset_count: 0,
            restart_count: 0,
            safe: false,
        };
        let standing = Standing {
            clock,
            firmware_version: 0,
        };
        Self { standing, ..self }
    }
}

impl Host {
    /// Most endorsement keys of a host: TPMs have one for each template, and few have more than four.
    pub const MAX_KEYS: usize = 16;

    /// A row of a host that is enrolled, and of which nothing else is known.
    #[must_use]
    pub fn enrolled(id: Arc<str>, now: Timestamp) -> Self {
        Self {
            id,
            name: String::new(),
            enrolment: Enrolment::Enrolled,
            endorsement_keys: Vec::new(),
            attestation_key: None,
            created_at: now,
            last_attested_at: None,
            last_address: String::new(),
            appraised: None,
            agent_path: None,
            svid_key: None,
            policies: Vec::new(),
            verdict: Verdict::first(now),
            alarm: None,
            proposal: None,
            revision: 0,
        }
    }

    /// Whether it may attest.
    #[must_use]
    pub fn is_enrolled(&self) -> bool {
        self.enrolment == Enrolment::Enrolled
    }

    /// Whether it is known by this key.
    #[must_use]
    pub fn has_ek(&self, hash: &EkHash) -> bool {
        self.endorsement_keys
            .iter()
            .any(|key| key.hash.as_ref() == Some(hash))
    }

    /// The endorsement key that it has a certificate of this name for.
    #[must_use]
    pub fn ek_of_certificate(&self, id: &CertificateId) -> Option<&EnrolledEk> {
        self.endorsement_keys
            .iter()
            .find(|key| key.certificate.as_ref() == Some(id))
    }

    /// The endorsement key on record: the first with which a credential was recovered.
    #[must_use]
    pub fn endorsement_key_name(&self) -> Option<&Name> {
        self.endorsement_keys.iter().find_map(|key| key.name.as_ref())
    }
}

/// What an attestation says of its host's row; it counts only if the row is still as it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostClaim {
    /// Which row.
    pub id: Arc<str>,
    /// The revision of the row that was decided on.
    pub revision: u64,
    /// The endorsement key with which a credential was recovered in this attestation.
    pub activated: Option<EnrolledEk>,
    /// The attestation key.
    pub attestation_key: Public,
    /// What the evidence said.
    pub appraised: Appraised,
    /// Where the key is that an SVID is signed for, if one is.
    pub svid_key: Option<SvidKeyPlace>,
    /// The event log, where it came: the bytes of the one in `appraised`.
    pub event_log: Option<Arc<[u8]>>,
    /// SHA-256 of what the host said first on this connection: its later evidence there covers it, too.
    pub hello: [u8; 32],
}

/// A TPM that is proven to be one, and belongs to no enrolled host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Newcomer {
    /// The endorsement key with which a credential was recovered.
    pub endorsement_key: EnrolledEk,
}
