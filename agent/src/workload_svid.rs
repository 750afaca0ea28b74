//! SVIDs of workloads, as the agent keeps and serves them.

use std::sync::Arc;

use proto::bytes::Bytes;
use svid::{DnsName, SpiffeId, Timestamp};
use zeroize::Zeroizing;

use crate::cache::CachedEntry;

/// An X509-SVID with its key.
pub struct WorkloadSvid {
    /// Whom it names.
    pub spiffe_id: SpiffeId,
    /// What it names besides.
    pub dns_names: Arc<[DnsName]>,
    /// Certificates in DER, leaf first, concatenated: the form of the Workload API.
    pub chain: Bytes,
    /// PKCS#8.
    pub key: Zeroizing<Vec<u8>>,
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// When it is to be replaced.
    pub renew_at: Timestamp,
    /// What the key of the root that it rests on is called, if it says so.
    pub signed_by: Option<Vec<u8>>,
    /// The revision of the entry that it was signed for.
    pub revision: i64,
}

impl WorkloadSvid {
    /// Whether it names what `entry` gives now. One that does not is of another identity: an entry that was changed
    /// must not hand it to whom it matches since.
    #[must_use]
    pub fn is_of(&self, entry: &CachedEntry) -> bool {
        self.spiffe_id == entry.spiffe_id && self.dns_names == entry.dns_names
    }
}

impl std::fmt::Debug for WorkloadSvid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkloadSvid")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}
