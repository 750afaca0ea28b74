//! Agents that lost their standing.

use svid::{Timestamp, x509::RevocationReason};

/// An agent lost its standing, and what it was given is not on a CRL yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Withdrawal {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
    /// The revision of the state before: tells it from another one of the same agent.
    pub revision: u64,
}
