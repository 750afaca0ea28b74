//! The state as it will be if the commit succeeds, and what the commit will write.

use std::sync::Arc;

use plugin_api::Host;
use svid::{Timestamp, x509::RevocationReason};

use super::{
    Agent, Entry, JoinToken, Snapshot, StoredPolicy, TokenHash, Withdrawal, codec, host_codec,
    hosts::kept_log, policy_codec, revocation_codec,
};
use crate::{
    ca::{Authorities, Crl},
    journal::Record,
    store::{Batch, Condition},
};

/// A state that is being changed.
pub struct Draft {
    state: Snapshot,
    now: Timestamp,
    batch: Batch,
    audit: Vec<Record>,
    touched: Vec<Touched>,
}

/// What a change touched, for those to whom it matters.
#[derive(Clone, Debug)]
pub enum Touched {
    /// An agent appeared, changed or is gone.
    Agent(Arc<str>),
    /// The bundle changed.
    Authorities,
    /// A CRL was made.
    Crls,
    /// An entry was added, changed or removed.
    Entry {
        /// As it was.
        old: Option<Arc<Entry>>,
        /// As it is.
        new: Option<Arc<Entry>>,
    },
}

/// What a commit needs.
pub(crate) struct Finished {
    pub(crate) state: Snapshot,
    pub(crate) batch: Batch,
    pub(crate) audit: Vec<Record>,
    pub(crate) touched: Vec<Touched>,
}

impl Draft {
    pub(crate) fn new(state: Snapshot, now: Timestamp) -> Self {
        Self {
            state,
            now,
            batch: Batch::default(),
            audit: Vec::new(),
            touched: Vec::new(),
        }
    }

    pub(crate) fn finish(self) -> Finished {
        Finished {
            state: self.state,
            batch: self.batch,
            audit: self.audit,
            touched: self.touched,
        }
    }

    /// A draft on top of this one that is never committed: whether a change can be made.
    #[must_use]
    pub(super) fn rehearsal(&self) -> Self {
        Self::new(self.state.clone(), self.now)
    }

    /// The state, with what was changed so far.
    #[must_use]
    pub fn state(&self) -> &Snapshot {
        &self.state
    }

    /// The time of the change.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Notes a decision for the audit trail.
    pub fn audit(&mut self, record: Record) {
        self.audit.push(record);
    }

    /// Adds an entry, or replaces the one with its identifier.
    pub fn put_entry(&mut self, entry: Entry) -> Arc<Entry> {
        let entry = self.state.entries.shared(entry);
        self.batch.put(
            codec::entry_key(entry.id()),
            codec::encode_entry(&self.state.trust_domain, &entry),
        );
        let old = self.state.entries.insert(Arc::clone(&entry));
        self.touched.push(Touched::Entry {
            old,
            new: Some(Arc::clone(&entry)),
        });
        entry
    }

    /// Removes an entry.
    pub fn remove_entry(&mut self, id: &str) -> Option<Arc<Entry>> {
        let old = self.state.entries.remove(id)?;
        self.batch.delete(codec::entry_key(id));
        self.touched.push(Touched::Entry {
            old: Some(Arc::clone(&old)),
            new: None,
        });
        Some(old)
    }

    /// Adds an agent, or replaces the one with its path.
    pub fn put_agent(&mut self, agent: Agent) {
        self.batch
            .put(codec::agent_key(&agent.path), codec::encode_agent(&agent));
        self.touched.push(Touched::Agent(Arc::clone(&agent.path)));
        self.state.agents.insert(Arc::clone(&agent.path), Arc::new(agent));
    }

    /// Forgets an agent.
    pub fn remove_agent(&mut self, path: &str) -> Option<Arc<Agent>> {
        let old = self.state.agents.remove(path)?;
        self.batch.delete(codec::agent_key(path));
        self.touched.push(Touched::Agent(Arc::clone(&old.path)));
        Some(old)
    }

    /// Adds a host row, or replaces the one with its identifier; its revision grows.
    pub fn put_host(&mut self, host: Host) -> Arc<Host> {
        let known = self.state.hosts.get(&host.id).cloned();
        let known = known.as_deref();
        let is_judged_anew = known.is_some_and(|known| known.verdict != host.verdict);
        let revision = known.map_or(0, |known| known.revision) + 1;
        let host = Arc::new(Host { revision, ..host });
        if let (true, Some(path)) = (is_judged_anew, &host.agent_path) {
            self.touched.push(Touched::Agent(Arc::clone(path)));
        }
        self.batch
            .put(host_codec::host_key(&host.id), host_codec::encode_host(&host));
        let log_before = known.and_then(kept_log);
        self.state.hosts.insert(Arc::clone(&host));
        self.drop_log(log_before);
        host
    }

    /// Keeps the event log with this SHA-256, once however many hosts have it. A host's row that says so comes next.
    pub fn keep_log(&mut self, sha256: &[u8; 32], content: &[u8]) {
        if !self.state.hosts.has_log(sha256) {
            let value = policy_codec::encode_event_log(content);
            self.batch.put(policy_codec::event_log_key(sha256), value);
        }
    }

    /// Forgets an event log, if no host has it any more.
    fn drop_log(&mut self, sha256: Option<[u8; 32]>) {
        if let Some(gone) = sha256.filter(|sha256| !self.state.hosts.has_log(sha256)) {
            self.batch.delete(policy_codec::event_log_key(&gone));
        }
    }

    /// Adds a policy, or replaces the one of its name.
    pub fn put_policy(&mut self, policy: StoredPolicy) {
        let key = policy_codec::policy_key(&policy.name);
        self.batch.put(key, policy_codec::encode_policy(&policy));
        self.state.policies.insert(policy);
    }

    /// Forgets a host row.
    pub fn remove_host(&mut self, id: &str) -> Option<Arc<Host>> {
        let old = self.state.hosts.remove(id)?;
        self.batch.delete(host_codec::host_key(id));
        self.drop_log(kept_log(&old));
        Some(old)
    }

    /// Adds a join token.
    pub fn put_token(&mut self, hash: TokenHash, token: JoinToken) {
        self.batch
            .put(codec::token_key(&hash), codec::encode_token(token));
        self.state.tokens.insert(hash, token);
    }

    /// Takes a join token away; whoever asks second finds none.
    pub fn take_token(&mut self, hash: &TokenHash) -> Option<JoinToken> {
        let token = self.state.tokens.remove(hash)?;
        self.batch.require(Condition::Present(codec::token_key(hash)));
        self.batch.delete(codec::token_key(hash));
        Some(token)
    }

    /// Forgets a join token that ended.
    pub fn remove_token(&mut self, hash: &TokenHash) {
        self.state.tokens.remove(hash);
        self.batch.delete(codec::token_key(hash));
    }

    /// Notes that an agent lost its standing: what it was given goes on a CRL.
    pub fn withdraw(&mut self, path: &Arc<str>, reason: RevocationReason) {
        let withdrawal = Withdrawal {
            at: self.now,
            reason,
            revision: self.state.revision,
        };
        self.batch.put(
            revocation_codec::withdrawal_key(path),
            revocation_codec::encode_withdrawal(&withdrawal),
        );
        self.state.withdrawals.insert(Arc::clone(path), withdrawal);
    }

    /// Forgets a withdrawal whose CRLs are there, unless there is another one of that agent by now.
    pub fn settle(&mut self, path: &str, settled: &Withdrawal) {
        if self.state.withdrawals.get(path) == Some(settled) {
            self.state.withdrawals.remove(path);
            self.batch.delete(revocation_codec::withdrawal_key(path));
        }
    }

    /// Adds the CRL of an authority, or replaces it.
    pub fn put_crl(&mut self, authority_id: &str, crl: Crl) {
        self.batch.put(
            revocation_codec::crl_key(authority_id),
            revocation_codec::encode_crl(&crl),
        );
        self.state.crls.insert(authority_id.into(), Arc::new(crl));
        self.touched.push(Touched::Crls);
    }

    /// Replaces the authorities. CRLs of those that are gone go with them.
    pub fn put_authorities(&mut self, authorities: Authorities) {
        let is_there = |id: &str| {
            authorities
                .x509
                .iter()
                .any(|authority| authority.authority_id == id)
        };
        let gone: Vec<_> = self
            .state
            .crls
            .keys()
            .filter(|id| !is_there(id))
            .cloned()
            .collect();
        for id in gone {
            self.state.crls.remove(&id);
            self.batch.delete(revocation_codec::crl_key(&id));
        }
        self.batch.put(
            codec::AUTHORITIES.to_vec(),
            codec::encode_authorities(&authorities),
        );
        self.touched.push(Touched::Authorities);
        self.state.authorities = Arc::new(authorities);
    }
}
