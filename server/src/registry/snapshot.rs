//! The state at one revision.

use std::sync::Arc;

use imbl::OrdMap;
use svid::{TrustDomain, x509::SerialNumber};

use super::{Agent, Entries, Hosts, JoinToken, Policies, TokenHash, Withdrawal};
use crate::ca::{Authorities, Crl};

/// Everything at one revision. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The server's trust domain: all paths belong to it.
    pub trust_domain: TrustDomain,
    /// IDs may be given both by hardware and without, as the configuration says.
    pub mixed: bool,
    /// Which revision of the store this is.
    pub revision: u64,
    /// All entries.
    pub entries: Entries,
    /// All agents, by the path of their SPIFFE ID.
    pub agents: OrdMap<Arc<str>, Arc<Agent>>,
    /// All hosts that may attest, or wait for approval.
    pub hosts: Hosts,
    /// What hosts may have booted.
    pub policies: Policies,
    /// All tokens that were not used yet.
    pub tokens: OrdMap<TokenHash, JoinToken>,
    /// The server's signing authorities.
    pub authorities: Arc<Authorities>,
    /// The newest CRL of each X.509 authority, by the authority's identifier.
    pub crls: OrdMap<Arc<str>, Arc<Crl>>,
    /// Agents that lost their standing, by the path of their SPIFFE ID, until CRLs say so.
    pub withdrawals: OrdMap<Arc<str>, Withdrawal>,
}

impl Snapshot {
    /// Nothing.
    #[must_use]
    pub fn empty(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            mixed: false,
            revision: 0,
            entries: Entries::default(),
            agents: OrdMap::new(),
            hosts: Hosts::default(),
            policies: Policies::default(),
            tokens: OrdMap::new(),
            authorities: Arc::default(),
            crls: OrdMap::new(),
            withdrawals: OrdMap::new(),
        }
    }

    /// Whether a CRL names the certificate with this serial number. Looks through all of them.
    #[must_use]
    pub fn is_revoked(&self, serial: &SerialNumber) -> bool {
        let mut revoked = self.crls.values().flat_map(|crl| &crl.content.revoked);
        revoked.any(|revoked| revoked.serial == *serial)
    }
}
