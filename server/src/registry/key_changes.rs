//! What operators change of the endorsement keys of an enrolled host: each a decision on a [`Draft`]. The row stays what
//! it is, and so does its agent's ID.

use std::sync::Arc;

use plugin_api::{EnrolledEk, Host, HostEvent};
use svid::x509::RevocationReason;

use super::{
    Draft, HostId,
    alarms::{self, Alarming},
    consent::{Orderer, with_consent},
    host_changes::{
        complete, host_record, is_agent_of, is_path_taken, is_same_key, learn, name_of_key, path_of_first,
        rows_with,
    },
};

/// As [`replace_tpm`], once as many people ordered it as it takes.
///
/// # Errors
///
/// As there.
pub fn order_replacement(
    draft: &mut Draft,
    id: &str,
    key: &EnrolledEk,
    keep_old: bool,
    by: &Orderer,
) -> Result<Arc<Host>, KeysRefused> {
    let kept = if keep_old { ", keeping its keys" } else { "" };
    let what = format!("replace TPM by {}{kept}", name_of_key(key));
    let order = |draft: &mut Draft| replace_tpm(draft, id, key.clone(), keep_old, &by.actor);
    with_consent(draft, id, &what, by, order)
}

/// As [`add_key`], once as many people ordered it as it takes; what changes nothing takes nobody else.
///
/// # Errors
///
/// As there.
pub fn order_addition(
    draft: &mut Draft,
    id: &str,
    key: &EnrolledEk,
    by: &Orderer,
) -> Result<Arc<Host>, KeysRefused> {
    let known = draft.state().hosts.get(id);
    if let Some(host) = known.filter(|host| host.is_enrolled() && has_all_of(host, key)) {
        return Ok(Arc::clone(host));
    }
    let what = format!("add endorsement key {}", name_of_key(key));
    let order = |draft: &mut Draft| add_key(draft, id, key.clone(), &by.actor);
    with_consent(draft, id, &what, by, order)
}

/// Why the keys of a host stay as they are.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeysRefused {
    /// Another host is enrolled by this key.
    #[error(
        "endorsement key belongs to host {0}; if it is another machine now, take the key off that host first"
    )]
    KeyTaken(HostId),
    /// Nothing would say which host it is.
    #[error("it is the only endorsement key of this host; replace its TPM, or remove the host")]
    LastKey,
    /// It is there, and waits for approval.
    #[error("host waits for approval; approve it first")]
    NotEnrolled,
    /// There is no such host.
    #[error("host not found")]
    NotFound,
    /// The host is not known by this key.
    #[error("host has no such endorsement key")]
    NoSuchKey,
    /// More keys than any TPM has.
    #[error("host has too many endorsement keys, at most {} are allowed", Host::MAX_KEYS)]
    TooMany,
}

/// Gives a host the TPM of `key` for `actor`. The keys of the one before are taken off unless they are to be kept; what was
/// signed for the host is revoked, and nothing more before the new TPM attests.
///
/// # Errors
///
/// The host can't have that key.
pub fn replace_tpm(
    draft: &mut Draft,
    id: &str,
    key: EnrolledEk,
    keep_old: bool,
    actor: &str,
) -> Result<Arc<Host>, KeysRefused> {
    let mut host = enrolled(draft, id)?;
    check_owner(draft, id, &key, actor)?;
    keep_agent_path(draft, &mut host);
    let before = std::mem::take(&mut host.endorsement_keys);
    host.endorsement_keys.push(key);
    for old in before {
        // Of a key that stays, what is known of it stays.
        let is_there = complete(&mut host.endorsement_keys, &old);
        if keep_old && !is_there {
            host.endorsement_keys.push(old);
        }
    }
    if host.endorsement_keys.len() > Host::MAX_KEYS {
        return Err(KeysRefused::TooMany);
    }
    absorb_waiting(draft, &mut host);
    let given = void(draft, &mut host);
    audit(draft, "host_tpm_replaced", &host, given, actor);
    Ok(draft.put_host(host))
}

/// Adds an endorsement key to a host for `actor`. It has to prove that its TPM has it before that counts.
///
/// # Errors
///
/// The host can't have that key.
pub fn add_key(draft: &mut Draft, id: &str, key: EnrolledEk, actor: &str) -> Result<Arc<Host>, KeysRefused> {
    let mut host = enrolled(draft, id)?;
    check_owner(draft, id, &key, actor)?;
    let before = host.endorsement_keys.clone();
    learn(&mut host.endorsement_keys, key);
    if host.endorsement_keys.len() > Host::MAX_KEYS {
        return Err(KeysRefused::TooMany);
    }
    absorb_waiting(draft, &mut host);
    if before == host.endorsement_keys {
        return Ok(draft
            .state()
            .hosts
            .get(id)
            .cloned()
            .unwrap_or_else(|| Arc::new(host)));
    }
    audit(draft, "host_ek_added", &host, None, actor);
    Ok(draft.put_host(host))
}

/// Takes an endorsement key off a host for `actor`. If a credential was ever recovered with it, the attestation key may rest
/// on it: that is forgotten, and what was signed for the host is revoked.
///
/// # Errors
///
/// The host does not have it, or has no other.
pub fn remove_key(
    draft: &mut Draft,
    id: &str,
    key: &EnrolledEk,
    actor: &str,
) -> Result<Arc<Host>, KeysRefused> {
    let mut host = enrolled(draft, id)?;
    keep_agent_path(draft, &mut host);
    let (gone, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut host.endorsement_keys)
        .into_iter()
        .partition(|known| is_same_key(known, key));
    if gone.is_empty() {
        return Err(KeysRefused::NoSuchKey);
    }
    if stay.is_empty() {
        return Err(KeysRefused::LastKey);
    }
    host.endorsement_keys = stay;
    let vouched = gone.iter().any(|key| key.name.is_some());
    let given = vouched.then(|| void(draft, &mut host)).flatten();
    audit(draft, "host_ek_removed", &host, given, actor);
    Ok(draft.put_host(host))
}

/// Whether there is nothing new in `key`.
fn has_all_of(host: &Host, key: &EnrolledEk) -> bool {
    let mut keys = host.endorsement_keys.clone();
    complete(&mut keys, key) && keys == host.endorsement_keys
}

fn enrolled(draft: &Draft, id: &str) -> Result<Host, KeysRefused> {
    let host = draft.state().hosts.get(id).ok_or(KeysRefused::NotFound)?;
    if !host.is_enrolled() {
        return Err(KeysRefused::NotEnrolled);
    }
    Ok((**host).clone())
}

/// A key of another enrolled host is at two places, or an operator errs: both are for somebody to look at.
fn check_owner(draft: &mut Draft, id: &str, key: &EnrolledEk, actor: &str) -> Result<(), KeysRefused> {
    let rows = rows_with(&draft.state().hosts, std::slice::from_ref(key));
    let owner = rows
        .into_iter()
        .find(|row| row.is_enrolled() && row.id.as_ref() != id);
    let Some(owner) = owner else {
        return Ok(());
    };
    let alarming = Alarming {
        code: "ek_of_other_host",
        text: format!("host {id} was to be known by an endorsement key of this host"),
        held_back: 0,
    };
    alarms::raise(draft, &owner.id, &alarming, actor);
    Err(KeysRefused::KeyTaken(Arc::clone(&owner.id)))
}

/// Its agent has the ID that it would have had by its first key, also once that is gone; unless another has that ID, in
/// which case it has none yet.
fn keep_agent_path(draft: &Draft, host: &mut Host) {
    if host.agent_path.is_none() {
        let path = path_of_first(&host.endorsement_keys);
        host.agent_path = path.filter(|path| !is_path_taken(draft, path, &[&host.id]));
    }
}

/// Rows that wait under a key of this host are over; what is known of that very key is kept.
fn absorb_waiting(draft: &mut Draft, host: &mut Host) {
    for other in rows_with(&draft.state().hosts, &host.endorsement_keys) {
        if other.id == host.id {
            continue;
        }
        draft.remove_host(&other.id);
        for key in &other.endorsement_keys {
            complete(&mut host.endorsement_keys, key);
        }
    }
}

/// Forgets what the TPM before said. Answers with the path of the agent whose SVIDs are revoked, if there is one; those of
/// a quarantined host are already.
fn void(draft: &mut Draft, host: &mut Host) -> Option<Arc<str>> {
    (host.attestation_key, host.appraised) = (None, None);
    let verdict = host.verdict.after(HostEvent::Replaced, draft.now())?;
    host.verdict = verdict;
    let path = host.agent_path.clone();
    let path = path.filter(|path| is_agent_of(draft, path, &host.id))?;
    draft.withdraw(&path, RevocationReason::CessationOfOperation);
    Some(path)
}

/// `given`: the agent whose SVIDs are revoked by this.
fn audit(draft: &mut Draft, event: &'static str, host: &Host, given: Option<Arc<str>>, actor: &str) {
    let mut record = host_record(event, host, &actor);
    if let Some(path) = given {
        let id = format!("spiffe://{}{path}", draft.state().trust_domain);
        record = record.with("agent_id", &id);
    }
    draft.audit(record);
}

#[cfg(test)]
mod tests;
