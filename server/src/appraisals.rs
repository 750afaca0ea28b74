//! Hosts are compared with policies by what is on record of them: before a change, to say who would fall out; after one,
//! so that it counts for hosts that show nothing new.

use std::{collections::HashSet, sync::Arc, time::Duration};

use attest::PcrSet;
use edge::{Chain, Clock};
use plugin_api::{Appraised, Finding, Host, HostPolicies, Outcome, PolicyNotMet, Refusal, Shown, Staleness};
use svid::Timestamp;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info};

use crate::{
    api::Verdicts,
    registry::{
        EventLogError, EventLogs, HostId, Hosts, Registry, Snapshot,
        verdict_changes::{self, Basis},
    },
};

/// How often it is looked whether hosts are held to something new.
const LOOK: Duration = Duration::from_secs(1);
/// Longest pause between two hosts: what follows is not to come over all of them at once.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest that pauses take over all hosts that are due: nobody waits long for what a policy says of him.
const PAUSES: Duration = Duration::from_secs(10);

/// Who falls out by a change.
#[derive(Debug, Default)]
pub struct FallOut {
    /// Hosts that would be refused: the first ones.
    pub hosts: Vec<(Arc<Host>, PolicyNotMet)>,
    /// How many would be.
    pub count: usize,
    /// Hosts that would be judged only when they show more, and why: the first ones.
    pub unknown_hosts: Vec<(Arc<Host>, Unjudged)>,
    /// How many would be.
    pub unknown: usize,
}

/// Why a host can't be compared with policies by what is on record of it.
#[derive(Debug, thiserror::Error)]
pub enum Unjudged {
    /// Its log can't be read, or does not explain what it did.
    #[error("its event log can't be used")]
    Broken(#[from] EventLogError),
    /// Of kernels' lists none is on record.
    #[error("its kernel's measurement list is not on record")]
    List,
    /// None is on record.
    #[error("its event log is not on record")]
    Log,
    /// Nothing is on record.
    #[error("it has not attested")]
    New,
    /// It was not asked for them yet.
    #[error("it was not asked for PCR {} yet", numbers(*.0))]
    Pcrs(PcrSet),
}

fn numbers(pcrs: PcrSet) -> String {
    let numbers: Vec<_> = pcrs.iter().map(|pcr| pcr.to_string()).collect();
    numbers.join(", ")
}

impl FallOut {
    /// Most hosts that are named, of each kind.
    pub const MAX_NAMED: usize = 1000;

    fn add(&mut self, host: &Arc<Host>, not_met: PolicyNotMet) {
        self.count += 1;
        if self.hosts.len() < Self::MAX_NAMED {
            self.hosts.push((Arc::clone(host), not_met));
        }
    }

    fn add_unknown(&mut self, host: &Arc<Host>, why: Unjudged) {
        self.unknown += 1;
        if self.unknown_hosts.len() < Self::MAX_NAMED {
            self.unknown_hosts.push((Arc::clone(host), why));
        }
    }
}

/// Which hosts are refused if they are held to what `after` says instead of what `before` does, and of which too little is
/// on record to tell. Those that are quarantined can't fall any deeper. Blocks: each log is read from the store.
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
        let (policies, now_held_to) = (after(host), before(host));
        if !policies.is_enforced() || policies.generation() == now_held_to.generation() {
            continue;
        }
        let unjudged = match appraise(host, &policies, logs, now) {
            Ok(outcome) => {
                outcome
                    .check()
                    .unwrap_or_else(|not_met| fall_out.add(host, not_met));
                continue;
            }
            Err(unjudged) => unjudged,
        };
        if let Unjudged::Broken(error) = &unjudged {
            error!(host_id = %host.id, error = %Chain(error), "Host could not be compared with policies");
        }
        let checked = without_log(host, &policies).or_else(|| as_noted(host, &now_held_to, &policies));
        match checked {
            Some(Err(not_met)) => fall_out.add(host, not_met),
            Some(Ok(())) => {}
            None if policies.is_met_by_who_meets(&now_held_to) => {}
            None => fall_out.add_unknown(host, unjudged),
        }
    }
    fall_out
}

/// What follows where a host was looked at under these very generations, at other stages: of what it showed then, not all
/// may be on record.
fn as_noted(host: &Host, before: &HostPolicies, after: &HostPolicies) -> Option<Result<(), PolicyNotMet>> {
    let appraised = host.appraised.as_ref()?;
    let is_latest = appraised.policy_generation == before.generation();
    is_latest
        .then(|| after.check_noted(&appraised.policies))
        .flatten()
}

/// What the evidence on record of `host` comes to. Blocks.
///
/// # Errors
///
/// There is too little on record.
pub fn appraise(
    host: &Host,
    policies: &HostPolicies,
    logs: &EventLogs,
    now: Timestamp,
) -> Result<Outcome, Unjudged> {
    let appraised = on_record(host, policies)?;
    let known = appraised.event_log.as_ref().ok_or(Unjudged::Log)?;
    let log = logs.of(host)?.ok_or(Unjudged::Log)?;
    let shown = Shown {
        values: &known.values,
        log: &log,
        tpm_firmware: appraised.standing.firmware_version,
        list: None,
        command_line: None,
    };
    let outcome = policies.appraise(&shown, Some(appraised), now);
    let mut outcome = outcome.map_err(EventLogError::from)?;
    // As where the host shows itself: what the list says of the node, and of the PCRs that it extends, is what the row has.
    outcome.set_list(appraised.kernel_list.as_ref());
    Ok(outcome)
}

/// What a host does not meet that was accepted without a log.
fn without_log(host: &Host, policies: &HostPolicies) -> Option<Result<(), PolicyNotMet>> {
    let appraised = host.appraised.as_ref()?;
    let has_none = appraised.event_log.is_none();
    has_none
        .then(|| policies.not_met_without_log())
        .flatten()
        .map(Err)
}

/// What is on record of `host`, if that is enough to compare it with `policies`.
fn on_record<'a>(host: &'a Host, policies: &HostPolicies) -> Result<&'a Appraised, Unjudged> {
    let appraised = host.appraised.as_ref().ok_or(Unjudged::New)?;
    if !appraised.event_log.as_ref().is_some_and(|log| log.is_kept) {
        return Err(Unjudged::Log);
    }
    // Of kernels' lists none is on record: who has one shows it when it is asked next.
    if appraised.kernel_list.is_some() && policies.wants_list() {
        return Err(Unjudged::List);
    }
    let missing = policies.pcrs_missing_in(&appraised.selection);
    if missing == PcrSet::default() {
        Ok(appraised)
    } else {
        Err(Unjudged::Pcrs(missing))
    }
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
        let (longest, mut next) = (longest_pause(due.len()), Instant::now());
        for (id, generation) in due {
            let is_new = !failed.contains(&(Arc::clone(&id), generation));
            if is_new && !look(&registry, &logs, &verdicts, clock, &id).await {
                failed.insert((id, generation));
            }
            let share = f64::from(u8::from_be_bytes(edge::random())) / 255.0;
            // From when the last one was due: what it took to look at it is part of the pause.
            next += longest.mul_f64(share);
            sleep_until(next).await;
        }
    }
}

/// The longest pause between two of so many hosts.
fn longest_pause(hosts: usize) -> Duration {
    let hosts = u32::try_from(hosts).unwrap_or(u32::MAX).max(1);
    PAUSE.min(PAUSES / hosts)
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
        let (generation, appraised) = (policies.generation(), on_record(host, &policies).ok()?);
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
    let (held_to, logs, row) = (policies.clone(), logs.clone(), Arc::clone(&host));
    let now = clock.now();
    let judged = tokio::task::spawn_blocking(move || appraise(&row, &held_to, &logs, now)).await;
    let outcome = match judged {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(Unjudged::Broken(error))) => {
            error!(host_id = %id, error = %Chain(&error), "Host could not be compared with policies; it is when it shows its log");
            return false;
        }
        // Its log went meanwhile, or the server ends.
        Ok(Err(_)) | Err(_) => return true,
    };
    let changed = match outcome.check() {
        Ok(()) => {
            let id = Arc::clone(id);
            let basis = Basis {
                revision: host.revision,
                policy_generation: policies.generation(),
            };
            let noted = registry.change(move |draft| {
                verdict_changes::reappraise(draft, &id, basis, outcome);
            });
            noted.await
        }
        Err(not_met) => {
            info!(host_id = %id, error = %not_met, "Host does not meet a policy");
            verdicts
                .condemn(&Refusal::from(not_met).said_by(&host, &policies), "server")
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
