use std::path::Path;

use attest::{
    Digest, HashAlg, PcrSelection, PcrSet, PcrValues,
    event_log::EventLog,
    ima::Progress,
    policy::{Generation, Generations, Policy, Stage},
};
use plugin_api::{KernelList, KnownLog, Offence, PolicyJudgement, PolicyStanding, Verdict};
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
        self.check_change(&HostPolicies::default(), policy, expected);
    }

    /// The same if they are held to `before` until then.
    fn check_change(&self, before: &HostPolicies, after: &HostPolicies, expected: (&[&str], usize)) {
        let fall_out = self.fall_out(before, after);
        let ids: Vec<_> = fall_out.hosts.iter().map(|(host, _)| host.id.as_ref()).collect();
        assert_eq!((ids.as_slice(), fall_out.unknown), expected);
        assert_eq!(fall_out.count, ids.len());
        assert_eq!(fall_out.unknown_hosts.len(), fall_out.unknown);
    }

    fn fall_out(&self, before: &HostPolicies, after: &HostPolicies) -> FallOut {
        let (before, after) = (|_: &Host| before.clone(), |_: &Host| after.clone());
        fall_out(&self.state.hosts, &self.logs(), NOW, before, after)
    }

    /// Changes what was accepted last of a host.
    fn accept(&mut self, id: &str, change: impl FnOnce(&mut Appraised)) {
        let mut host = (**self.state.hosts.get(id).unwrap()).clone();
        change(host.appraised.as_mut().unwrap());
        self.change(|draft| drop(draft.put_host(host)));
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

fn with_list(appraised: &mut Appraised) {
    appraised.kernel_list = Some(KernelList::of_boot(1));
}

/// A rule about files.
fn files(stage: Stage) -> Generation {
    let rule = Policy::parse(b"format = 1\nname = \"vm\"\nversion = 1\n[ima]\n").unwrap();
    Generation::new(rule, stage)
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
    world.accept("good", |appraised| appraised.event_log = None);
    world.check(&held_to(pinned(4, Stage::Enforced)), (&["good", "other"], 0));
    world.check(&held_to(pinned(4, Stage::Staged)), (&[], 0));
}

/// Who has a list shows it when it is asked next; who has none does not meet a rule about files.
#[test]
fn rules_about_files_are_for_hosts_to_show() {
    let mut world = fleet();
    world.accept("good", with_list);
    world.check(&held_to(files(Stage::Enforced)), (&["narrow", "other"], 1));
    world.check(&held_to(pinned(4, Stage::Enforced)), (&["other"], 0));
}

/// A host that is held to a staged generation has shown by now what that needs, and what it came to is in its row.
#[test]
fn what_hosts_showed_while_it_was_staged_tells_who_falls_out() {
    let (before, after) = (held_to(files(Stage::Staged)), held_to(files(Stage::Enforced)));
    let mut world = fleet();
    for (id, differences) in [("good", &[][..]), ("other", &["a file is not listed"])] {
        let noted = PolicyJudgement {
            generation: files(Stage::Staged).id().to_string(),
            version: 1,
            is_enforced: false,
            differences: differences.iter().map(ToString::to_string).collect(),
            more: 0,
        };
        world.accept(id, |appraised| {
            appraised.kernel_list = Some(KernelList::of_boot(1));
            appraised.policies = vec![PolicyStanding {
                name: "vm".parse().unwrap(),
                since: NOW,
                judgements: vec![noted],
            }];
        });
    }
    world.change(|draft| drop(draft.remove_host("narrow")));
    // Those were the words of another generation.
    world.check_change(&before, &after, (&[], 2));
    for id in ["good", "other"] {
        world.accept(id, |appraised| appraised.policy_generation = before.generation());
    }
    world.check_change(&before, &after, (&["other"], 0));
}

/// A further generation beside the one that is enforced, or one policy less: nobody falls out by that.
#[test]
fn a_change_that_demands_nothing_more_leaves_nobody_unknown() {
    let mut world = World::new();
    world.host("narrow", &log("vm-sb-56c.bin"), "sha256:0-9");
    let second = || {
        let text = format!(
            "format = 1\nname = \"vm\"\nversion = 2\n[[pcr]]\nindex = 11\nvalues = [\"{}\"]\n",
            "ab".repeat(32)
        );
        Generation::new(Policy::parse(text.as_bytes()).unwrap(), Stage::Enforced)
    };
    let generations =
        |all: Vec<Generation>| HostPolicies::new(vec![Arc::new(Generations::new(all).unwrap())]);
    let one = generations(vec![pinned(11, Stage::Enforced)]);
    let both = generations(vec![pinned(11, Stage::Enforced), second()]);
    let staged = generations(vec![pinned(11, Stage::Staged), second()]);
    let watched = generations(vec![pinned(11, Stage::Staged)]);
    world.check_change(&one, &both, (&[], 0));
    world.check_change(&both, &one, (&[], 1));
    world.check_change(&one, &staged, (&[], 1));
    world.check_change(&watched, &one, (&[], 1));
}

#[test]
fn of_whom_too_little_is_on_record_is_said_with_what_is_missing() {
    let mut world = fleet();
    world.change(|draft| drop(draft.put_host(Host::enrolled("new".into(), NOW))));
    world.host("silent", &log("vm-sb-56c.bin"), "sha256:0-9,11");
    world.accept("silent", |appraised| {
        let log = appraised.event_log.as_mut();
        log.unwrap().is_kept = false;
    });
    world.host("listed", &log("vm-sb-56c.bin"), "sha256:0-9,11");
    world.accept("listed", with_list);
    let said = |policies: &HostPolicies| {
        let fall_out = world.fall_out(&HostPolicies::default(), policies);
        let unknown = fall_out.unknown_hosts.iter();
        let said = unknown.map(|(host, why)| format!("{}: {why}", host.id));
        said.collect::<Vec<_>>()
    };
    let unshown = [
        "new: it has not attested",
        "silent: its event log is not on record",
    ];
    assert_eq!(
        said(&held_to(pinned(11, Stage::Enforced))),
        ["narrow: it was not asked for PCR 11 yet", unshown[0], unshown[1]]
    );
    assert_eq!(
        said(&held_to(files(Stage::Enforced))),
        [
            "listed: its kernel's measurement list is not on record",
            unshown[0],
            unshown[1]
        ]
    );
}

#[test]
fn what_falls_out_is_said_with_what_differs() {
    let world = fleet();
    let (host, policies) = (
        world.state.hosts.get("other").unwrap(),
        held_to(pinned(4, Stage::Enforced)),
    );
    let outcome = appraise(host, &policies, &world.logs(), NOW).unwrap();
    let said = outcome.check().unwrap_err().to_string();
    assert!(said.contains("PCR 4 of bank sha256: expected"), "{said}");
    assert!(!outcome.selectors.contains(&"policy:vm".into()));
    let good = world.state.hosts.get("good").unwrap();
    let outcome = appraise(good, &policies, &world.logs(), NOW).unwrap();
    assert!(outcome.check().is_ok() && outcome.selectors.contains(&"policy:vm".into()));
}

/// What was said of its list is neither lost nor older than the row; its PCR goes on, and says nothing.
#[test]
fn a_host_that_showed_its_list_is_called_as_if_it_showed_itself() {
    let mut world = World::new();
    world.host("listed", &log("vm-sb-56c.bin"), "sha256:0-10");
    let mut check = |violations, expected: &[&str]| {
        world.accept("listed", |appraised| {
            let mut extended = PcrValues::default();
            extended.set(HashAlg::Sha256, 10, Digest::filled(7, HashAlg::Sha256));
            appraised.kernel_list = Some(KernelList {
                progress: Progress::resumed(1, 12, &extended),
                bytes: 1200,
                violations,
            });
        });
        let host = world.state.hosts.get("listed").unwrap();
        let outcome = appraise(host, &HostPolicies::default(), &world.logs(), NOW).unwrap();
        let of_list = |selector: &&String| selector.starts_with("ima:") || selector.contains(":10:");
        let found: Vec<_> = outcome.selectors.iter().filter(of_list).collect();
        assert_eq!(found, expected);
    };
    check(0, &["ima:clean", "ima:proven"]);
    check(1, &["ima:proven"]);
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
    let outcome = appraise(&host, &policies, &world.logs(), NOW).unwrap();
    let basis = |more_revision, more_generation| Basis {
        revision: host.revision + more_revision,
        policy_generation: policies.generation().wrapping_add(more_generation),
    };
    for (moved, what) in [(basis(1, 0), "row"), (basis(0, 1), "policy")] {
        let outcome = outcome.clone();
        world.change(|draft| verdict_changes::reappraise(draft, "good", moved, outcome));
        assert_eq!(
            world.due(),
            ["good"],
            "what has another {what} is looked at again"
        );
    }
    world.change(|draft| verdict_changes::reappraise(draft, "good", basis(0, 0), outcome));
    assert_eq!(world.due(), [""; 0]);
    let needed: PcrSet = [11].into_iter().collect();
    assert_eq!(policies.needed_pcrs(), needed);
}

#[test]
fn the_more_hosts_are_due_the_shorter_are_the_pauses_between_them() {
    for (hosts, longest) in [
        (0, Duration::from_millis(20)),
        (1, Duration::from_millis(20)),
        (500, Duration::from_millis(20)),
        (501, Duration::from_secs(10) / 501),
        (10_000, Duration::from_millis(1)),
        (1_000_000, Duration::from_micros(10)),
        (usize::MAX, Duration::from_secs(10) / u32::MAX),
    ] {
        assert_eq!(longest_pause(hosts), longest, "{hosts}");
    }
    for hosts in 0..20_000 {
        let all = longest_pause(hosts) * u32::try_from(hosts).unwrap();
        assert!(all <= Duration::from_secs(10), "{hosts}: {all:?}");
    }
}
