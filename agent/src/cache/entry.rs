//! Entries, as the agent keeps them.

use std::sync::Arc;

use proto::spire::api::types;
use svid::{
    DnsName, DnsNameError, Selector, SelectorError, SelectorSet, SpiffeId, SpiffeIdError, TrustDomain,
    TrustDomainError,
};

/// What a workload on this host may have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CachedEntry {
    /// Its identifier.
    pub id: Arc<str>,
    /// The SPIFFE ID that it gives.
    pub spiffe_id: SpiffeId,
    /// What its SVID names besides.
    pub dns_names: Arc<[DnsName]>,
    /// What a workload must show.
    pub selectors: SelectorSet,
    /// Grows with each update.
    pub revision: i64,
    /// When it was made, in seconds since the epoch.
    pub created_at: i64,
    /// Tells entries of one workload apart.
    pub hint: String,
    /// The SVID is signed only when somebody asks.
    pub on_demand: bool,
    /// The SVID is for a store of secrets; no workload gets it from here.
    pub is_for_store: bool,
}

/// An entry of the server can't be used.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// A DNS name is wrong.
    #[error("DNS name is not usable")]
    DnsName(#[from] DnsNameError),
    /// The SPIFFE ID is wrong.
    #[error("SPIFFE ID is not usable")]
    Id(#[from] SpiffeIdError),
    /// A field is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A selector is wrong.
    #[error("selector is not usable")]
    Selector(#[from] SelectorError),
    /// The trust domain is wrong.
    #[error("trust domain is not usable")]
    TrustDomain(#[from] TrustDomainError),
}

impl TryFrom<types::Entry> for CachedEntry {
    type Error = EntryError;

    fn try_from(wire: types::Entry) -> Result<Self, EntryError> {
        let id = wire.spiffe_id.ok_or(EntryError::Missing("spiffe_id"))?;
        let selector = |selector: &types::Selector| Selector::new(&selector.r#type, &selector.value);
        Ok(Self {
            id: wire.id.into(),
            spiffe_id: SpiffeId::new(TrustDomain::parse(&id.trust_domain)?, &id.path)?,
            dns_names: wire
                .dns_names
                .iter()
                .map(|name| name.parse())
                .collect::<Result<_, _>>()?,
            selectors: wire
                .selectors
                .iter()
                .map(selector)
                .collect::<Result<SelectorSet, _>>()?,
            revision: wire.revision_number,
            created_at: wire.created_at,
            hint: wire.hint,
            on_demand: wire
                .additional_attributes
                .is_some_and(|attributes| attributes.disable_x509_svid_prefetch),
            is_for_store: wire.store_svid,
        })
    }
}
