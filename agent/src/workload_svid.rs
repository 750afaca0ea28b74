//! SVIDs of workloads, as the agent keeps and serves them.

use proto::bytes::Bytes;
use svid::Timestamp;
use zeroize::Zeroizing;

/// An X509-SVID with its key.
pub struct WorkloadSvid {
    /// Certificates in DER, leaf first, concatenated: the form of the Workload API.
    pub chain: Bytes,
    /// PKCS#8.
    pub key: Zeroizing<Vec<u8>>,
    /// When it ends.
    pub not_after: Timestamp,
    /// When it is to be replaced.
    pub renew_at: Timestamp,
    /// What the key of the root that it rests on is called, if it says so.
    pub signed_by: Option<Vec<u8>>,
    /// The revision of the entry that it was signed for.
    pub revision: i64,
}

impl std::fmt::Debug for WorkloadSvid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkloadSvid")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}
