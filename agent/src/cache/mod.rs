//! What the agent knows and has: entries, bundles, SVIDs with their keys. One task owns it and publishes each
//! state; streams of workloads read the newest.

mod decide;
mod entry;
mod keeper;

use std::{collections::BTreeMap, sync::Arc};

use svid::{Bundle, Roots, SelectorSet, Standing};

pub use decide::{due, renewal_of, tainted};
pub use entry::{CachedEntry, EntryError};
pub use keeper::{Deliveries, Delivery, Keeper, KeeperHandle, Pushed, SignError, Signer};

use crate::workload_svid::WorkloadSvid;

/// Everything at one moment. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// The bundle of our trust domain; `None` until the server sent it.
    pub bundle: Option<Arc<Bundle>>,
    /// The roots of the bundle, to look up what became of an SVID's.
    pub roots: Arc<Roots>,
    /// What the host may have, by identifier.
    pub entries: BTreeMap<Arc<str>, Arc<CachedEntry>>,
    /// SVIDs, by identifier of their entry.
    pub svids: BTreeMap<Arc<str>, Arc<WorkloadSvid>>,
    /// The server was heard since the start, or state of before survives.
    pub is_synced: bool,
}

impl Cache {
    /// What became of the authority that signed `svid`.
    #[must_use]
    pub fn standing(&self, svid: &WorkloadSvid) -> Standing {
        match self.bundle {
            Some(_) => self.roots.standing(svid.signed_by.as_deref()),
            None => Standing::Good,
        }
    }

    /// The entries that a workload with these selectors may have, oldest first, so that the default identity is
    /// stable.
    #[must_use]
    pub fn matching(&self, attested: &SelectorSet) -> Vec<&Arc<CachedEntry>> {
        let mut matching: Vec<_> = self
            .entries
            .values()
            .filter(|entry| entry.selectors.is_subset(attested))
            .collect();
        matching.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        matching
    }
}
