//! What becomes of a host by its evidence, at the edge: stored before anybody acts on it.

use std::{sync::Arc, time::Duration};

use edge::Chain;
use plugin_api::{Offence, Refusal};
use tracing::{error, info};

use crate::{
    issue::{self, Lifetimes},
    meters::Meters,
    pulses::Pulses,
    registry::{
        ChangeError, HostId, Registry, Snapshot,
        alarms::{self, Alarming},
        authorized_entries,
        verdict_changes::{self, Basis, Judgement},
    },
};

/// Judges hosts. Clones are the same judge.
#[derive(Clone)]
pub struct Verdicts {
    pub(crate) registry: Registry,
    pub(crate) pulses: Pulses,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) meters: Meters,
}

impl Verdicts {
    /// Notes good evidence that changed nothing in the row of `host`: a host that was silent is verified again.
    pub(super) async fn heard(&self, host: &HostId) -> Result<(), ChangeError> {
        self.pulses.note(host);
        let snapshot = self.registry.snapshot();
        let is_verified = snapshot
            .hosts
            .get(host)
            .is_none_or(|host| host.verdict.is_verified());
        if is_verified {
            return Ok(());
        }
        let id = Arc::clone(host);
        let healed = self.registry.change(move |draft| {
            let judgement = Judgement {
                actor: "server",
                exposure: None,
            };
            verdict_changes::hear(draft, &id, &judgement).is_some()
        });
        if healed.await? {
            info!(host_id = %host, "Host verified again");
        }
        Ok(())
    }

    /// Quarantines the host that surely said what is refused, if one did, and its row and what it is held to are as they
    /// were. `address` is from where it came.
    pub(crate) async fn condemn(&self, refusal: &Refusal, address: &str) -> Result<(), ChangeError> {
        let Some(id) = &refusal.said_by else {
            return Ok(());
        };
        let offence = Offence {
            code: refusal.code.into(),
            difference: Chain(&*refusal.source).to_string(),
        };
        let exposure = self.exposure(&self.registry.snapshot(), id);
        let (host, actor) = (Arc::clone(id), address.to_owned());
        let basis = Basis {
            revision: refusal.revision,
            policy_generation: refusal.policy_generation,
        };
        let condemned = self.registry.change(move |draft| {
            let judgement = Judgement {
                actor: &actor,
                exposure: Some(exposure),
            };
            verdict_changes::condemn(draft, &host, basis, offence, &judgement)
        });
        let Some(host) = condemned.await? else {
            return Ok(());
        };
        self.meters.quarantines.count([refusal.code]);
        error!(host_id = %host.id, host_name = host.name, agent_path = host.agent_path.as_deref(),
            reject = refusal.code, error = %Chain(&*refusal.source), caller_addr = address, ?exposure,
            "Host quarantined: nothing is signed for it, its SVIDs are revoked; who reads no CRL may take them for `exposure`");
        Ok(())
    }

    /// Notes that keys are at two places, in the rows of the hosts whose keys they are: those of `refusal`, and `also`.
    /// Should it not be stored, the refusal stands all the same.
    pub(crate) async fn alarm_of(&self, refusal: &Refusal, also: Option<&HostId>, address: &str) {
        if refusal.alarms.is_empty() {
            return;
        }
        let alarming = Alarming {
            code: refusal.code,
            text: format!("{}, from {address}", Chain(&*refusal.source)),
        };
        let mut hosts: Vec<_> = refusal.alarms.iter().chain(also).collect();
        hosts.sort();
        hosts.dedup();
        for host in hosts {
            self.alarm(host, alarming.clone(), address).await;
        }
    }

    /// Notes that a key of `host` is at two places.
    pub(crate) async fn alarm(&self, host: &HostId, alarming: Alarming, address: &str) {
        self.meters.alarms.count([alarming.code]);
        let (id, actor) = (Arc::clone(host), address.to_owned());
        let seen = alarming.clone();
        let raised = self
            .registry
            .change(move |draft| alarms::raise(draft, &id, &seen, &actor));
        match raised.await {
            Ok(Some(host)) => {
                error!(host_id = %host.id, host_name = host.name, agent_path = host.agent_path.as_deref(),
                    code = alarming.code, error = alarming.text, caller_addr = address,
                    "A key of this host is at two places");
            }
            // It was said just before.
            Ok(None) => {}
            Err(error) => error!(%error, host_id = %host, code = alarming.code, "Alarm not noted"),
        }
    }

    /// How long an SVID that was signed for a host just now may live.
    fn exposure(&self, snapshot: &Snapshot, host: &HostId) -> Duration {
        let path = snapshot.hosts.get(host).and_then(|host| host.agent_path.clone());
        let agent = path.and_then(|path| snapshot.agents.get(&path));
        let Some(agent) = agent else {
            return Duration::ZERO;
        };
        // Also of entries that have ended by now.
        let entries = authorized_entries(snapshot, agent, svid::Timestamp::from_unix(i64::MIN));
        issue::longest_life(&self.lifetimes, entries.iter().map(AsRef::as_ref))
    }
}
