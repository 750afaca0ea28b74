//! Hosts are compared with policies by what is on record of them: before a change, to say who would fall out; after one,
//! so that it counts for hosts that show nothing new.

use std::{collections::HashSet, sync::Arc, time::Duration};

use edge::{Chain, Clock};
use plugin_api::{Appraised, Finding, Host, HostPolicies, Outcome, PolicyNotMet, Refusal, Shown, Staleness};
use svid::Timestamp;
use tokio::time::sleep;
use tracing::{error, info};

use crate::{
    api::Verdicts,
    registry::{EventLogError, EventLogs, HostId, Hosts, Registry, Snapshot, verdict_changes},
};

/// How often it is looked whether hosts are held to something new.
const LOOK: Duration = Duration::from_secs(1);
/// Longest pause between two hosts: what follows is not to come over all of them at once.
const PAUSE: Duration = Duration::from_millis(20);

/// Who falls out by a change.
#[derive(Debug, Default)]
pub struct FallOut {
    /// Hosts that would be refused: the first ones.
    pub hosts: Vec<(Arc<Host>, PolicyNotMet)>,
    /// How many would be.
    pub count: usize,
    /// How many would be judged only when they show their log.
    pub unknown: usize,
}

impl FallOut {
    /// Most hosts that are named.
    pub const MAX_NAMED: usize = 1000;

    fn add(&mut self, host: &Arc<Host>, not_met: PolicyNotMet) {
        self.count += 1;
        if self.hosts.len() < Self::MAX_NAMED {
            self.hosts.push((Arc::clone(host), not_met));
        }
    }
}

/// Which hosts are refused if they are held to what `after` says instead of what `before` does. Those that are
/// quarantined can't fall any deeper. Blocks: each log is read from the store.
#[must_use]
pub fn fall_out(
    hosts: &Hosts,
    logs: &EventLogs,
    now: Timestamp,
    before: impl Fn(&Host) -> HostPolicies,
    after: impl Fn(&Host) -> HostPolicies,
) -> FallOut {
    let mut fall_out = FallOut::default();
    let standing = hosts
        .after("")
        .filter(|host| host.is_enrolled() && !host.verdict.is_quarantined());
    for host in standing {
        let policies = after(host);
        if !policies.is_enforced() || policies.generation() == before(host).generation() {
            continue;
        }
        match appraise(host, &policies, logs, now) {
            Ok(Some(outcome)) => {
                if let Err(not_met) = outcome.check() {
                    fall_out.add(host, not_met);
                }
            }
            Ok(None) => match without_log(host, &policies) {
                Some(not_met) => fall_out.add(host, not_met),
                None => fall_out.unknown += 1,
            },
            Err(error) => {
                error!(host_id = %host.id, error = %Chain(&error), "Host could not be compared with policies");
                fall_out.unknown += 1;
            }
        }
    }
    fall_out
}

/// What the evidence on record of `host` comes to; `None` where there is too little: without a log, without a PCR that a
/// policy needs and that the host was not asked for yet, or without the kernel's list that the host has. Blocks.
///
/// # Errors
///
/// The log can't be read, or does not explain what it did.
pub fn appraise(
    host: &Host,
    policies: &HostPolicies,
    logs: &EventLogs,
    now: Timestamp,
) -> Result<Option<Outcome>, EventLogError> {
    let Some(appraised) = on_record(host, policies) else {
        return Ok(None);
    };
    let (Some(known), Some(log)) = (&appraised.event_log, logs.of(host)?) else {
        return Ok(None);
    };
    let shown = Shown {
        values: &known.values,
        log: &log,
        tpm_firmware: appraised.standing.firmware_version,
        list: None,
        command_line: None,
    };
    Ok(Some(policies.appraise(&shown, Some(appraised), now)?))
}

/// What a host does not meet that was accepted without a log.
fn without_log(host: &Host, policies: &HostPolicies) -> Option<PolicyNotMet> {
    let appraised = host.appraised.as_ref()?;
    appraised
        .event_log
        .is_none()
        .then(|| policies.not_met_without_log())
        .flatten()
}

/// What is on record of `host`, if that is enough to compare it with `policies`.
fn on_record<'a>(host: &'a Host, policies: &HostPolicies) -> Option<&'a Appraised> {
    let appraised = host.appraised.as_ref()?;
    let has_log = appraised.event_log.as_ref().is_some_and(|log| log.is_kept);
    // Of kernels' lists none is on record: who has one shows it when it is asked next.
    let is_told = appraised.kernel_list.is_none() || !policies.wants_list();
    (has_log && is_told && policies.is_covered_by(&appraised.selection)).then_some(appraised)
}

/// Looks for ever at hosts that are held to something else than when they were looked at last.
pub async fn watch(registry: Registry, logs: EventLogs, verdicts: Verdicts, clock: Clock) {
    let mut failed = HashSet::new();
    let mut seen = None;
    loop {
        sleep(LOOK).await;
        let snapshot = registry.snapshot();
        if seen.replace(snapshot.revision) == Some(snapshot.revision) {
            continue;
        }
        let due: HashSet<_> = due(&snapshot).collect();
        failed.retain(|known| due.contains(known));
        for (id, generation) in due {
            let is_new = !failed.contains(&(Arc::clone(&id), generation));
            if is_new && !look(&registry, &logs, &verdicts, clock, &id).await {
                failed.insert((id, generation));
            }
            let share = f64::from(u8::from_be_bytes(edge::random())) / 255.0;
            sleep(PAUSE.mul_f64(share)).await;
        }
    }
}

/// The hosts that what is on record of them is to be looked at anew, and what they are held to. One whose quarantine was
/// lifted shows first what it is now.
fn due(snapshot: &Snapshot) -> impl Iterator<Item = (HostId, u64)> {
    let counts = |host: &&Arc<Host>| {
        matches!(
            host.verdict.finding,
            Finding::Verified | Finding::Stale(Staleness::Lost | Staleness::Silent)
        )
    };
    let is_due = |host: &Arc<Host>| {
        let policies = snapshot.policies.of(host);
        let (generation, appraised) = (policies.generation(), on_record(host, &policies)?);
        (appraised.policy_generation != generation).then(|| (Arc::clone(&host.id), generation))
    };
    snapshot.hosts.after("").filter(counts).filter_map(is_due)
}

/// Looks at what is on record of a host; says whether that could be done.
async fn look(registry: &Registry, logs: &EventLogs, verdicts: &Verdicts, clock: Clock, id: &HostId) -> bool {
    let snapshot = registry.snapshot();
    let Some(host) = snapshot.hosts.get(id).cloned() else {
        return true;
    };
    let policies = snapshot.policies.of(&host);
    let (generation, logs, row) = (policies.generation(), logs.clone(), Arc::clone(&host));
    let now = clock.now();
    let judged = tokio::task::spawn_blocking(move || appraise(&row, &policies, &logs, now)).await;
    let outcome = match judged {
        Ok(Ok(Some(outcome))) => outcome,
        // Its log went meanwhile, or the server ends.
        Ok(Ok(None)) | Err(_) => return true,
        Ok(Err(error)) => {
            error!(host_id = %id, error = %Chain(&error), "Host could not be compared with policies; it is when it shows its log");
            return false;
        }
    };
    let changed = match outcome.check() {
        Ok(()) => {
            let (id, revision) = (Arc::clone(id), host.revision);
            let noted = registry.change(move |draft| {
                verdict_changes::reappraise(draft, &id, revision, generation, outcome);
            });
            noted.await
        }
        Err(not_met) => {
            info!(host_id = %id, error = %not_met, "Host does not meet a policy");
            verdicts
                .condemn(&Refusal::from(not_met).said_by(&host), "server")
                .await
        }
    };
    if let Err(error) = changed {
        error!(host_id = %id, %error, "What became of a host under its policies was not noted");
    }
    true
}

#[cfg(test)]
mod tests;
