//! Registration entries.

use std::{sync::Arc, time::Duration};

use proto::spire::api::types;
use svid::{DnsNameError, SelectorError, Timestamp, TrustDomain, TrustDomainError};

use super::{
    ALL_ENTRY_FIELDS, IdError, id_to_wire, member_id, selectors_from_wire, selectors_to_wire, workload_id,
};
use crate::registry::{Attributes, Entry, EntryId};

/// A field of an entry is wrong.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EntryFieldError {
    /// A DNS name.
    #[error("invalid DNS name")]
    DnsName(#[from] DnsNameError),
    /// A trust domain that it federates with.
    #[error("invalid federated trust domain")]
    FederatesWith(#[from] TrustDomainError),
    /// The hint is longer than the Workload API carries.
    #[error("hint is too long, max length is {max} characters", max = Entry::MAX_HINT)]
    HintTooLong,
    /// The identifier holds something other than letters, digits, `-`, `.` and `_`.
    #[error("invalid registration entry: entry ID contains invalid characters")]
    IdCharacters,
    /// The identifier is too long.
    #[error("invalid registration entry: entry ID too long")]
    IdTooLong,
    /// There is nothing.
    #[error("missing entry")]
    Missing,
    /// A stored SVID is for one kind of selector.
    #[error("invalid registration entry: selector types must be the same when store SVID is enabled")]
    MixedSelectors,
    /// More names, selectors or trust domains than any workload needs.
    #[error("too many {0}, at most {max} are allowed", max = MAX_ITEMS)]
    MoreThanAllowed(&'static str),
    /// A lifetime is negative.
    #[error("invalid registration entry: {0} is negative")]
    NegativeTtl(&'static str),
    /// There are no selectors.
    #[error("selector list is empty")]
    NoSelectors,
    /// The parent's ID.
    #[error("invalid parent ID")]
    ParentId(#[source] IdError),
    /// A selector.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// The SPIFFE ID.
    #[error("invalid spiffe ID")]
    SpiffeId(#[source] IdError),
    /// Prefetching says nothing where the agent stores the SVID anyway.
    #[error("specifying cache behaviour is incompatible with storable SVIDs")]
    StoredPrefetch,
}

/// Most selectors, DNS names or trust domains in an entry.
const MAX_ITEMS: usize = 256;

/// Reads the fields of `wire` that `mask` names, the others from `base`; its identifier is `id`.
///
/// # Errors
///
/// A field is wrong, or the entry as a whole.
pub fn entry_from_wire(
    trust_domain: &TrustDomain,
    id: EntryId,
    wire: &types::Entry,
    mask: &types::EntryMask,
    base: &Entry,
) -> Result<Entry, EntryFieldError> {
    check_id(&id)?;
    let mut entry = base.clone();
    if mask.parent_id {
        let parent_id = member_id(trust_domain, wire.parent_id.as_ref());
        entry.parent_id.path = parent_id.map_err(EntryFieldError::ParentId)?.shared_path();
    }
    if mask.spiffe_id {
        let spiffe_id = workload_id(trust_domain, wire.spiffe_id.as_ref());
        entry.spiffe_id.path = spiffe_id.map_err(EntryFieldError::SpiffeId)?.shared_path();
    }
    entry.parent_id.id = Arc::clone(&id);
    entry.spiffe_id.id = id;
    read_lists(wire, mask, &mut entry)?;
    read_scalars(wire, mask, &mut entry)?;
    check_whole(&entry)?;
    Ok(entry)
}

/// Reads an entry as the store keeps it.
///
/// # Errors
///
/// A field is wrong.
pub fn entry_from_store(trust_domain: &TrustDomain, wire: &types::Entry) -> Result<Entry, EntryFieldError> {
    let id = EntryId::from(wire.id.as_str());
    let mut entry = entry_from_wire(trust_domain, id, wire, &ALL_ENTRY_FIELDS, &Entry::default())?;
    entry.revision = wire.revision_number;
    entry.created_at = Timestamp::from_unix(wire.created_at);
    Ok(entry)
}

/// Writes an entry.
#[must_use]
pub fn entry_to_wire(trust_domain: &TrustDomain, entry: &Entry) -> types::Entry {
    types::Entry {
        id: entry.id().as_ref().into(),
        spiffe_id: Some(id_to_wire(trust_domain, &entry.spiffe_id.path)),
        parent_id: Some(id_to_wire(trust_domain, &entry.parent_id.path)),
        selectors: selectors_to_wire(&entry.selectors),
        x509_svid_ttl: ttl_to_wire(entry.x509_svid_ttl),
        federates_with: entry.federates_with.iter().map(ToString::to_string).collect(),
        admin: entry.admin,
        downstream: entry.downstream,
        expires_at: entry.expires_at.map_or(0, Timestamp::as_unix),
        dns_names: entry.dns_names.iter().map(ToString::to_string).collect(),
        revision_number: entry.revision,
        store_svid: entry.store_svid,
        jwt_svid_ttl: ttl_to_wire(entry.jwt_svid_ttl),
        hint: entry.hint.clone(),
        created_at: entry.created_at.as_unix(),
        additional_attributes: entry
            .attributes
            .map(|attributes| types::entry::AdditionalAttributes {
                disable_x509_svid_prefetch: attributes.disable_x509_svid_prefetch,
                jwt_svid_include_jti: attributes.jwt_svid_include_jti,
            }),
    }
}

fn read_lists(
    wire: &types::Entry,
    mask: &types::EntryMask,
    entry: &mut Entry,
) -> Result<(), EntryFieldError> {
    if mask.selectors {
        check_count(wire.selectors.len(), "selectors")?;
        entry.selectors = selectors_from_wire(&wire.selectors)?;
    }
    if mask.dns_names {
        check_count(wire.dns_names.len(), "DNS names")?;
        entry.dns_names = wire
            .dns_names
            .iter()
            .map(|name| name.parse())
            .collect::<Result<_, _>>()?;
    }
    if mask.federates_with {
        check_count(wire.federates_with.len(), "federated trust domains")?;
        let names = wire.federates_with.iter();
        entry.federates_with = names
            .map(|name| TrustDomain::parse_name_or_id(name))
            .collect::<Result<_, _>>()?;
    }
    Ok(())
}

fn read_scalars(
    wire: &types::Entry,
    mask: &types::EntryMask,
    entry: &mut Entry,
) -> Result<(), EntryFieldError> {
    if mask.x509_svid_ttl {
        entry.x509_svid_ttl = ttl_from_wire(wire.x509_svid_ttl, "X509-SVID TTL")?;
    }
    if mask.jwt_svid_ttl {
        entry.jwt_svid_ttl = ttl_from_wire(wire.jwt_svid_ttl, "JWT-SVID TTL")?;
    }
    if mask.expires_at {
        entry.expires_at = (wire.expires_at != 0).then(|| Timestamp::from_unix(wire.expires_at));
    }
    if mask.admin {
        entry.admin = wire.admin;
    }
    if mask.downstream {
        entry.downstream = wire.downstream;
    }
    if mask.store_svid {
        entry.store_svid = wire.store_svid;
    }
    if mask.hint {
        entry.hint.clone_from(&wire.hint);
    }
    if mask.additional_attributes {
        entry.attributes = wire.additional_attributes.map(|attributes| Attributes {
            disable_x509_svid_prefetch: attributes.disable_x509_svid_prefetch,
            jwt_svid_include_jti: attributes.jwt_svid_include_jti,
        });
    }
    Ok(())
}

fn check_whole(entry: &Entry) -> Result<(), EntryFieldError> {
    let Some(first) = entry.selectors.iter().next() else {
        return Err(EntryFieldError::NoSelectors);
    };
    if entry.hint.len() > Entry::MAX_HINT {
        return Err(EntryFieldError::HintTooLong);
    }
    if entry.store_svid {
        if entry
            .attributes
            .is_some_and(|attributes| attributes.disable_x509_svid_prefetch)
        {
            return Err(EntryFieldError::StoredPrefetch);
        }
        if entry
            .selectors
            .iter()
            .any(|selector| selector.kind() != first.kind())
        {
            return Err(EntryFieldError::MixedSelectors);
        }
    }
    Ok(())
}

fn check_id(id: &str) -> Result<(), EntryFieldError> {
    if id.len() > Entry::MAX_ID {
        return Err(EntryFieldError::IdTooLong);
    }
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
    if id.bytes().all(allowed) {
        Ok(())
    } else {
        Err(EntryFieldError::IdCharacters)
    }
}

fn check_count(count: usize, what: &'static str) -> Result<(), EntryFieldError> {
    if count > MAX_ITEMS {
        Err(EntryFieldError::MoreThanAllowed(what))
    } else {
        Ok(())
    }
}

fn ttl_from_wire(seconds: i32, name: &'static str) -> Result<Option<Duration>, EntryFieldError> {
    let seconds = u64::try_from(seconds).map_err(|_| EntryFieldError::NegativeTtl(name))?;
    Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
}

fn ttl_to_wire(ttl: Option<Duration>) -> i32 {
    ttl.map_or(0, |ttl| i32::try_from(ttl.as_secs()).unwrap_or(i32::MAX))
}
