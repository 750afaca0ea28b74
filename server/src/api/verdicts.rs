//! What becomes of a host by its evidence, at the edge: stored before anybody acts on it.

use std::{sync::Arc, time::Duration};

use edge::Chain;
use plugin_api::{HostEvent, Offence, Refusal};
use tracing::{error, info};

use crate::{
    issue::{self, Lifetimes},
    meters::Meters,
    pulses::Pulses,
    registry::{
        ChangeError, HostId, Registry, Snapshot, authorized_entries,
        verdict_changes::{self, Judgement, judge},
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
            judge(draft, &id, HostEvent::Answered, &judgement).is_some()
        });
        if healed.await? {
            info!(host_id = %host, "Host verified again");
        }
        Ok(())
    }

    /// Quarantines the host that surely said what is refused, if one did and its row is as it was. `address` is from where it came.
    pub(crate) async fn condemn(&self, refusal: &Refusal, address: &str) -> Result<(), ChangeError> {
        let Some(id) = &refusal.said_by else {
            return Ok(());
        };
        let offence = Offence {
            code: refusal.code.into(),
            difference: Chain(&*refusal.source).to_string(),
        };
        let exposure = self.exposure(&self.registry.snapshot(), id);
        let (host, actor, revision) = (Arc::clone(id), address.to_owned(), refusal.revision);
        let condemned = self.registry.change(move |draft| {
            let judgement = Judgement {
                actor: &actor,
                exposure: Some(exposure),
            };
            verdict_changes::condemn(draft, &host, revision, offence, &judgement)
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
