//! Attested agents.

use std::sync::Arc;

use super::HostId;
use svid::{SelectorSet, Timestamp, x509::SerialNumber};

/// An agent that attested, and has not been forgotten since.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Agent {
    /// Path of its SPIFFE ID.
    pub path: Arc<str>,
    /// Attestor that it proved itself to.
    pub attestation_type: String,
    /// The SVID that it uses.
    pub current: AgentSvid,
    /// The SVID that it was given and has not used yet; at first use it becomes the current one. So an answer
    /// that is lost on the way strands nobody.
    pub next: Option<AgentSvid>,
    /// It may not come back.
    pub banned: bool,
    /// It renews its SVID by attesting again.
    pub can_reattest: bool,
    /// What the attestor found.
    pub selectors: SelectorSet,
    /// What it says of itself.
    pub version: String,
    /// The row of its host, for attestors that have one: such an agent proves itself on each connection.
    pub host: Option<HostId>,
    /// When it attested last.
    pub attested_at: Timestamp,
}

/// An SVID of an agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentSvid {
    /// Its serial number.
    pub serial: SerialNumber,
    /// When it ends.
    pub not_after: Timestamp,
}

impl Agent {
    /// Longest version in bytes.
    pub const MAX_VERSION: usize = 255;
}
