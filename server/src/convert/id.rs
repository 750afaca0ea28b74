//! SPIFFE IDs.

use proto::spire::api::types::Spiffeid;
use svid::{SpiffeId, SpiffeIdError, TrustDomain, TrustDomainError};

/// An ID on the wire can't be used where it stands.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdError {
    /// It belongs to another trust domain.
    #[error("{id:?} is not a member of trust domain {trust_domain:?}")]
    Foreign {
        /// The ID.
        id: String,
        /// The trust domain it should belong to.
        trust_domain: String,
    },
    /// It is no SPIFFE ID.
    #[error(transparent)]
    Malformed(#[from] SpiffeIdError),
    /// It was left out.
    #[error("request must specify SPIFFE ID")]
    Missing,
    /// It is the trust domain's own.
    #[error("{0:?} is not a workload or node; path is empty")]
    NoPath(String),
    /// An agent's ID lies in the agent namespace.
    #[error("{0:?} is not an agent; path is not in the agent namespace")]
    NotAgent(String),
    /// Only servers and agents have such IDs.
    #[error("{0:?} is not a workload; path is in the reserved namespace")]
    Reserved(String),
}

impl From<TrustDomainError> for IdError {
    fn from(error: TrustDomainError) -> Self {
        Self::Malformed(error.into())
    }
}

/// Reads the ID of a node or workload of `trust_domain`.
///
/// # Errors
///
/// It is missing, malformed, foreign, or has no path.
pub fn member_id(trust_domain: &TrustDomain, wire: Option<&Spiffeid>) -> Result<SpiffeId, IdError> {
    let wire = wire.ok_or(IdError::Missing)?;
    let id = SpiffeId::new(TrustDomain::parse(&wire.trust_domain)?, &wire.path)?;
    if !id.is_member_of(trust_domain) {
        return Err(IdError::Foreign {
            id: id.to_string(),
            trust_domain: trust_domain.to_string(),
        });
    }
    if id.path().is_empty() {
        return Err(IdError::NoPath(id.to_string()));
    }
    Ok(id)
}

/// Reads the ID of a workload of `trust_domain`.
///
/// # Errors
///
/// As [`member_id`], or it is reserved.
pub fn workload_id(trust_domain: &TrustDomain, wire: Option<&Spiffeid>) -> Result<SpiffeId, IdError> {
    let id = member_id(trust_domain, wire)?;
    if id.is_reserved() {
        Err(IdError::Reserved(id.to_string()))
    } else {
        Ok(id)
    }
}

/// Reads the ID of an agent of `trust_domain`.
///
/// # Errors
///
/// As [`member_id`], or it is not in the agent namespace.
pub fn agent_id(trust_domain: &TrustDomain, wire: Option<&Spiffeid>) -> Result<SpiffeId, IdError> {
    let id = member_id(trust_domain, wire)?;
    if id.path().starts_with("/spire/agent/") {
        Ok(id)
    } else {
        Err(IdError::NotAgent(id.to_string()))
    }
}

/// Writes the ID with `path` of `trust_domain`.
#[must_use]
pub fn id_to_wire(trust_domain: &TrustDomain, path: &str) -> Spiffeid {
    Spiffeid {
        trust_domain: trust_domain.to_string(),
        path: path.into(),
    }
}
