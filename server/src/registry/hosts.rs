//! All host rows, indexed by what is asked of them. Cheap to clone: clones share what they have in common.

use std::{hash::Hash, sync::Arc};

use attest::{
    Name,
    ek::{CertificateId, EkHash},
};
use imbl::{HashMap, OrdMap};
use plugin_api::{Enrolment, Host};
use svid::Timestamp;

/// Identifier of a host row.
pub type HostId = Arc<str>;

/// All host rows. No key belongs to two of them, nor does the ID of an agent.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    rows: OrdMap<HostId, Arc<Host>>,
    by_ak: HashMap<Name, HostId>,
    by_ek: HashMap<EkHash, HostId>,
    by_certificate: HashMap<CertificateId, HostId>,
    by_agent_path: HashMap<Arc<str>, HostId>,
    /// Event logs that the store has, by SHA-256, and of how many rows each is.
    logs: HashMap<[u8; 32], usize>,
}

/// SHA-256 of the event log of a row, if the store has that.
pub(super) fn kept_log(host: &Host) -> Option<[u8; 32]> {
    let log = host.appraised.as_ref()?.event_log.as_ref()?;
    log.is_kept.then_some(log.sha256)
}

impl Hosts {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The row with this identifier.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<Host>> {
        self.rows.get(id)
    }

    /// All rows whose identifier comes after `id`, in order; from the first with an empty one.
    pub fn after<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Arc<Host>> {
        let range = (std::ops::Bound::Excluded(id), std::ops::Bound::Unbounded);
        self.rows.range::<_, str>(range).map(|(_, host)| host)
    }

    /// The row with the attestation key of this Name.
    #[must_use]
    pub fn with_ak(&self, name: &Name) -> Option<&Arc<Host>> {
        self.rows.get(self.by_ak.get(name)?)
    }

    /// The row with this endorsement key.
    #[must_use]
    pub fn with_ek(&self, hash: &EkHash) -> Option<&Arc<Host>> {
        self.rows.get(self.by_ek.get(hash)?)
    }

    /// The row with an endorsement key of this certificate.
    #[must_use]
    pub fn with_certificate(&self, id: &CertificateId) -> Option<&Arc<Host>> {
        self.rows.get(self.by_certificate.get(id)?)
    }

    /// The row whose agent has this path.
    #[must_use]
    pub fn with_agent_path(&self, path: &str) -> Option<&Arc<Host>> {
        self.rows.get(self.by_agent_path.get(path)?)
    }

    /// The rows that wait for approval.
    pub fn pending(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.rows.values().filter(|host| !host.is_enrolled())
    }

    /// The pending rows that have ended.
    pub fn ended(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Host>> {
        self.pending().filter(
            move |host| matches!(host.enrolment, Enrolment::Pending { expires_at } if expires_at <= now),
        )
    }

    /// Whether the store has the event log with this SHA-256.
    #[must_use]
    pub fn has_log(&self, sha256: &[u8; 32]) -> bool {
        self.logs.contains_key(sha256)
    }

    /// Adds a row, or replaces the one with its identifier. Its keys and its agent's path belong to no other row.
    pub fn insert(&mut self, host: Arc<Host>) {
        self.remove(&host.id);
        let id = &host.id;
        if let Some(key) = &host.attestation_key {
            self.by_ak.insert(key.name(), Arc::clone(id));
        }
        if let Some(path) = &host.agent_path {
            self.by_agent_path.insert(Arc::clone(path), Arc::clone(id));
        }
        for key in &host.endorsement_keys {
            if let Some(hash) = key.hash {
                self.by_ek.insert(hash, Arc::clone(id));
            }
            if let Some(certificate) = &key.certificate {
                self.by_certificate.insert(certificate.clone(), Arc::clone(id));
            }
        }
        if let Some(log) = kept_log(&host) {
            *self.logs.entry(log).or_insert(0) += 1;
        }
        self.rows.insert(Arc::clone(id), host);
    }

    /// Removes a row.
    pub fn remove(&mut self, id: &str) -> Option<Arc<Host>> {
        let host = self.rows.remove(id)?;
        if let Some(log) = kept_log(&host) {
            match self.logs.get(&log) {
                Some(rows) if *rows > 1 => self.logs.insert(log, rows - 1),
                _ => self.logs.remove(&log),
            };
        }
        if let Some(key) = &host.attestation_key {
            forget(&mut self.by_ak, &key.name(), id);
        }
        if let Some(path) = &host.agent_path {
            forget(&mut self.by_agent_path, path, id);
        }
        for key in &host.endorsement_keys {
            if let Some(hash) = &key.hash {
                forget(&mut self.by_ek, hash, id);
            }
            if let Some(certificate) = &key.certificate {
                forget(&mut self.by_certificate, certificate, id);
            }
        }
        Some(host)
    }
}

/// Takes `key` out, if it leads to the row `id`.
fn forget<K: Clone + Eq + Hash>(index: &mut HashMap<K, HostId>, key: &K, id: &str) {
    if index.get(key).is_some_and(|found| found.as_ref() == id) {
        index.remove(key);
    }
}
