//! What good evidence says of its host, which counts if that still is what it was.

use std::sync::Arc;

use plugin_api::{Host, HostClaim, HostEvent, KernelList, Verdict};

use super::{
    host_record,
    keys::{learn, rows_with},
};
use crate::registry::{
    Draft,
    verdict_changes::{Judgement, is_held_to, note_outcome, settle},
};

/// Why an attestation does not count: its host is not what it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HostMoved {
    /// The row was changed or removed since it was looked at.
    #[error("host was changed meanwhile; try again")]
    Changed,
    /// A key was enrolled for another host since it was looked at.
    #[error("a key of this host belongs to another host")]
    KeyTaken,
    /// An operator lifted its quarantine, or what it was given is revoked: it attests before it opens a session.
    #[error("host has to attest anew")]
    MustAttest,
    /// The ID that it would have belongs to another host.
    #[error("agent ID belongs to another host; enrol this one with a path of its own")]
    PathTaken,
    /// It is held to other policies than those under which it was looked at.
    #[error("what this host is held to changed meanwhile; try again")]
    PolicyChanged,
    /// It is quarantined.
    #[error("host is quarantined; an operator runs `plastron-server host release`")]
    Quarantined,
}

/// Notes what good evidence said of its host, if the row is still as it was, and held to what it was accepted under. `event`
/// is what the evidence was for.
///
/// # Errors
///
/// It is not.
pub fn claim(
    draft: &mut Draft,
    claim: HostClaim,
    event: HostEvent,
    agent_path: &Arc<str>,
    address: &str,
) -> Result<(), HostMoved> {
    let hosts = &draft.state().hosts;
    let known = hosts
        .get(&claim.id)
        .filter(|host| host.is_enrolled() && host.revision == claim.revision);
    let mut host = (**known.ok_or(HostMoved::Changed)?).clone();
    if !is_held_to(draft, &host, claim.appraised.policy_generation) {
        return Err(HostMoved::PolicyChanged);
    }
    let verdict = host.verdict.after(event, draft.now());
    check_verdict(&host, verdict.as_ref())?;
    absorb(draft, &host, &claim, agent_path)?;
    note_violations(draft, &host, &claim, address);
    let before = (host.attestation_key.clone(), host.endorsement_keys.clone());
    if let Some(activated) = claim.activated {
        learn(&mut host.endorsement_keys, activated);
    }
    host.attestation_key = Some(claim.attestation_key);
    host.last_attested_at = Some(draft.now());
    host.last_address = address.into();
    note_outcome(draft, &host, &claim.appraised);
    if let (Some(log), Some(content)) = (&claim.appraised.event_log, &claim.event_log) {
        draft.keep_log(&log.sha256, content);
    }
    host.appraised = Some(claim.appraised);
    host.svid_key = claim.svid_key.or(host.svid_key);
    host.agent_path.get_or_insert_with(|| Arc::clone(agent_path));
    if before != (host.attestation_key.clone(), host.endorsement_keys.clone()) {
        let ak = host.attestation_key.as_ref().map(|key| key.name().to_string());
        let record =
            host_record("host_keys_changed", &host, &address).with("ak_name", &ak.unwrap_or_default());
        draft.audit(record);
    }
    if let Some(verdict) = verdict {
        host.verdict = verdict;
        let actor = format!("spiffe://{}{agent_path}", draft.state().trust_domain);
        let judgement = Judgement {
            actor: &actor,
            exposure: None,
        };
        settle(draft, &host, &judgement);
    }
    draft.put_host(host);
    Ok(())
}

/// Files changed while the kernel measured them: nobody knows what ran. Whether that is refused is a policy's matter.
fn note_violations(draft: &mut Draft, host: &Host, claim: &HostClaim, address: &str) {
    let Some(list) = &claim.appraised.kernel_list else {
        return;
    };
    let before = host
        .appraised
        .as_ref()
        .and_then(|before| before.kernel_list.as_ref());
    let is_same_boot = |before: &&KernelList| before.progress.reset_count() == list.progress.reset_count();
    let known = before.filter(is_same_boot).map_or(0, |before| before.violations);
    if list.violations > known {
        let record = host_record("host_kernel_violations", host, &address).with("count", &list.violations);
        draft.audit(record);
    }
}

/// Good evidence that does not verify the host is not enough.
fn check_verdict(host: &Host, after: Option<&Verdict>) -> Result<(), HostMoved> {
    let verdict = after.unwrap_or(&host.verdict);
    if verdict.is_verified() {
        Ok(())
    } else if verdict.is_quarantined() {
        Err(HostMoved::Quarantined)
    } else {
        Err(HostMoved::MustAttest)
    }
}

/// An ID belongs to one host for as long as its row is there.
fn check_path(draft: &Draft, id: &str, agent_path: &str) -> Result<(), HostMoved> {
    let owner = draft.state().hosts.with_agent_path(agent_path);
    match owner {
        Some(owner) if owner.id.as_ref() != id => Err(HostMoved::PathTaken),
        _ => Ok(()),
    }
}

/// A row that waits under a key of this host is over. Its keys are not taken: only the one that was activated now,
/// and those that an operator enrolled, are this host's.
fn absorb(draft: &mut Draft, host: &Host, claim: &HostClaim, agent_path: &str) -> Result<(), HostMoved> {
    let hosts = &draft.state().hosts;
    let mut others = rows_with(hosts, claim.activated.as_slice());
    others.extend(hosts.with_ak(&claim.attestation_key.name()).cloned());
    others.retain(|other| other.id != host.id);
    // Nothing is changed before everything is checked.
    if others.iter().any(|other| other.is_enrolled()) {
        return Err(HostMoved::KeyTaken);
    }
    check_path(draft, &host.id, agent_path)?;
    for other in others {
        draft.remove_host(&other.id);
    }
    Ok(())
}
