//! Registration entries.

use std::{sync::Arc, time::Duration};

use svid::{DnsName, SelectorSet, Timestamp, TrustDomain};

/// An entry's identifier: 1 to 255 letters, digits, `-`, `.` or `_`.
pub type EntryId = Arc<str>;

/// Path of the server's own SPIFFE ID; as a parent it makes an entry a node alias.
pub const SERVER_PATH: &str = "/spire/server";

/// Who gets which SPIFFE ID. Paths are those of SPIFFE IDs in the server's own trust domain.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entry {
    /// Its SPIFFE ID's path, and its own identifier.
    pub spiffe_id: PathKey,
    /// Its parent's path, and its own identifier.
    pub parent_id: PathKey,
    /// What a workload (or node, for an alias) must show.
    pub selectors: SelectorSet,
    /// Lifetime of its X509-SVIDs; `None` for the default.
    pub x509_svid_ttl: Option<Duration>,
    /// Lifetime of its JWT-SVIDs; `None` for the default.
    pub jwt_svid_ttl: Option<Duration>,
    /// Whose bundles its workloads get.
    pub federates_with: Vec<TrustDomain>,
    /// Its SVID may administer the server.
    pub admin: bool,
    /// Its SVID may ask for a CA certificate.
    pub downstream: bool,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// DNS names in its X509-SVIDs.
    pub dns_names: Vec<DnsName>,
    /// Grows with each update, from 0.
    pub revision: i64,
    /// Its SVIDs go to a store of the agent instead of to workloads.
    pub store_svid: bool,
    /// Tells entries of one workload apart.
    pub hint: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Rarely used switches, kept apart from their absence.
    pub attributes: Option<Attributes>,
}

/// `additional_attributes` of the wire.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Attributes {
    /// Agents sign it on demand only.
    pub disable_x509_svid_prefetch: bool,
    /// Its JWT-SVIDs carry a `jti`.
    pub jwt_svid_include_jti: bool,
}

/// A path and an entry's identifier: orders entries by path.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct PathKey {
    /// The path.
    pub path: Arc<str>,
    /// The entry.
    pub id: EntryId,
}

impl Entry {
    /// Longest hint in bytes (Workload API §5.2.1).
    pub const MAX_HINT: usize = 1024;
    /// Longest identifier in bytes.
    pub const MAX_ID: usize = 255;

    /// Its identifier.
    #[must_use]
    pub fn id(&self) -> &EntryId {
        &self.spiffe_id.id
    }

    /// Whether it names nodes rather than workloads.
    #[must_use]
    pub fn is_node_alias(&self) -> bool {
        self.parent_id.path.as_ref() == SERVER_PATH
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Whether `other` says the same of the same workload on the same node: a second one adds nothing.
    #[must_use]
    pub fn is_similar(&self, other: &Self) -> bool {
        self.spiffe_id.path == other.spiffe_id.path
            && self.parent_id.path == other.parent_id.path
            && self.selectors == other.selectors
    }
}
