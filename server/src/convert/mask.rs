//! Output masks: fields that were not asked for are left empty.

use proto::spire::api::types::{Agent, AgentMask, Bundle, BundleMask, Entry, EntryMask};

/// Every field.
pub const ALL_ENTRY_FIELDS: EntryMask = EntryMask {
    spiffe_id: true,
    parent_id: true,
    selectors: true,
    x509_svid_ttl: true,
    federates_with: true,
    admin: true,
    downstream: true,
    expires_at: true,
    dns_names: true,
    revision_number: true,
    store_svid: true,
    jwt_svid_ttl: true,
    hint: true,
    created_at: true,
    additional_attributes: true,
};

/// Empties each named field whose mask is off.
macro_rules! empty_unmasked {
    ($message:ident, $mask:ident, $($field:ident),+ $(,)?) => {
        $(if !$mask.$field {
            $message.$field = Default::default();
        })+
    };
}

/// Masks an entry; its identifier always stays.
#[must_use]
pub fn mask_entry(mut entry: Entry, mask: Option<&EntryMask>) -> Entry {
    let Some(mask) = mask else { return entry };
    empty_unmasked!(
        entry,
        mask,
        spiffe_id,
        parent_id,
        selectors,
        x509_svid_ttl,
        federates_with,
        admin,
        downstream,
        expires_at,
        dns_names,
        revision_number,
        store_svid,
        jwt_svid_ttl,
        hint,
        created_at,
        additional_attributes,
    );
    entry
}

/// Masks an agent; its ID always stays.
#[must_use]
pub fn mask_agent(mut agent: Agent, mask: Option<&AgentMask>) -> Agent {
    let Some(mask) = mask else { return agent };
    empty_unmasked!(
        agent,
        mask,
        attestation_type,
        x509svid_serial_number,
        x509svid_expires_at,
        selectors,
        banned,
        can_reattest,
        agent_version,
    );
    agent
}

/// Masks a bundle; its trust domain always stays.
#[must_use]
pub fn mask_bundle(mut bundle: Bundle, mask: Option<&BundleMask>) -> Bundle {
    let Some(mask) = mask else { return bundle };
    empty_unmasked!(
        bundle,
        mask,
        x509_authorities,
        jwt_authorities,
        refresh_hint,
        sequence_number,
        wit_authorities,
    );
    bundle
}
