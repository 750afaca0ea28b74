//! The changes of host rows: each a decision on a [`Draft`].

mod claims;
mod keys;

use std::{net::IpAddr, sync::Arc, time::Duration};

use attest::policy::PolicyName;
use plugin_api::{EnrolledEk, Enrolment, Host, Newcomer};

use super::{
    Draft, HostId, Hosts, changes,
    consent::{Approvals, Orderer, with_consent},
    policy_changes::{self, PolicyRefused},
};
use crate::journal::Record;
pub use claims::{HostMoved, claim};
pub(super) use keys::{complete, is_same_key, learn, name_of_key, path_of_first, rows_with};

/// How long a host waits for approval.
const PENDING_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often the row of a waiting host that comes back is written anew.
const REFRESH_AFTER: Duration = Duration::from_secs(3600);

/// How many hosts may wait: keys that no root vouches for cost nothing to make.
#[derive(Clone, Copy, Debug)]
struct Cap {
    a_source: usize,
    in_all: usize,
}

const CERTIFIED: Cap = Cap {
    a_source: 4096,
    in_all: 16_384,
};
const UNCERTIFIED: Cap = Cap {
    a_source: 256,
    in_all: 4096,
};

/// Too many hosts wait for approval.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("too many hosts wait for approval; approve or remove some (`plastron-server host list --pending`)")]
pub struct TooManyPending;

/// Below which the agents of hosts have their paths.
pub const AGENT_PATHS: &str = "/spire/agent/tpm/";

/// Notes that a TPM of no enrolled host proved itself, from `source`. `id` is for a new row.
///
/// # Errors
///
/// Too many wait already.
pub fn admit(
    draft: &mut Draft,
    newcomer: &Newcomer,
    source: IpAddr,
    id: HostId,
) -> Result<Arc<Host>, TooManyPending> {
    if let Some(known) = row_of(&draft.state().hosts, newcomer) {
        return Ok(refresh(draft, known, newcomer, source));
    }
    check_caps(
        &draft.state().hosts,
        newcomer.endorsement_key.is_certified,
        source,
    )?;
    let host = Host {
        enrolment: Enrolment::Pending {
            expires_at: draft.now().plus(PENDING_FOR),
        },
        endorsement_keys: vec![newcomer.endorsement_key.clone()],
        last_address: source.to_string(),
        ..Host::enrolled(id, draft.now())
    };
    draft.audit(host_record("host_pending", &host, &source));
    Ok(draft.put_host(host))
}

/// By the endorsement key alone: that two keys came with the same attestation key is only that TPM's word where no
/// root vouches for both, and a key in software opens credentials as well.
fn row_of(hosts: &Hosts, newcomer: &Newcomer) -> Option<Arc<Host>> {
    rows_with(hosts, std::slice::from_ref(&newcomer.endorsement_key))
        .into_iter()
        .next()
}

/// A waiting host that came back waits anew; by now a root may vouch for its key.
fn refresh(draft: &mut Draft, known: Arc<Host>, newcomer: &Newcomer, source: IpAddr) -> Arc<Host> {
    let Enrolment::Pending { expires_at } = known.enrolment else {
        return known;
    };
    let renewed = draft.now().plus(PENDING_FOR);
    let mut host = (*known).clone();
    complete(&mut host.endorsement_keys, &newcomer.endorsement_key);
    if host == *known && renewed.since(expires_at) < REFRESH_AFTER {
        return known;
    }
    host.enrolment = Enrolment::Pending { expires_at: renewed };
    host.last_address = source.to_string();
    draft.put_host(host)
}

fn check_caps(hosts: &Hosts, is_certified: bool, source: IpAddr) -> Result<(), TooManyPending> {
    let cap = if is_certified { CERTIFIED } else { UNCERTIFIED };
    let source = source.to_string();
    // What an operator ordered is nobody's attempt.
    let alike = hosts
        .pending()
        .filter(|host| host.proposal.is_none())
        .filter(|host| host.endorsement_keys.iter().any(|key| key.is_certified) == is_certified);
    let (mut from_there, mut in_all) = (0, 0);
    for host in alike {
        in_all += 1;
        from_there += usize::from(host.last_address == source);
    }
    if in_all >= cap.in_all || from_there >= cap.a_source {
        Err(TooManyPending)
    } else {
        Ok(())
    }
}

/// A host that an operator enrols before it is ever seen.
#[derive(Clone, Debug)]
pub struct NewHost {
    /// Identifier for a new row.
    pub id: HostId,
    /// What the operator calls it; may be empty.
    pub name: String,
    /// By which it is known; at least one.
    pub endorsement_keys: Vec<EnrolledEk>,
    /// Path of its agent's ID; that of its first endorsement key where there is none.
    pub agent_path: Option<Arc<str>>,
    /// The policies that are its own.
    pub policies: Vec<PolicyName>,
}

/// What became of a host that was to be enrolled.
#[derive(Clone, Debug)]
pub enum Imported {
    /// It is enrolled already.
    AlreadyEnrolled(Arc<Host>),
    /// It is enrolled now; a row that waited became it.
    Enrolled(Arc<Host>),
    /// Another host or agent has the ID that it was to have.
    PathTaken(Arc<str>),
    /// It can't be held to these policies.
    Refused(PolicyRefused),
    /// It waits for a second person to order the same.
    Waiting(Arc<Host>),
}

/// Enrols a host.
pub fn import(draft: &mut Draft, new: NewHost, by: &Orderer) -> Imported {
    if let Err(refused) = policy_changes::check_names(&draft.state().policies, &new.policies, "a host") {
        return Imported::Refused(refused);
    }
    let known = rows_with(&draft.state().hosts, &new.endorsement_keys);
    if let Some(enrolled) = known.iter().find(|host| host.is_enrolled()) {
        return Imported::AlreadyEnrolled(Arc::clone(enrolled));
    }
    let path = new
        .agent_path
        .clone()
        .or_else(|| path_of_first(&new.endorsement_keys));
    let own: Vec<_> = known.iter().map(|host| &host.id).collect();
    if let Some(path) = path.filter(|path| is_path_taken(draft, path, &own)) {
        return Imported::PathTaken(path);
    }
    let mut keys = Vec::new();
    new.endorsement_keys
        .into_iter()
        .for_each(|key| learn(&mut keys, key));
    // Of rows that waited, only what is said of the very keys that are enrolled now.
    for waiting in &known {
        draft.remove_host(&waiting.id);
        for key in &waiting.endorsement_keys {
            complete(&mut keys, key);
        }
    }
    let id = known.first().map_or(new.id, |waiting| Arc::clone(&waiting.id));
    let row = Host {
        endorsement_keys: keys,
        policies: new.policies,
        agent_path: new.agent_path,
        ..Host::enrolled(id, draft.now())
    };
    if by.needed == Approvals::One {
        return Imported::Enrolled(enrol(draft, row, new.name, &by.actor));
    }
    let proposal = known.first().and_then(|waiting| waiting.proposal.clone());
    let last_address = known.first().map(|waiting| waiting.last_address.clone());
    let row = draft.put_host(Host {
        name: new.name,
        enrolment: Enrolment::Pending {
            expires_at: draft.now().plus(PENDING_FOR),
        },
        last_address: last_address.unwrap_or_default(),
        proposal,
        ..row
    });
    match approve(draft, &row.id, "", by) {
        Some(host) if host.is_enrolled() => Imported::Enrolled(host),
        Some(host) => Imported::Waiting(host),
        None => Imported::Waiting(row),
    }
}

/// Whether an agent has this ID, or a host that is none of `own`. Of a host that was removed, a ban may be left.
pub(super) fn is_path_taken(draft: &Draft, path: &Arc<str>, own: &[&HostId]) -> bool {
    let state = draft.state();
    let owner = state.hosts.with_agent_path(path);
    let is_other = owner.is_some_and(|owner| !own.contains(&&owner.id));
    is_other || state.agents.contains_key(path)
}

/// Why a host is not approved.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotApproved {
    /// Somebody ordered something else than was shown.
    #[error(
        "what is ordered of this host is not what was shown; look at it again (`plastron-server host show`)"
    )]
    Changed,
    /// There is no such host.
    #[error("host not found")]
    NotFound,
}

/// As [`approve`], of what was `shown` to the person: what was ordered of the host before, empty where nothing was.
///
/// # Errors
///
/// There is no such host, or something else is ordered of it by now.
pub fn approve_shown(
    draft: &mut Draft,
    id: &str,
    name: &str,
    shown: &str,
    by: &Orderer,
) -> Result<Arc<Host>, NotApproved> {
    let host = draft.state().hosts.get(id).ok_or(NotApproved::NotFound)?;
    let ordered = host.proposal.as_ref().map_or("", |first| &first.what);
    if by.needed == Approvals::Two && !host.is_enrolled() && ordered != shown {
        return Err(NotApproved::Changed);
    }
    approve(draft, id, name, by).ok_or(NotApproved::NotFound)
}

/// Enrols a waiting host; gives it `name`, if that is not empty. `None` if there is none.
pub fn approve(draft: &mut Draft, id: &str, name: &str, by: &Orderer) -> Option<Arc<Host>> {
    let host = Arc::clone(draft.state().hosts.get(id)?);
    if host.is_enrolled() && (name.is_empty() || name == host.name) {
        return Some(host);
    }
    let order = |draft: &mut Draft| {
        let host = draft.state().hosts.get(id).cloned();
        host.map(|host| enrol(draft, (*host).clone(), name.into(), &by.actor))
            .ok_or(())
    };
    if host.is_enrolled() {
        // A name is none of what it takes two for.
        return order(draft).ok();
    }
    with_consent(draft, id, &enrolment_of(&host), by, order).ok()
}

/// What is ordered when this row is enrolled as it is.
fn enrolment_of(host: &Host) -> String {
    let keys: Vec<_> = host.endorsement_keys.iter().map(name_of_key).collect();
    let policies: Vec<_> = host.policies.iter().map(ToString::to_string).collect();
    let path = host.agent_path.as_deref().unwrap_or("its first key");
    format!(
        "enrol {} at {path} under [{}]",
        keys.join(", "),
        policies.join(", ")
    )
}

fn enrol(draft: &mut Draft, mut host: Host, name: String, actor: &str) -> Arc<Host> {
    host.enrolment = Enrolment::Enrolled;
    if !name.is_empty() {
        host.name = name;
    }
    draft.audit(host_record("host_enrolled", &host, &actor));
    draft.put_host(host)
}

/// Whether there is an agent at `path`, of no other host than `id`.
pub(super) fn is_agent_of(draft: &Draft, path: &Arc<str>, id: &HostId) -> bool {
    let agent = draft.state().agents.get(path);
    agent.is_some_and(|agent| agent.host.as_ref().is_none_or(|host| host == id))
}

/// Forgets a host, and its agent. `None` if there is none.
pub fn remove(draft: &mut Draft, id: &str, actor: &str) -> Option<Arc<Host>> {
    let host = draft.remove_host(id)?;
    draft.audit(host_record("host_removed", &host, &actor));
    // An agent at its path that is another's stays.
    let agent = host
        .agent_path
        .as_ref()
        .filter(|path| is_agent_of(draft, path, &host.id));
    if let Some(path) = agent {
        let _gone = changes::delete_agent(draft, path, actor);
    }
    Some(host)
}

/// Forgets the hosts that nobody approved in time.
pub(super) fn prune(draft: &mut Draft) {
    let ended: Vec<_> = draft.state().hosts.ended(draft.now()).cloned().collect();
    for host in ended {
        draft.remove_host(&host.id);
        draft.audit(host_record("host_expired", &host, &"server"));
    }
}

pub(super) fn host_record(event: &'static str, host: &Host, actor: &impl ToString) -> Record {
    let hashes = host
        .endorsement_keys
        .iter()
        .filter_map(|key| key.hash.map(|hash| hash.to_string()));
    let certificates = host
        .endorsement_keys
        .iter()
        .filter_map(|key| key.certificate.as_ref().map(ToString::to_string));
    Record::new(event, actor)
        .with("host_id", &host.id)
        .with("host_name", &host.name)
        .with("ek_hash", &hashes.collect::<Vec<_>>().join(","))
        .with("ek_certificate", &certificates.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests;
