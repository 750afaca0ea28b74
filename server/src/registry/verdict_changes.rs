//! What becomes of hosts that say what they should not, or nothing: each a decision on a [`Draft`].

use std::{sync::Arc, time::Duration};

use plugin_api::{Appraised, Finding, Host, HostEvent, Offence, Outcome, PolicyStanding, Staleness};
use svid::{Selector, SelectorSet, x509::RevocationReason};

use tracing::info;

use super::{Agent, Draft};
use crate::journal::Record;

/// Who saw what happened to a host, and what an SVID of it may still be good for.
#[derive(Clone, Copy, Debug)]
pub struct Judgement<'a> {
    /// Who: an operator, or from where the evidence came.
    pub actor: &'a str,
    /// For how long relying parties that read no CRL may take SVIDs that were signed before.
    pub exposure: Option<Duration>,
}

/// Changes the verdict on a host as `event` demands. `None` if there is no such host, or the verdict stays.
pub fn judge(draft: &mut Draft, id: &str, event: HostEvent, judgement: &Judgement<'_>) -> Option<Arc<Host>> {
    let host = Arc::clone(draft.state().hosts.get(id)?);
    let verdict = host.verdict.after(event, draft.now())?;
    let mut host = Host {
        verdict,
        ..(*host).clone()
    };
    if host.verdict.finding == Finding::Stale(Staleness::Released) {
        // What it showed before its quarantine is no measure any more: its TPM may have been cleared with good reason.
        host.appraised = host.appraised.map(Appraised::without_standing);
    }
    settle(draft, &host, judgement);
    Some(draft.put_host(host))
}

/// What was decided on: of that which has moved since, nothing follows from the decision.
#[derive(Clone, Copy, Debug)]
pub struct Basis {
    /// The revision of the host's row.
    pub revision: u64,
    /// The generation of what the host was held to.
    pub policy_generation: u64,
}

impl Basis {
    /// The host `id`, if it still is what was decided on.
    fn of(self, draft: &Draft, id: &str) -> Option<Arc<Host>> {
        let host = draft.state().hosts.get(id)?;
        let is_same = host.revision == self.revision && is_held_to(draft, host, self.policy_generation);
        is_same.then(|| Arc::clone(host))
    }
}

/// Whether a host is held to the policies of this generation.
pub(super) fn is_held_to(draft: &Draft, host: &Host, policy_generation: u64) -> bool {
    draft.state().policies.of(host).generation() == policy_generation
}

/// Quarantines a host for what it said, if it still is what this was decided on: otherwise that is refused, and no more.
pub fn condemn(
    draft: &mut Draft,
    id: &str,
    basis: Basis,
    offence: Offence,
    judgement: &Judgement<'_>,
) -> Option<Arc<Host>> {
    let _host = basis.of(draft, id)?;
    judge(draft, id, HostEvent::Offended(offence), judgement)
}

/// Verifies a silent host again that gave good evidence of what it was accepted with, unless it is held to something else by
/// now: then it has to show more.
pub fn hear(draft: &mut Draft, id: &str, judgement: &Judgement<'_>) -> Option<Arc<Host>> {
    let host = draft.state().hosts.get(id)?;
    let appraised = host.appraised.as_ref()?;
    if !is_held_to(draft, host, appraised.policy_generation) {
        return None;
    }
    judge(draft, id, HostEvent::Answered, judgement)
}

/// Notes what the evidence on record of a host came to, if it still is what this was decided on.
pub fn reappraise(draft: &mut Draft, id: &str, basis: Basis, outcome: Outcome) {
    let Some(host) = basis.of(draft, id) else {
        return;
    };
    let Some(before) = &host.appraised else {
        return;
    };
    let appraised = Appraised {
        policy_generation: basis.policy_generation,
        policies: outcome.standings,
        selectors: outcome.selectors,
        ..before.clone()
    };
    note_outcome(draft, &host, &appraised);
    draft.put_host(Host {
        appraised: Some(appraised),
        ..(*host).clone()
    });
}

/// Audits what is new under the policies of `host`, as it was, and gives its agent the selectors that are true now.
pub(super) fn note_outcome(draft: &mut Draft, host: &Host, appraised: &Appraised) {
    let known = host.appraised.as_ref();
    let known_standings = known.map(|known| known.policies.as_slice()).unwrap_or_default();
    for standing in &appraised.policies {
        if !known_standings.iter().any(|known| known.is_alike(standing)) {
            let judgements = judgements(standing);
            info!(host_id = %host.id, policy = %standing.name, is_met = standing.is_met(), judgements,
                "Host compared with a policy");
            draft.audit(standing_record(host, standing, &judgements));
        }
    }
    let known_selectors = known.map(|known| known.selectors.as_slice()).unwrap_or_default();
    if known_selectors != appraised.selectors {
        select(draft, host, known_selectors, &appraised.selectors);
    }
}

/// What each generation says.
fn judgements(standing: &PolicyStanding) -> String {
    let judgements: Vec<_> = standing
        .judgements
        .iter()
        .map(|judgement| {
            let stage = if judgement.is_enforced {
                "enforced"
            } else {
                "staged"
            };
            format!("{stage} {judgement}")
        })
        .collect();
    judgements.join("; ")
}

fn standing_record(host: &Host, standing: &PolicyStanding, judgements: &str) -> Record {
    Record::new("host_appraised", &"server")
        .with("host_id", &host.id)
        .with("host_name", &host.name)
        .with("policy", &standing.name)
        .with("is_met", &standing.is_met())
        .with("judgements", &judgements)
}

/// Replaces selectors of a host's agent that evidence gave it; others stay.
fn select(draft: &mut Draft, host: &Host, before: &[String], after: &[String]) {
    let agent = host
        .agent_path
        .as_ref()
        .and_then(|path| draft.state().agents.get(path));
    let Some(agent) = agent
        .filter(|agent| agent.host.as_ref() == Some(&host.id))
        .cloned()
    else {
        return;
    };
    let kind = agent.attestation_type.as_str();
    let of_evidence = |selector: &&Selector| {
        selector.kind() == kind && before.iter().any(|value| value == selector.value())
    };
    let stay = agent
        .selectors
        .iter()
        .filter(|selector| !of_evidence(selector))
        .cloned();
    let new = after.iter().filter_map(|value| Selector::new(kind, value).ok());
    let selectors: SelectorSet = stay.chain(new).collect();
    if selectors != agent.selectors {
        draft.put_agent(Agent {
            selectors,
            ..(*agent).clone()
        });
    }
}

/// What follows from a new verdict.
pub(super) fn settle(draft: &mut Draft, host: &Host, judgement: &Judgement<'_>) {
    draft.audit(record(draft, host, judgement));
    let revoked = match host.verdict.finding {
        Finding::Quarantined(_) => RevocationReason::PrivilegeWithdrawn,
        Finding::Stale(Staleness::Lost) => RevocationReason::CessationOfOperation,
        Finding::Stale(_) | Finding::Verified => return,
    };
    if let Some(path) = &host.agent_path
        && draft.state().agents.contains_key(path)
    {
        draft.withdraw(path, revoked);
    }
}

fn record(draft: &Draft, host: &Host, judgement: &Judgement<'_>) -> Record {
    let event = match host.verdict.finding {
        Finding::Quarantined(_) => "host_quarantined",
        Finding::Stale(Staleness::Lost) => "host_lost",
        Finding::Stale(Staleness::Released) => "host_released",
        Finding::Stale(_) => "host_stale",
        Finding::Verified => "host_verified",
    };
    let mut record = Record::new(event, &judgement.actor)
        .with("host_id", &host.id)
        .with("host_name", &host.name);
    if let Some(path) = &host.agent_path {
        let id = format!("spiffe://{}{path}", draft.state().trust_domain);
        record = record.with("agent_id", &id);
    }
    if let Finding::Quarantined(offence) = &host.verdict.finding {
        record = record
            .with("reject", &offence.code)
            .with("reason", &offence.difference);
    }
    match judgement.exposure {
        Some(exposure) => record.with("exposed_until", &draft.now().plus(exposure)),
        None => record,
    }
}

#[cfg(test)]
mod tests {
    use plugin_api::Offence;
    use svid::{SelectorSet, Timestamp, TrustDomain, x509::SerialNumber};

    use super::*;
    use crate::registry::{Agent, AgentSvid, Snapshot, Touched};

    const PATH: &str = "/spire/agent/tpm/one";
    const BY: Judgement<'static> = Judgement {
        actor: "op",
        exposure: Some(Duration::from_secs(3600)),
    };

    fn state() -> Snapshot {
        let mut state = Snapshot::empty(TrustDomain::parse("td").unwrap());
        let now = Timestamp::from_unix(1000);
        let host = Host {
            agent_path: Some(PATH.into()),
            ..Host::enrolled("h".into(), now)
        };
        let agent = Agent {
            path: PATH.into(),
            attestation_type: "tpm".into(),
            current: AgentSvid {
                serial: SerialNumber::from_bytes(&[1]),
                not_after: Timestamp::NEVER,
            },
            next: None,
            banned: false,
            can_reattest: true,
            selectors: SelectorSet::default(),
            version: String::new(),
            host: Some("h".into()),
            attested_at: now,
        };
        state.hosts.insert(Arc::new(host));
        state.agents.insert(PATH.into(), Arc::new(agent));
        state
    }

    /// The audit events of `events`, whether anything is revoked by them, and whether the agent's session is woken.
    fn check(events: Vec<HostEvent>, audited: &[&str], is_revoked: bool) -> Snapshot {
        let mut draft = Draft::new(state(), Timestamp::from_unix(2000));
        for event in events {
            judge(&mut draft, "h", event, &BY);
        }
        let finished = draft.finish();
        let seen: Vec<_> = finished.audit.iter().map(Record::event).collect();
        assert_eq!(seen, audited);
        assert_eq!(finished.state.withdrawals.contains_key(PATH), is_revoked);
        let woken = |touched: &&Touched| matches!(touched, Touched::Agent(path) if path.as_ref() == PATH);
        assert_eq!(finished.touched.iter().filter(woken).count(), audited.len());
        finished.state
    }

    fn offended() -> HostEvent {
        HostEvent::Offended(Offence {
            code: "log_mismatch".into(),
            difference: "PCR 4".into(),
        })
    }

    #[test]
    fn a_quarantine_revokes_and_its_release_verifies_nothing() {
        check(vec![offended(), offended()], &["host_quarantined"], true);
        let state = check(
            vec![
                HostEvent::Attested,
                offended(),
                HostEvent::Released,
                HostEvent::Answered,
            ],
            &["host_verified", "host_quarantined", "host_released"],
            true,
        );
        let host = state.hosts.get("h").unwrap();
        assert_eq!(host.verdict.finding, Finding::Stale(Staleness::Released));
        assert_eq!((host.verdict.generation, host.revision), (3, 3));
    }

    #[test]
    fn silence_revokes_nothing_until_the_host_is_lost() {
        let silent = vec![HostEvent::Attested, HostEvent::Silent];
        check(silent.clone(), &["host_verified", "host_stale"], false);
        let lost = [silent, vec![HostEvent::Lost, HostEvent::Answered]].concat();
        check(lost, &["host_verified", "host_stale", "host_lost"], true);
    }

    #[test]
    fn a_host_that_nobody_knows_is_not_judged() {
        let mut draft = Draft::new(state(), Timestamp::from_unix(2000));
        assert!(judge(&mut draft, "other", HostEvent::Attested, &BY).is_none());
    }
}
