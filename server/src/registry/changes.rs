//! The changes that callers ask for: each a decision on a [`Draft`].

use std::sync::Arc;

use plugin_api::{Claim, HostEvent};
use svid::{SelectorSet, SpiffeId, Timestamp, x509::RevocationReason};

use super::{
    Agent, AgentSvid, Draft, Entry, JoinToken, PathKey, TokenHash,
    hardware::{self, Mixed},
    host_changes,
};
use crate::{journal::Record, registry::host_changes::HostMoved};

/// What became of an entry that was to be created.
#[derive(Clone, Debug)]
pub enum Created {
    /// One that says the same is there already.
    AlreadyExists(Arc<Entry>),
    /// Its identifier is taken by another one.
    IdTaken,
    /// Its SPIFFE ID is given by hardware, or it would be.
    Mixed(Mixed),
    /// It is new.
    New(Arc<Entry>),
}

/// Creates `entry` for `actor`.
pub fn create_entry(draft: &mut Draft, entry: Entry, actor: &str) -> Created {
    let same_id = draft.state().entries.with_spiffe_id(&entry.spiffe_id.path);
    if let Some(similar) = same_id.into_iter().find(|other| other.is_similar(&entry)) {
        return Created::AlreadyExists(Arc::clone(similar));
    }
    if draft.state().entries.get(entry.id()).is_some() {
        return Created::IdTaken;
    }
    if let Err(mixed) = hardware::check(draft.state(), &entry) {
        return Created::Mixed(mixed);
    }
    draft.audit(entry_record("entry_created", &entry, actor));
    Created::New(draft.put_entry(Entry {
        revision: 0,
        created_at: draft.now(),
        ..entry
    }))
}

/// Replaces the entry that has the identifier of what `update` makes of it. `None` if there is none.
pub fn update_entry<E: From<Mixed>>(
    draft: &mut Draft,
    id: &str,
    actor: &str,
    update: impl FnOnce(&Entry) -> Result<Entry, E>,
) -> Option<Result<Arc<Entry>, E>> {
    let old = Arc::clone(draft.state().entries.get(id)?);
    let updated = match update(&old) {
        Ok(entry) => Entry {
            revision: old.revision + 1,
            created_at: old.created_at,
            ..entry
        },
        Err(error) => return Some(Err(error)),
    };
    if let Err(mixed) = hardware::check(draft.state(), &updated) {
        return Some(Err(mixed.into()));
    }
    draft.audit(entry_record("entry_updated", &updated, actor));
    Some(Ok(draft.put_entry(updated)))
}

/// Removes an entry. `None` if there is none.
pub fn delete_entry(draft: &mut Draft, id: &str, actor: &str) -> Option<()> {
    let old = draft.remove_entry(id)?;
    draft.audit(entry_record("entry_deleted", &old, actor));
    Some(())
}

/// Removes the entries and tokens that ended.
pub fn prune(draft: &mut Draft) {
    let now = draft.now();
    let ended: Vec<_> = draft.state().entries.ended(now).cloned().collect();
    for entry in ended {
        if draft.remove_entry(entry.id()).is_some() {
            draft.audit(entry_record("entry_expired", &entry, "server"));
        }
    }
    let tokens = draft.state().tokens.iter();
    let ended: Vec<_> = tokens
        .filter(|(_, token)| token.expires_at <= now)
        .map(|(hash, _)| *hash)
        .collect();
    for hash in ended {
        draft.remove_token(&hash);
    }
    host_changes::prune(draft);
}

/// A join token that is to be created.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its text.
    pub token: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// An entry that gives the token's agent another ID as well: its identifier and that ID.
    pub alias: Option<(Arc<str>, SpiffeId)>,
}

/// Why there is no token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoToken {
    /// It, or the agent of one with its text, is there already.
    #[error("failed to create token: it exists, or its agent does")]
    Exists,
    /// Its agent would have an ID that stands for hardware.
    #[error("failed to create token: {0}")]
    Mixed(#[from] Mixed),
}

/// Creates a join token for `actor`.
///
/// # Errors
///
/// It is there already, or gives its agent what stands for hardware.
pub fn create_token(
    draft: &mut Draft,
    new: &NewToken,
    agent_path: &Arc<str>,
    actor: &str,
) -> Result<(), NoToken> {
    let hash = TokenHash::of(&new.token);
    if draft.state().tokens.contains_key(&hash) || draft.state().agents.contains_key(agent_path) {
        return Err(NoToken::Exists);
    }
    let alias = new.alias.as_ref();
    let alias = alias.map(|(id, alias)| alias_entry(draft, Arc::clone(id), alias, agent_path));
    if let Some(entry) = &alias {
        hardware::check(draft.state(), entry)?;
    }
    let record = Record::new("join_token_created", &actor).with("expires_at", &new.expires_at);
    draft.audit(record);
    draft.put_token(
        hash,
        JoinToken {
            expires_at: new.expires_at,
        },
    );
    if let Some(entry) = alias {
        draft.audit(entry_record("entry_created", &entry, actor));
        draft.put_entry(entry);
    }
    Ok(())
}

/// As SPIRE makes it: child of the token's agent, with that agent's ID as selector.
fn alias_entry(draft: &Draft, id: Arc<str>, alias: &SpiffeId, agent_path: &Arc<str>) -> Entry {
    let agent_id = format!("spiffe://{}{agent_path}", draft.state().trust_domain);
    let selector = svid::Selector::new("spiffe_id", &agent_id);
    Entry {
        spiffe_id: PathKey {
            path: alias.shared_path(),
            id: Arc::clone(&id),
        },
        parent_id: PathKey {
            path: Arc::clone(agent_path),
            id,
        },
        selectors: selector.into_iter().collect(),
        created_at: draft.now(),
        ..Entry::default()
    }
}

/// An attestation that succeeded, up to its being stored.
#[derive(Clone, Debug)]
pub struct Attestation {
    /// Path of the agent's SPIFFE ID.
    pub path: Arc<str>,
    /// Attestor.
    pub attestation_type: &'static str,
    /// The SVID that it is given.
    pub svid: AgentSvid,
    /// What the attestor found.
    pub selectors: SelectorSet,
    /// Whether it renews by attesting again.
    pub can_reattest: bool,
    /// What must still hold for it to count.
    pub claims: Vec<Claim>,
    /// From where.
    pub address: String,
}

/// Why an attestation that succeeded does not count after all.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotRecorded {
    /// The agent is banned.
    #[error("failed to attest: agent is banned")]
    Banned,
    /// The host is not what it was when it was looked at.
    #[error("failed to attest: {0}")]
    Host(#[from] HostMoved),
    /// Somebody else used the token in the meantime.
    #[error("failed to attest: join token does not exist or has already been used")]
    TokenUsed,
}

impl NotRecorded {
    /// The stable code: for the audit trail, and scripts.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Banned => "agent_banned",
            Self::Host(HostMoved::Changed) => "host_changed",
            Self::Host(HostMoved::KeyTaken) => "ek_of_other_host",
            Self::Host(HostMoved::MustAttest) => "host_must_attest",
            Self::Host(HostMoved::PathTaken) => "agent_id_of_other_host",
            Self::Host(HostMoved::PolicyChanged) => "policy_changed",
            Self::Host(HostMoved::Quarantined) => "host_quarantined",
            Self::TokenUsed => "join_token_unknown",
        }
    }
}

/// Records an attestation.
///
/// # Errors
///
/// The agent is banned, or its token was used in the meantime.
pub fn record_attestation(draft: &mut Draft, attestation: Attestation) -> Result<(), NotRecorded> {
    let known = draft.state().agents.get(&attestation.path).cloned();
    if known.as_ref().is_some_and(|agent| agent.banned) {
        return Err(NotRecorded::Banned);
    }
    let host = attestation.claims.iter().find_map(|claim| match claim {
        Claim::Host(claim) => Some(Arc::clone(&claim.id)),
        Claim::JoinToken(_) => None,
    });
    // An ID belongs to one host for as long as its agent is known.
    if known.as_ref().is_some_and(|agent| agent.host != host) {
        return Err(NotRecorded::Host(HostMoved::KeyTaken));
    }
    let svid_key = attestation.claims.iter().find_map(|claim| match claim {
        Claim::Host(claim) => claim.svid_key,
        Claim::JoinToken(_) => None,
    });
    for claim in attestation.claims {
        match claim {
            Claim::Host(claim) => {
                let (path, address) = (&attestation.path, &attestation.address);
                host_changes::claim(draft, *claim, HostEvent::Attested, path, address)?;
            }
            Claim::JoinToken(token) => {
                draft
                    .take_token(&TokenHash::of(&token))
                    .ok_or(NotRecorded::TokenUsed)?;
            }
        }
    }
    let mut record = Record::new("agent_attested", &spiffe_id(draft, &attestation.path))
        .with("node_attestor_type", &attestation.attestation_type)
        .with("serial_num", &attestation.svid.serial)
        .with("expires_at", &attestation.svid.not_after)
        .with("caller_addr", &attestation.address);
    if let Some(host) = &host {
        record = record.with("host_id", host);
    }
    if let Some(place) = svid_key {
        record = record.with("svid_key", &place.name());
    }
    draft.audit(record);
    draft.put_agent(Agent {
        path: attestation.path,
        attestation_type: attestation.attestation_type.into(),
        current: attestation.svid,
        next: None,
        banned: false,
        can_reattest: attestation.can_reattest,
        selectors: attestation.selectors,
        version: known.map(|agent| agent.version.clone()).unwrap_or_default(),
        host,
        attested_at: draft.now(),
    });
    Ok(())
}

/// Notes the SVID that a renewing agent is given. `None` if the agent is gone or banned.
pub fn renew_agent(draft: &mut Draft, path: &str, svid: &AgentSvid) -> Option<()> {
    let agent = draft.state().agents.get(path).filter(|agent| !agent.banned)?;
    let agent = Agent {
        next: Some(svid.clone()),
        ..(**agent).clone()
    };
    let record = Record::new("agent_renewed", &spiffe_id(draft, path))
        .with("serial_num", &svid.serial)
        .with("expires_at", &svid.not_after);
    draft.audit(record);
    draft.put_agent(agent);
    Some(())
}

/// Makes the SVID that an agent was given last its current one, at its first use.
pub fn promote_svid(draft: &mut Draft, path: &str, serial: &svid::x509::SerialNumber) {
    let Some(agent) = draft.state().agents.get(path) else {
        return;
    };
    let Some(next) = agent.next.clone().filter(|next| next.serial == *serial) else {
        return;
    };
    let agent = Agent {
        current: next,
        next: None,
        ..(**agent).clone()
    };
    draft.put_agent(agent);
}

/// Notes what version an agent says it is. `None` if it is gone.
pub fn note_version(draft: &mut Draft, path: &str, version: &str) -> Option<()> {
    let agent = draft.state().agents.get(path)?;
    if agent.version != version {
        let agent = Agent {
            version: version.into(),
            ..(**agent).clone()
        };
        draft.put_agent(agent);
    }
    Some(())
}

/// Forgets an agent; it may attest again. `None` if there is none.
pub fn delete_agent(draft: &mut Draft, path: &str, actor: &str) -> Option<()> {
    let old = draft.remove_agent(path)?;
    draft.withdraw(&old.path, RevocationReason::CessationOfOperation);
    let id = spiffe_id(draft, path);
    // The alias that was made with its join token goes with it, as in SPIRE.
    let parent = Arc::from(path);
    let aliases = draft.state().entries.children(&parent);
    let made_with_token = |entry: &&Arc<Entry>| {
        entry.selectors.len() == 1
            && entry
                .selectors
                .iter()
                .all(|selector| selector.kind() == "spiffe_id" && selector.value() == id)
    };
    let aliases: Vec<_> = aliases
        .filter(made_with_token)
        .map(|entry| Arc::clone(entry.id()))
        .collect();
    for alias in aliases {
        let _gone = delete_entry(draft, &alias, actor);
    }
    draft.audit(Record::new("agent_deleted", &actor).with("agent_id", &id));
    Some(())
}

/// Forbids an agent to come back. `None` if there is none.
pub fn ban_agent(draft: &mut Draft, path: &str, actor: &str) -> Option<()> {
    let agent = draft.state().agents.get(path)?;
    let agent = Agent {
        banned: true,
        next: None,
        ..(**agent).clone()
    };
    draft.audit(Record::new("agent_banned", &actor).with("agent_id", &spiffe_id(draft, path)));
    draft.withdraw(&agent.path, RevocationReason::PrivilegeWithdrawn);
    draft.put_agent(agent);
    Some(())
}

fn entry_record(event: &'static str, entry: &Entry, actor: &str) -> Record {
    let selectors: Vec<_> = entry.selectors.iter().map(ToString::to_string).collect();
    Record::new(event, &actor)
        .with("entry_id", entry.id())
        .with("spiffe_id", &entry.spiffe_id.path)
        .with("parent_id", &entry.parent_id.path)
        .with("selectors", &selectors.join(","))
        .with("revision", &entry.revision)
}

fn spiffe_id(draft: &Draft, path: &str) -> String {
    format!("spiffe://{}{path}", draft.state().trust_domain)
}
