//! What the agent knows and has: entries, bundles, SVIDs with their keys. One task owns it and publishes each
//! state; streams of workloads read the newest.

mod crls;
mod decide;
mod deliveries;
mod entry;
mod keeper;
mod pace;
#[cfg(test)]
pub(crate) mod testing;

use std::{collections::BTreeMap, sync::Arc};

use proto::bytes::Bytes;
use svid::{Bundle, Roots, SelectorSet, Standing};

pub use decide::can_serve;
pub use deliveries::{Deliveries, Delivery};
pub use entry::{CachedEntry, EntryError};
pub use keeper::{Keeper, KeeperHandle, Pushed, SignError, Signer, Signing};

use crate::workload_svid::WorkloadSvid;

/// Everything at one moment. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// Grows with each state.
    pub number: u64,
    /// The bundle of our trust domain; `None` until the server sent it.
    pub bundle: Option<Arc<Bundle>>,
    /// The roots of the bundle, to look up what became of an SVID's.
    pub roots: Arc<Roots>,
    /// The newest CRL of each authority, in DER.
    pub crls: Arc<[Bytes]>,
    /// What the host may have, by identifier.
    pub entries: BTreeMap<Arc<str>, Arc<CachedEntry>>,
    /// SVIDs, by identifier of their entry; each names what its entry gives now.
    pub svids: BTreeMap<Arc<str>, Arc<WorkloadSvid>>,
    /// There is something to go by: the server was heard since the start, or what was kept over it was opened.
    pub is_synced: bool,
    /// It is what was kept over the start: the server was not heard since.
    pub is_restored: bool,
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
            .filter(|entry| !entry.is_for_store && entry.selectors.is_subset(attested))
            .collect();
        matching.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        matching
    }

    /// The SVID of an entry; never one that names something else than the entry does now.
    #[must_use]
    pub fn svid(&self, entry: &CachedEntry) -> Option<&Arc<WorkloadSvid>> {
        self.svids.get(&entry.id).filter(|svid| svid.is_of(entry))
    }
}
