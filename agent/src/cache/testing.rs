//! Entries and SVIDs for tests.

use std::sync::Arc;

use svid::{Selector, SpiffeId, Timestamp};
use zeroize::Zeroizing;

use super::CachedEntry;
use crate::workload_svid::WorkloadSvid;

/// What the tests' workload shows.
pub(crate) const SELECTOR: &str = "unix:uid:1000";

/// An entry of the tests' workload.
pub(crate) fn entry(id: &str, path: &str) -> CachedEntry {
    CachedEntry {
        id: id.into(),
        spiffe_id: SpiffeId::parse(&format!("spiffe://td{path}")).unwrap(),
        dns_names: [].into(),
        selectors: [SELECTOR.parse::<Selector>().unwrap()].into_iter().collect(),
        revision: 0,
        created_at: 0,
        hint: String::new(),
        on_demand: false,
        is_for_store: false,
    }
}

/// An SVID as signed for `entry`, good for ever.
pub(crate) fn svid(entry: &CachedEntry) -> WorkloadSvid {
    WorkloadSvid {
        signed_by: None,
        spiffe_id: entry.spiffe_id.clone(),
        dns_names: Arc::clone(&entry.dns_names),
        chain: entry.spiffe_id.to_string().into_bytes().into(),
        key: Zeroizing::default(),
        not_before: Timestamp::from_unix(0),
        not_after: Timestamp::NEVER,
        renew_at: Timestamp::NEVER,
        revision: entry.revision,
    }
}
