//! Attested agents.

use proto::spire::api::types;
use svid::TrustDomain;

use super::{id_to_wire, selectors_to_wire};
use crate::registry::Agent;

/// Writes an agent.
#[must_use]
pub fn agent_to_wire(trust_domain: &TrustDomain, agent: &Agent) -> types::Agent {
    types::Agent {
        id: Some(id_to_wire(trust_domain, &agent.path)),
        attestation_type: agent.attestation_type.clone(),
        // SPIRE bans an agent by emptying its serial number, and tools look at that.
        x509svid_serial_number: if agent.banned {
            String::new()
        } else {
            agent.current.serial.to_string()
        },
        x509svid_expires_at: agent.current.not_after.as_unix(),
        selectors: selectors_to_wire(&agent.selectors),
        banned: agent.banned,
        can_reattest: agent.can_reattest,
        agent_version: agent.version.clone(),
    }
}
