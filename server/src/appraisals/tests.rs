use std::path::Path;

use attest::{
    HashAlg, PcrSelection, PcrSet,
    event_log::EventLog,
    policy::{Generation, Generations, Policy, Stage},
};
use plugin_api::{KernelList, KnownLog, Offence, Verdict};
use svid::TrustDomain;
use tempfile::TempDir;

use super::*;
use crate::{
    registry::{Draft, Snapshot, StoredGeneration, StoredPolicy, full_host},
    store::{Config, Store},
};

const NOW: Timestamp = Timestamp::from_unix(1000);

/// A store with the log of each host.
struct World {
    state: Snapshot,
    store: Arc<Store>,
    _folder: TempDir,
}

fn log(name: &str) -> Vec<u8> {
    let logs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../attest/testdata/eventlogs");
    std::fs::read(logs.join(name)).unwrap()
}

fn selection(text: &str) -> PcrSelection {
    text.parse().unwrap()
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        Self {
            state: Snapshot::empty(TrustDomain::parse("td").unwrap()),
            store: Arc::new(Store::open(folder.path(), Config::default()).unwrap()),
            _folder: folder,
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Draft)) {
        let mut draft = Draft::new(self.state.clone(), NOW);
        change(&mut draft);
        let finished = draft.finish();
        self.state = finished.state;
        self.store.commit(finished.batch).unwrap();
    }

    /// A verified host that booted as `boot` says, of which these PCRs were quoted.
    fn host(&mut self, id: &str, boot: &[u8], pcrs: &str) {
        let selection = selection(pcrs);
        let values = EventLog::parse(boot)
            .unwrap()
            .replay(HashAlg::Sha256)
            .unwrap()
            .select(&selection);
        let sha256 = HashAlg::Sha256.digest(&[boot]);
        let sha256 = *sha256.as_bytes().first_chunk().unwrap();
        let appraised = Appraised {
            selection,
            policy_generation: 0,
            policies: Vec::new(),
            selectors: Vec::new(),
            kernel_list: None,
            event_log: Some(KnownLog {
                sha256,
                values,
                is_kept: true,
            }),
            ..full_host().appraised.unwrap()
        };
        let host = Host {
            appraised: Some(appraised),
            verdict: verdict(Finding::Verified),
            ..Host::enrolled(id.into(), NOW)
        };
        self.change(|draft| {
            draft.keep_log(&sha256, boot);
            draft.put_host(host);
        });
    }

    fn judge(&mut self, id: &str, finding: Finding) {
        let host = self.state.hosts.get(id).unwrap();
        let host = Host {
            verdict: verdict(finding),
            ..(**host).clone()
        };
        self.change(|draft| drop(draft.put_host(host)));
    }

    fn logs(&self) -> EventLogs {
        EventLogs::new(Arc::clone(&self.store))
    }

    /// Who falls out if all are held to `policy`: their names, and how many are unknown.
    fn check(&self, policy: &HostPolicies, expected: (&[&str], usize)) {
        let none = |_: &Host| HostPolicies::default();
        let after = |_: &Host| policy.clone();
        let fall_out = fall_out(&self.state.hosts, &self.logs(), NOW, none, after);
        let ids: Vec<_> = fall_out.hosts.iter().map(|(host, _)| host.id.as_ref()).collect();
        assert_eq!((ids.as_slice(), fall_out.unknown), expected);
        assert_eq!(fall_out.count, ids.len());
    }

    fn due(&self) -> Vec<String> {
        due(&self.state).map(|(id, _)| id.to_string()).collect()
    }
}

fn verdict(finding: Finding) -> Verdict {
    Verdict {
        finding,
        since: NOW,
        generation: 1,
    }
}

/// What the boot of a virtual machine leaves in a PCR.
fn pinned(pcr: u8, stage: Stage) -> Generation {
    let values = EventLog::parse(&log("vm-sb-56c.bin"))
        .unwrap()
        .replay(HashAlg::Sha256)
        .unwrap();
    let value = values.get(HashAlg::Sha256, pcr).unwrap();
    let text =
        format!("format = 1\nname = \"vm\"\nversion = 1\n[[pcr]]\nindex = {pcr}\nvalues = [\"{value}\"]\n");
    Generation::new(Policy::parse(text.as_bytes()).unwrap(), stage)
}

fn held_to(generation: Generation) -> HostPolicies {
    HostPolicies::new(vec![Arc::new(Generations::new(vec![generation]).unwrap())])
}

/// Three hosts: one that booted as it should, one that did not, one like the first that shows less.
fn fleet() -> World {
    let mut world = World::new();
    world.host("good", &log("vm-sb-56c.bin"), "sha256:0-9,11");
    world.host("other", &log("vm-sb-56c-cmd2.bin"), "sha256:0-9,11");
    world.host("narrow", &log("vm-sb-56c.bin"), "sha256:0-9");
    world
}

#[test]
fn who_would_fall_out_is_known_from_what_is_on_record() {
    let mut world = fleet();
    world.check(&held_to(pinned(4, Stage::Enforced)), (&["other"], 0));
    world.check(&held_to(pinned(4, Stage::Staged)), (&[], 0));
    world.check(&HostPolicies::default(), (&[], 0));
    // What a host was not asked for speaks for and against nobody.
    world.check(&held_to(pinned(11, Stage::Enforced)), (&["other"], 1));
    // Who is out already, or not in yet, does not fall out.
    let offence = Offence {
        code: "log_mismatch".into(),
        difference: "PCR 4".into(),
    };
    world.judge("other", Finding::Quarantined(offence));
    world.change(|draft| drop(draft.put_host(Host::enrolled("new".into(), NOW))));
    world.check(&held_to(pinned(4, Stage::Enforced)), (&[], 1));
}

/// Its PCRs are not judged at all: of what is enforced it meets nothing.
#[test]
fn a_host_without_a_log_falls_out_when_something_is_enforced() {
    let mut world = fleet();
    let mut host = (**world.state.hosts.get("good").unwrap()).clone();
    host.appraised.as_mut().unwrap().event_log = None;
    world.change(|draft| drop(draft.put_host(host)));
    world.check(&held_to(pinned(4, Stage::Enforced)), (&["good", "other"], 0));
    world.check(&held_to(pinned(4, Stage::Staged)), (&[], 0));
}

/// Who has a list shows it when it is asked next; who has none does not meet a rule about files.
#[test]
fn rules_about_files_are_for_hosts_to_show() {
    let mut world = fleet();
    let mut host = (**world.state.hosts.get("good").unwrap()).clone();
    host.appraised.as_mut().unwrap().kernel_list = Some(KernelList::of_boot(1));
    world.change(|draft| drop(draft.put_host(host)));
    let rule = Policy::parse(b"format = 1\nname = \"vm\"\nversion = 1\n[ima]\n").unwrap();
    let files = held_to(Generation::new(rule, Stage::Enforced));
    world.check(&files, (&["narrow", "other"], 1));
    world.check(&held_to(pinned(4, Stage::Enforced)), (&["other"], 0));
}

#[test]
fn what_falls_out_is_said_with_what_differs() {
    let world = fleet();
    let (host, policies) = (
        world.state.hosts.get("other").unwrap(),
        held_to(pinned(4, Stage::Enforced)),
    );
    let outcome = appraise(host, &policies, &world.logs(), NOW).unwrap().unwrap();
    let said = outcome.check().unwrap_err().to_string();
    assert!(said.contains("PCR 4 of bank sha256: expected"), "{said}");
    assert!(!outcome.selectors.contains(&"policy:vm".into()));
    let good = world.state.hosts.get("good").unwrap();
    let outcome = appraise(good, &policies, &world.logs(), NOW).unwrap().unwrap();
    assert!(outcome.check().is_ok() && outcome.selectors.contains(&"policy:vm".into()));
}

#[test]
fn a_log_is_kept_once_and_goes_with_the_last_host_that_has_it() {
    let mut world = fleet();
    let kept = |world: &World| {
        let mut logs = 0;
        let count = |_: &[u8], _: &[u8]| -> Result<(), crate::store::StoreError> {
            logs += 1;
            Ok(())
        };
        world.store.scan(b"event_log/", count).unwrap();
        logs
    };
    assert_eq!(kept(&world), 2);
    world.change(|draft| drop(draft.remove_host("narrow")));
    assert_eq!(kept(&world), 2);
    assert!(
        world
            .logs()
            .of(world.state.hosts.get("good").unwrap())
            .unwrap()
            .is_some()
    );
    world.host("good", &log("vm-sb-56c-cmd2.bin"), "sha256:0-9");
    assert_eq!(kept(&world), 1);
    world.change(|draft| drop(draft.remove_host("other")));
    assert_eq!(kept(&world), 1);
    world.change(|draft| drop(draft.remove_host("good")));
    assert_eq!(kept(&world), 0);
}

#[test]
fn hosts_that_are_held_to_something_new_are_looked_at_unless_they_show_themselves_first() {
    let mut world = fleet();
    assert_eq!(world.due(), [""; 0]);
    let generation = pinned(11, Stage::Enforced);
    let stored = StoredGeneration {
        generation,
        text: "".into(),
        since: NOW,
        applied_at: NOW,
        applied_by: String::new(),
        is_signed: false,
    };
    let policy = StoredPolicy::new("vm".parse().unwrap(), 1, true, vec![stored]).unwrap();
    world.state.policies.insert(policy);
    // That of which a PCR is missing is asked for it.
    assert_eq!(world.due(), ["good", "other"]);
    for (finding, is_due) in [
        (Finding::Stale(Staleness::Silent), true),
        (Finding::Stale(Staleness::Lost), true),
        (Finding::Stale(Staleness::Released), false),
        (Finding::Stale(Staleness::New), false),
    ] {
        world.judge("other", finding.clone());
        assert_eq!(world.due().contains(&"other".into()), is_due, "{finding:?}");
    }
    let policies = world.state.policies.of(world.state.hosts.get("good").unwrap());
    let host = Arc::clone(world.state.hosts.get("good").unwrap());
    let outcome = appraise(&host, &policies, &world.logs(), NOW).unwrap().unwrap();
    let generation = policies.generation();
    let moved = outcome.clone();
    world.change(|draft| {
        verdict_changes::reappraise(draft, "good", host.revision + 1, generation, moved);
    });
    assert_eq!(world.due(), ["good"], "a row that has moved is looked at again");
    world.change(|draft| {
        verdict_changes::reappraise(draft, "good", host.revision, generation, outcome);
    });
    assert_eq!(world.due(), [""; 0]);
    let needed: PcrSet = [11].into_iter().collect();
    assert_eq!(policies.needed_pcrs(), needed);
}
