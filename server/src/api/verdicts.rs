//! What becomes of a host by its evidence, at the edge: stored before anybody acts on it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use edge::Chain;
use plugin_api::{Offence, Refusal};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::alarm_rates::{Admission, AlarmRates};
use crate::{
    issue::{self, Lifetimes},
    journal::Record,
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
    pub(crate) alarm_rates: AlarmRates,
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
    pub(crate) async fn alarm_of(
        &self,
        refusal: &Refusal,
        also: Option<&HostId>,
        address: &str,
        source: Option<IpAddr>,
    ) {
        if refusal.alarms.is_empty() {
            return;
        }
        let alarming = Alarming {
            code: refusal.code,
            text: format!("{}, from {address}", Chain(&*refusal.source)),
            held_back: 0,
        };
        let mut hosts: Vec<_> = refusal.alarms.iter().chain(also).cloned().collect();
        hosts.sort();
        hosts.dedup();
        self.alarm(hosts, &alarming, address, source).await;
    }

    /// Notes that keys of `hosts` are at two places, unless too much is noted of one of them, or of `source`.
    pub(crate) async fn alarm(
        &self,
        hosts: Vec<HostId>,
        alarming: &Alarming,
        address: &str,
        source: Option<IpAddr>,
    ) {
        for _ in &hosts {
            self.meters.alarms.count([alarming.code]);
        }
        match self.alarm_rates.admit(&hosts, source, Instant::now().into_std()) {
            Admission::HeldBack { is_news: false } => {}
            Admission::HeldBack { is_news: true } => self.note_held_back(alarming, address).await,
            Admission::Noted => {
                for host in hosts {
                    self.note_alarm(&host, alarming.clone(), address).await;
                }
            }
        }
    }

    async fn note_alarm(&self, host: &HostId, alarming: Alarming, address: &str) {
        let (id, actor) = (Arc::clone(host), address.to_owned());
        let held_back = self.alarm_rates.take_held_back(host);
        let seen = Alarming {
            held_back,
            ..alarming.clone()
        };
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
            Ok(None) => self.alarm_rates.hold_back(host, held_back.saturating_add(1)),
            Err(error) => {
                self.alarm_rates.hold_back(host, held_back.saturating_add(1));
                error!(%error, host_id = %host, code = alarming.code, "Alarm not noted");
            }
        }
    }

    /// Says once a minute that not all is noted.
    async fn note_held_back(&self, alarming: &Alarming, address: &str) {
        warn!(
            code = alarming.code,
            error = alarming.text,
            caller_addr = address,
            "Alarms are held back: there are too many"
        );
        let record = Record::new("host_alarms_held_back", &address)
            .with("code", &alarming.code)
            .with("reason", &alarming.text);
        // That the trail can't be written is logged there.
        let _unaudited = self.registry.change(move |draft| draft.audit(record)).await;
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

#[cfg(test)]
mod tests {
    use attest::Reject;
    use edge::Clock;
    use plugin_api::Host;
    use svid::{Timestamp, TrustDomain};
    use tempfile::TempDir;
    use tokio::{sync::mpsc, time::advance};

    use super::*;
    use crate::{
        journal::{Journal, Reader},
        registry::Owner,
        store::{Config, Store},
    };

    const NOW: Timestamp = Timestamp::from_unix(1000);

    /// A thief, and so many hosts whose keys it may show.
    async fn verdicts(folder: &TempDir, victims: usize) -> Verdicts {
        let clock = Clock::pinned(NOW);
        let store = Arc::new(Store::open(folder.path(), Config::default()).unwrap());
        let (journal, _thread) = Journal::open(folder.path().join("audit"), clock).unwrap();
        let (publications, receiver) = mpsc::channel(64);
        let trust_domain = TrustDomain::parse("td").unwrap();
        let (owner, registry) = Owner::load(store, journal, trust_domain, clock, publications).unwrap();
        tokio::spawn(async move {
            let _nobody_follows = receiver;
            owner.run().await;
        });
        let ids = (0..victims).map(|n| n.to_string()).chain(["thief".into()]);
        for id in ids {
            let host = Host::enrolled(id.into(), NOW);
            let put = registry.change(move |draft| drop(draft.put_host(host)));
            put.await.unwrap();
        }
        Verdicts {
            registry,
            pulses: Pulses::default(),
            lifetimes: Lifetimes {
                x509_svid: Duration::ZERO,
                agent: Duration::ZERO,
                ca: Duration::ZERO,
            },
            meters: Meters::default(),
            alarm_rates: AlarmRates::default(),
        }
    }

    /// How often the audit trail has `event`.
    fn recorded(folder: &TempDir, event: &str) -> usize {
        let mut reader = Reader::open(&folder.path().join("audit")).unwrap();
        let mut count = 0;
        while let Some(entry) = reader.advance().unwrap() {
            count += usize::from(entry.record.event == event);
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn a_thief_of_keys_fills_no_trail_and_nothing_is_forgotten() {
        const VICTIMS: usize = 20;
        let folder = TempDir::new().unwrap();
        let verdicts = verdicts(&folder, VICTIMS).await;
        let show = async |victim: &str| {
            let snapshot = verdicts.registry.snapshot();
            let pair = ["thief", victim].map(|id| &**snapshot.hosts.get(id).unwrap());
            let refusal = Refusal::from(Reject::EkOfOtherHost).alarming(pair);
            let source = Some([10, 0, 0, 1].into());
            verdicts.alarm_of(&refusal, None, "10.0.0.1:7", source).await;
        };
        for n in 0..VICTIMS {
            show(&n.to_string()).await;
        }
        let alarmed = || {
            let snapshot = verdicts.registry.snapshot();
            let of = |id: &str| snapshot.hosts.get(id)?.alarm.as_ref().map(|alarm| alarm.count);
            let victims = (0..VICTIMS).filter(|n| of(&n.to_string()).is_some()).count();
            (victims, of("thief"), of("19"))
        };
        // The thief's own row says it once a minute.
        assert_eq!(alarmed(), (8, Some(1), None));
        assert_eq!(recorded(&folder, "host_alarm"), 9);
        assert_eq!(recorded(&folder, "host_alarms_held_back"), 1);

        advance(Duration::from_secs(60)).await;
        show("19").await;
        assert_eq!(alarmed(), (9, Some(21), Some(2)));
    }
}
