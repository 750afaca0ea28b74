//! Reference values on a server: hosts are watched, then held to them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, Instant},
};

use attest::{HashAlg, event_log::EventLog};
use serde_json::Value;
use swtpm_tests::{Agent, Machine, World, new_dir};

/// A virtual machine with Secure Boot, and the same with another command line.
const GOLDEN: &str = "vm-sb-56c.bin";
const CHANGED: &str = "vm-sb-56c-cmd2.bin";
/// The PCRs of kernel images as well.
const PCRS: &str = "pcrs = \"sha256:0-9,11-14\"";
const CMDLINE: &str = "console=ttyS0,115200 rootfstype=ramfs ima_policy=tcb ima_hash=sha256 quiet panic=-1";
/// So often that no test waits for it.
const OFTEN: &str = "evidence_interval = \"1s\"\n";
const WEB: &str = "spiffe://example.org/web";

/// A host, and its row.
struct Enrolled {
    machine: Machine,
    agent: Agent,
    id: String,
}

fn world() -> World {
    World::for_tpms(OFTEN, PCRS)
}

fn serving(world: &World, log: &str) -> Enrolled {
    let machine = Machine::booted(log);
    let id = world.enrol(&machine);
    let agent = world.agent_with(&machine);
    Enrolled { machine, agent, id }
}

/// Writes what is learned of a host.
fn learn(world: &World, host: &str, version: &str, command_line: &str) -> PathBuf {
    let mut words = vec!["policy", "learn", "--name", "vm", "--host", host];
    words.extend(["--policy-version", version, "--command-line", command_line]);
    let text = world.cli(&words);
    let path = new_dir().join("policy.toml");
    fs::write(&path, text.as_str().unwrap()).unwrap();
    path
}

fn apply(world: &World, policy: &Path) -> Value {
    world.cli(&["policy", "apply", policy.to_str().unwrap()])
}

fn shown(world: &World, host: &str) -> Value {
    world.cli(&["host", "show", "--id", host])
}

/// Asks until `wanted` holds of what `look` shows.
fn until(what: &str, mut look: impl FnMut() -> Value, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let seen = look();
        if wanted(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "{what}: {seen}");
    }
}

fn finding(host: &Value) -> &str {
    host["verdict"]["finding"].as_str().unwrap()
}

fn is_met(host: &Value) -> bool {
    host["appraisals"][0]["is_met"] == true
}

fn said(outcome: &Output) -> String {
    let (out, err) = (&outcome.stdout, &outcome.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// An entry for all nodes that meet the policy `vm`, and one for a workload on them.
fn entry_for_nodes(world: &World) {
    let nodes = "spiffe://example.org/vm";
    let alias = [
        "entry",
        "create",
        "--node",
        "--spiffe-id",
        nodes,
        "--selector",
        "tpm:policy:vm",
    ];
    let _alias = world.cli(&alias);
    let _entry = world.entry(nodes, WEB, &[]);
}

#[test]
fn a_policy_is_learned_watched_enforced_and_rolled_out() {
    let mut world = world();
    let golden = serving(&world, GOLDEN);
    let other = serving(&world, CHANGED);

    // Watched: what differs is noted, and nothing follows.
    let first = learn(&world, &golden.id, "1", CMDLINE);
    let applied = apply(&world, &first);
    let generation = applied["generation"].as_str().unwrap().to_owned();
    let assigned = world.cli(&["policy", "assign", "--all", "--set", "vm"]);
    assert_eq!(assigned["is_done"], true, "{assigned}");
    let look = |host: &Enrolled| shown(&world, &host.id);
    let judged = |host: &Value| !host["appraisals"].as_array().unwrap().is_empty();
    let watched = until("watched", || look(&other), judged);
    let differences = &watched["appraisals"][0]["judgements"][0]["differences"];
    assert!(differences.to_string().contains("command line"), "{watched}");
    assert_eq!(finding(&watched), "FINDING_VERIFIED", "{watched}");
    until("watched", || look(&golden), judged);
    let appraised = world.audit(&["query", "--event", "host_appraised", "--output", "json"]);
    assert!(
        appraised
            .iter()
            .any(|record| record.to_string().contains("command line"))
    );

    // Who would fall out is said before anybody does.
    let promote = ["policy", "promote", "vm"];
    let foreseen = world.cli(&[&promote[..], &["--dry-run"]].concat());
    assert_eq!(
        (&foreseen["is_done"], &foreseen["fall_out_count"]),
        (&false.into(), &1.into())
    );
    assert_eq!(
        foreseen["fall_out"][0]["host_id"],
        other.id.as_str(),
        "{foreseen}"
    );
    let refused = world.outcome(&promote);
    assert!(!refused.status.success());
    assert!(
        said(&refused).contains("--accept-fall-out 1"),
        "{}",
        said(&refused)
    );
    assert_eq!(finding(&look(&other)), "FINDING_VERIFIED");

    // Enforced: who meets it is called by it, who does not is out, with what differs.
    entry_for_nodes(&world);
    let done = world.cli(&[&promote[..], &["--accept-fall-out", "1"]].concat());
    assert_eq!(done["is_done"], true, "{done}");
    golden.agent.daemon().wait_for("SVID ready");
    other.agent.daemon().wait_for("host_quarantined");
    let out = look(&other);
    assert_eq!(
        (finding(&out), out["verdict"]["code"].as_str()),
        ("FINDING_QUARANTINED", Some("policy_not_met"))
    );
    let why = out["verdict"]["difference"].as_str().unwrap();
    for words in ["policy vm is not met", "command line: expected", "event "] {
        assert!(why.contains(words), "{words}: {why}");
    }
    assert!(is_met(&look(&golden)));

    // All of it outlives the server; released as it is, the host is found out again.
    world.restart_server();
    let look = |host: &Enrolled| shown(&world, &host.id);
    let listed = world.cli(&["policy", "list"]);
    let kept = &listed["policies"][0]["generations"][0];
    assert_eq!(
        (&kept["id"], &kept["stage"]),
        (&generation.as_str().into(), &"STAGE_ENFORCED".into())
    );
    let _released = world.cli(&["host", "release", "--id", &other.id]);
    let twice = || {
        let found = world.audit(&["query", "--event", "host_quarantined", "--output", "json"]);
        Value::from(found.len())
    };
    until("quarantined again", twice, |count| count.as_u64() >= Some(2));

    let other_line = format!("{CMDLINE} vmtest.changed=1");
    // The next generation knows the other command line: enforced beside the first, both hosts are good.
    let second = learn(&world, &other.id, "2", &other_line);
    let applied = apply(&world, &second);
    let changes = applied["changes"].to_string();
    assert!(changes.contains("vmtest.changed=1"), "{applied}");
    let done = world.cli(&promote);
    assert_eq!(
        (&done["is_done"], &done["fall_out_count"]),
        (&true.into(), &0.into()),
        "{done}"
    );
    let _released = world.cli(&["host", "release", "--id", &other.id]);
    until(
        "healed",
        || look(&other),
        |host| finding(host) == "FINDING_VERIFIED" && is_met(host),
    );
    other.agent.daemon().wait_for("SVID ready");
    assert_eq!(finding(&look(&golden)), "FINDING_VERIFIED");

    // Retired: the hosts are what they were, and no longer called by it.
    let watch = golden.agent.watch();
    watch.wait_for(WEB);
    let all = ["policy", "retire", "vm", "--all-generations"];
    let retired = world.cli(&all);
    assert_eq!(retired["is_done"], true, "{retired}");
    watch.wait_for("no identity issued");
    assert_eq!(finding(&look(&golden)), "FINDING_VERIFIED");
    drop(golden.machine);
}

#[test]
fn a_policy_is_tried_on_what_a_host_showed_last() {
    let world = world();
    let [golden, other] = [GOLDEN, CHANGED].map(|log| serving(&world, log));
    let folder = new_dir();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let learned = world.cli(&[
        "policy",
        "learn",
        &golden.id,
        "--name",
        "vm",
        "--command-line",
        CMDLINE,
    ]);
    let learned = file("learned.toml", learned.as_str().unwrap());
    let check = |policy: &str, host: &Enrolled, code: i32, words: &[&str]| {
        let outcome = world.outcome(&["policy", "test", policy, "--host", &host.id]);
        let said = said(&outcome);
        assert_eq!(outcome.status.code(), Some(code), "{said}");
        assert!(
            words.iter().all(|words| said.contains(words)),
            "{words:?}: {said}"
        );
    };
    check(&learned, &golden, 0, &["\"met\": true", "\"version\": 1"]);
    let differs = [
        "\"met\": false",
        "policy_uki_section",
        "section `.cmdline`",
        "\"event\": ",
    ];
    check(&learned, &other, 1, &differs);
    let _applied = apply(&world, Path::new(&learned));
    check("server:vm", &golden, 0, &["\"met\": true"]);
    check("server:vm", &other, 1, &differs);
    // Nobody quoted PCR 15, and no kernel's list is on record.
    let unknown = format!(
        "format = 1\nname = \"more\"\nversion = 1\n[ima]\n[[pcr]]\nindex = 15\nvalues = [\"{}\"]\n",
        "00".repeat(32)
    );
    let unknown = file("unknown.toml", &unknown);
    check(
        &unknown,
        &golden,
        1,
        &["\"met\": false", "\"differences\": []", "\"PCR 15", "\"the files"],
    );
    // What was only tried is not kept, and nothing follows.
    assert_eq!(finding(&shown(&world, &other.id)), "FINDING_VERIFIED");
    let listed = world.cli(&["policy", "list"]);
    assert_eq!(listed["policies"].as_array().unwrap().len(), 1, "{listed}");
}

#[test]
fn a_host_that_booted_something_else_is_refused_when_it_attests() {
    let world = world();
    let golden = serving(&world, GOLDEN);
    let policy = learn(&world, &golden.id, "1", CMDLINE);
    let _applied = apply(&world, &policy);
    let _done = world.cli(&["policy", "promote", "vm"]);

    let machine = Machine::booted(CHANGED);
    let id = world.enrol(&machine);
    let assign = ["policy", "assign", "--host", &id, "--set", "vm"];
    let assigned = world.cli(&[&assign[..], &["--accept-unknown", "1"]].concat());
    assert_eq!(
        (&assigned["is_done"], &assigned["unknown"]),
        (&true.into(), &1.into()),
        "{assigned}"
    );
    let agent = Agent::on(&machine, &world.address(), &world.bundle());

    let refusal = agent.daemon().wait_for("policy_not_met");
    assert!(refusal.contains("command line"), "{refusal}");
    assert_eq!(finding(&shown(&world, &id)), "FINDING_QUARANTINED");
    assert_eq!(agent.daemon().count("Agent ready"), 0);
    // A host that is held to nothing is as it was.
    assert_eq!(finding(&shown(&world, &golden.id)), "FINDING_VERIFIED");
}

#[test]
fn a_host_is_asked_for_further_pcrs_before_it_is_judged_by_them() {
    // Hosts quote what they do by default, without PCR 11.
    let world = World::for_tpms(OFTEN, "");
    let golden = serving(&world, GOLDEN);
    let log = fs::read(golden.machine.event_log()).unwrap();
    let values = EventLog::parse(&log).unwrap().replay(HashAlg::Sha256).unwrap();
    let value = values.get(HashAlg::Sha256, 11).unwrap();
    let text =
        format!("format = 1\nname = \"vm\"\nversion = 1\n[[pcr]]\nindex = 11\nvalues = [\"{value}\"]\n");
    let policy = new_dir().join("policy.toml");
    fs::write(&policy, text).unwrap();
    let _applied = apply(&world, &policy);
    let _done = world.cli(&["policy", "promote", "vm"]);

    // Whether it falls out nobody knows: that is not found out by having it fall.
    let assign = ["policy", "assign", "--host", &golden.id, "--set", "vm"];
    let refused = world.outcome(&assign);
    assert!(!refused.status.success());
    let missing = "it was not asked for PCR 11 yet";
    for words in [&golden.id, missing, "while it is staged", "--accept-unknown 1"] {
        assert!(said(&refused).contains(words), "{words}: {}", said(&refused));
    }
    let look = || shown(&world, &golden.id);
    assert_eq!(look()["policies"], serde_json::json!([]), "{}", look());
    let assigned = world.cli(&[&assign[..], &["--accept-unknown", "1"]].concat());
    assert_eq!(
        (&assigned["is_done"], &assigned["unknown"]),
        (&true.into(), &1.into()),
        "{assigned}"
    );

    let met = until("met", look, is_met);
    assert_eq!(finding(&met), "FINDING_VERIFIED", "{met}");
    let agents = world.cli(&["agent", "list"]).to_string();
    for selector in ["policy:vm", "pcr:sha256:11:", "secure_boot:on"] {
        assert!(agents.contains(selector), "{selector}: {agents}");
    }
    assert_eq!(world.server().count("Host quarantined"), 0);
}

#[test]
fn what_makes_no_sense_is_refused_with_what_to_do() {
    let world = world();
    let refused = |words: &[&str], expected: &str| {
        let outcome = world.outcome(words);
        assert!(!outcome.status.success(), "{words:?}");
        assert!(said(&outcome).contains(expected), "{words:?}: {}", said(&outcome));
    };
    refused(&["policy", "promote", "vm"], "there is no policy vm");
    refused(
        &["policy", "assign", "--all", "--set", "vm"],
        "there is no policy vm",
    );
    refused(
        &["policy", "assign", "--host", "x", "--set", ""],
        "host not found",
    );
    refused(&["policy", "show", "server:vm"], "there is no policy vm");
    let file = new_dir().join("policy.toml");
    let path = file.to_str().unwrap();
    let write = |version: u32, value: &str| {
        let text = format!(
            "format = 1\nname = \"vm\"\nversion = {version}\n[[pcr]]\nindex = 4\nvalues = [\"{}\"]\n",
            value.repeat(32)
        );
        fs::write(&file, text).unwrap();
    };
    write(2, "ab");
    let _applied = world.cli(&["policy", "apply", path]);
    write(2, "cd");
    refused(&["policy", "apply", path], "is not newer than 2");
    refused(
        &["policy", "apply", path],
        &format!("new: PCR 4 may be {}", "cd".repeat(32)),
    );
    write(3, "cd");
    let changes = world.cli(&["policy", "diff", "server:vm", path]);
    assert!(changes.to_string().contains(&"cd".repeat(32)), "{changes}");
    let host = world.outcome(&[
        "host",
        "import",
        "--ek-hash",
        &"1".repeat(64),
        "--policies",
        "other",
    ]);
    assert!(
        said(&host).contains("there is no policy other"),
        "{}",
        said(&host)
    );
}

#[test]
fn where_keys_are_configured_only_signed_policies_are_taken() {
    let dir = new_dir();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (key, public, other) = (path("key.pem"), path("public.pem"), path("other.pem"));
    for file in [&key, &other] {
        swtpm_tests::run(std::process::Command::new("openssl").args([
            "genpkey",
            "-algorithm",
            "ed25519",
            "-out",
            file,
        ]));
    }
    swtpm_tests::run(
        std::process::Command::new("openssl").args(["pkey", "-in", &key, "-pubout", "-out", &public]),
    );
    let world = World::with(&format!("policy_keys = [\"{public}\"]"));
    let policy = path("policy.toml");
    let value = "ab".repeat(32);
    let text =
        format!("format = 1\nname = \"vm\"\nversion = 1\n[[pcr]]\nindex = 4\nvalues = [\"{value}\"]\n");
    fs::write(&policy, text).unwrap();
    let canonical = world.cli(&["policy", "show", &policy, "--canonical"]);
    fs::write(path("canonical"), canonical.as_str().unwrap()).unwrap();
    let sign = |key: &str| {
        let (from, to) = (path("canonical"), path("signature"));
        let mut openssl = std::process::Command::new("openssl");
        swtpm_tests::run(openssl.args([
            "pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", &from, "-out", &to,
        ]));
        to
    };
    let apply = |signature: Option<&str>| {
        let mut words = vec!["policy", "apply", policy.as_str()];
        words.extend(signature.iter().flat_map(|file| ["--signature", file]));
        world.outcome(&words)
    };
    for refused in [apply(None), apply(Some(&sign(&other)))] {
        assert!(!refused.status.success());
        assert!(
            said(&refused).contains("policy is not signed by a key"),
            "{}",
            said(&refused)
        );
    }
    let applied = apply(Some(&sign(&key)));
    assert!(applied.status.success(), "{}", said(&applied));
    let listed = world.cli(&["policy", "list"]);
    assert_eq!(
        listed["policies"][0]["generations"][0]["is_signed"], true,
        "{listed}"
    );
}
