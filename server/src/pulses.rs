//! When each host gave good evidence last, on the monotonic clock. In memory: a server that starts counts anew, so
//! that its own absence is no host's silence.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use plugin_api::{Finding, Host, HostEvent, Staleness};
use tokio::time::Instant;

use crate::registry::{
    HostId, Hosts, Registry,
    verdict_changes::{Judgement, judge},
};

/// Times of good evidence. Clones share them; as many as there are hosts at most.
#[derive(Clone, Debug)]
pub struct Pulses(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    last: Mutex<HashMap<HostId, Instant>>,
}

/// How often hosts are asked, and what their silence means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EvidenceTimes {
    /// From one question to the next, at most.
    pub interval: Duration,
    /// Who is silent for longer is stale.
    pub ttl: Duration,
    /// What was signed for a host that is silent for longer is revoked, if that is wanted.
    pub lost_after: Option<Duration>,
}

/// How often silence is looked for.
const LOOK: Duration = Duration::from_secs(1);

impl Default for Pulses {
    fn default() -> Self {
        Self(Arc::new(Inner {
            started: Instant::now(),
            last: Mutex::default(),
        }))
    }
}

impl Pulses {
    /// Notes good evidence of a host.
    pub fn note(&self, host: &HostId) {
        self.lock().insert(Arc::clone(host), Instant::now());
    }

    /// For how long a host has been silent, as far as this server can tell.
    #[must_use]
    pub fn silence(&self, host: &str) -> Duration {
        let last = self.lock().get(host).copied();
        last.unwrap_or(self.0.started).elapsed()
    }

    fn forget_all_but(&self, hosts: &Hosts) {
        self.lock().retain(|id, _| hosts.get(id).is_some());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HostId, Instant>> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EvidenceTimes {
    /// What becomes of a host that was silent for `silence`.
    fn event(&self, host: &Host, silence: Duration) -> Option<HostEvent> {
        match host.verdict.finding {
            Finding::Verified => (silence > self.ttl).then_some(HostEvent::Silent),
            Finding::Stale(Staleness::Silent) => {
                let is_lost = self.lost_after.is_some_and(|after| silence > after);
                is_lost.then_some(HostEvent::Lost)
            }
            Finding::Quarantined(_) | Finding::Stale(_) => None,
        }
    }
}

/// Finds the hosts that are silent, for ever.
pub async fn watch(registry: Registry, pulses: Pulses, times: EvidenceTimes) {
    loop {
        tokio::time::sleep(LOOK).await;
        let snapshot = registry.snapshot();
        pulses.forget_all_but(&snapshot.hosts);
        let is_silent = |host: &&Arc<Host>| times.event(host, pulses.silence(&host.id)).is_some();
        let silent: Vec<HostId> = snapshot
            .hosts
            .after("")
            .filter(is_silent)
            .map(|host| Arc::clone(&host.id))
            .collect();
        if silent.is_empty() {
            continue;
        }
        let pulses = pulses.clone();
        // What could not be stored now is tried again a second later.
        let _again = registry
            .change(move |draft| {
                for id in silent {
                    // It may have answered meanwhile.
                    let host = draft.state().hosts.get(&id);
                    let event = host.and_then(|host| times.event(host, pulses.silence(&id)));
                    if let Some(event) = event {
                        judge(draft, &id, event, &BY_SERVER);
                    }
                }
            })
            .await;
    }
}

const BY_SERVER: Judgement<'static> = Judgement {
    actor: "server",
    exposure: None,
};

#[cfg(test)]
mod tests {
    use svid::Timestamp;

    use super::*;

    const TIMES: EvidenceTimes = EvidenceTimes {
        interval: Duration::from_secs(60),
        ttl: Duration::from_secs(130),
        lost_after: Some(Duration::from_secs(1000)),
    };

    fn host(finding: Finding) -> Host {
        let mut host = Host::enrolled("h".into(), Timestamp::default());
        host.verdict.finding = finding;
        host
    }

    fn check(finding: &Finding, silence: u64, expected: Option<&HostEvent>) {
        let event = TIMES.event(&host(finding.clone()), Duration::from_secs(silence));
        assert_eq!(event.as_ref(), expected, "{finding:?} {silence}");
    }

    #[test]
    fn silence_is_stale_after_a_while_and_lost_after_a_long_one() {
        check(&Finding::Verified, 130, None);
        check(&Finding::Verified, 131, Some(&HostEvent::Silent));
        let silent = Finding::Stale(Staleness::Silent);
        check(&silent, 1000, None);
        check(&silent, 1001, Some(&HostEvent::Lost));
        for quiet in [
            Staleness::New,
            Staleness::Lost,
            Staleness::Released,
            Staleness::Replaced,
        ] {
            check(&Finding::Stale(quiet), 9999, None);
        }
        let never = EvidenceTimes {
            lost_after: None,
            ..TIMES
        };
        assert_eq!(never.event(&host(silent), Duration::MAX), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_starts_counts_anew() {
        let pulses = Pulses::default();
        tokio::time::sleep(Duration::from_secs(5)).await;
        pulses.note(&"a".into());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(pulses.silence("a"), Duration::from_secs(2));
        assert_eq!(pulses.silence("b"), Duration::from_secs(7));
        assert_eq!(Pulses::default().silence("a"), Duration::ZERO);
        pulses.forget_all_but(&Hosts::default());
        assert_eq!(pulses.silence("a"), Duration::from_secs(7));
    }
}
