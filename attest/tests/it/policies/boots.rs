//! The boots of the virtual machines under policies learned from one another.

use attest::{
    Digest, HashAlg,
    event_log::{EventLog, Handover, Measurements},
    policy::{Policy, Uki, judge, would_fall_out},
    uki::Prediction,
};

use super::{CHANGED, CMDLINE, boot, codes, learned, policy, words};
use crate::fixtures::{event_log, secure_boot_file};

/// The policy that a boot teaches whose command line is known.
fn golden(name: &str) -> Policy {
    learned(&boot(name).with_command_line(CMDLINE)).policy
}

/// Under the policy of each machine: what differs on another.
#[test]
fn tells_what_differs() {
    let check = |policy: &str, other: &str, expected: &[&str]| {
        let command_line = if other.ends_with("cmd2") { CHANGED } else { CMDLINE };
        let evidence = boot(other).with_command_line(command_line);
        assert_eq!(
            codes(&golden(policy), &evidence),
            expected,
            "{other} under {policy}: {}",
            judge(&golden(policy), &evidence)
        );
    };
    check("vm-sb-56c", "vm-sb-56c", &[]);
    check("vm-nosb-56c", "vm-nosb-56c-again", &[]);
    // What was signed is the same, whoever signed it.
    check(
        "vm-nosb-56c",
        "vm-nosb-56g-openNET",
        &["policy_boot_image", "policy_initrd", "policy_uki_section"],
    );
    check("vm-nosb-56c", "vm-mem512", &["policy_firmware"]);
    check("vm-sb-56c", "vm-smp2-mem512", &["policy_firmware"]);
    check(
        "vm-sb-56c",
        "vm-sb-56c-cmd2",
        &["policy_boot_image", "policy_command_line", "policy_uki_section"],
    );
    check(
        "vm-sb-56c",
        "vm-sb-snakeoil-smm",
        &[
            "policy_db",
            "policy_firmware",
            "policy_kek",
            "policy_pk",
            "policy_secure_boot_authority",
        ],
    );
    check(
        "vm-sb-56c",
        "vm-nosb-56c",
        &[
            "policy_boot_image",
            "policy_db",
            "policy_dbx",
            "policy_kek",
            "policy_pk",
            "policy_secure_boot_state",
        ],
    );
    check(
        "vm-nosb-56c",
        "vm-sdboot-type1",
        &["policy_boot_image", "policy_command_line", "policy_uki_section"],
    );
}

#[test]
fn names_the_old_and_the_new_command_line() {
    let changed = boot("vm-sb-56c-cmd2").with_command_line(CHANGED);
    let words = words(&golden("vm-sb-56c"), &changed);
    let command_line: Vec<_> = words
        .iter()
        .filter(|line| line.starts_with("command line: "))
        .collect();
    assert_eq!(
        command_line,
        [
            &format!("command line: expected `{CMDLINE}`, found `{CHANGED}` (event 30, EV_IPL in PCR 11)"),
            &format!(
                "command line: expected `{CMDLINE}`, found `{CHANGED}` (event 33, EV_EVENT_TAG in PCR 9)"
            ),
        ]
    );
}

/// What the host says of its command line counts only if it has the digest.
#[test]
fn believes_no_command_line_but_the_measured_one() {
    for said in [CMDLINE, "", "quiet"] {
        let lying = boot("vm-sb-56c-cmd2").with_command_line(said);
        let words = words(&golden("vm-sb-56c"), &lying);
        let digest = HashAlg::Sha256.digest(&[CHANGED.as_bytes()]);
        let expected = format!("command line: expected `{CMDLINE}`, found a text of digest {digest}");
        assert!(words.iter().any(|line| line.starts_with(&expected)), "{words:#?}");
    }
}

/// A policy that names the whole command line, or its words, and no host that says anything.
#[test]
fn accepts_command_lines_by_text_and_by_words() {
    let check = |rule: &str, evidence: &str, said: &str, expected: &[&str]| {
        let policy = policy(&format!(
            "[command_line]\n{rule}\n[initrd]\ndigests = [\"{INITRD}\"]"
        ));
        let evidence = boot(evidence).with_command_line(said);
        assert_eq!(codes(&policy, &evidence), expected, "{rule}");
    };
    let exact = format!("exact = [\"{CMDLINE}\"]");
    check(&exact, "vm-sb-56c", "", &[]);
    check(
        &exact,
        "vm-sb-56c-cmd2",
        "",
        &["policy_command_line", "policy_initrd"],
    );
    check(&exact, "vm-sb-56c-cmd2", CHANGED, &["policy_command_line"]);
    let words =
        "allow = ['console=*', 'rootfstype=ramfs', 'ima_policy=tcb', 'ima_hash=*', 'quiet', 'panic=-1']";
    check(words, "vm-sb-56c", CMDLINE, &[]);
    check(words, "vm-sb-56c-cmd2", CHANGED, &["policy_command_line"]);
    check(words, "vm-sb-56c", "", &["policy_command_line", "policy_initrd"]);
    check(
        &format!("{words}\nrequire = ['ima_policy=tcb']"),
        "vm-sb-56c",
        CMDLINE,
        &[],
    );
    check(
        &format!("{words}\nrequire = ['lockdown=*']"),
        "vm-sb-56c",
        CMDLINE,
        &["policy_command_line"],
    );
    // systemd-boot tells what it passes on, and nobody else has to.
    let passed = format!("exact = ['initrd=\\initrd {CMDLINE}']");
    check(&passed, "vm-sdboot-type1", "", &[]);
    check(&exact, "vm-sdboot-type1", "", &["policy_command_line"]);
}

const INITRD: &str = "1173641e86fbc62569e32a14e7fe6f98b8cf2ac3b6c29272d99bddd2654f61e1";

/// What `policy predict` finds of the image of the other kernel. The file is too large to be kept: its sections are
/// known by their digests, and its Authenticode digest from the boot.
fn predicted_53c() -> Uki {
    let file = |hex: &str| -> Digest { hex::decode(hex).unwrap().into_iter().collect() };
    let text = |text: &str| HashAlg::Sha256.digest(&[text.as_bytes()]);
    let log = EventLog::parse(&event_log("vm-nosb-53c.bin")).unwrap();
    let measurements = Measurements::verify(log, HashAlg::Sha256, (0..8).collect()).unwrap();
    let images = Handover::of(&measurements).unwrap().images;
    let image = |position: usize| -> Digest {
        let event = measurements
            .of(4)
            .unwrap()
            .find(|event| event.index == images[position])
            .unwrap();
        event.digest.iter().copied().collect()
    };
    let prediction = Prediction {
        alg: HashAlg::Sha256,
        image: image(0),
        kernel: Some(image(1)),
        sections: vec![
            (
                ".linux".into(),
                file("26cb804f0a0a8878e5ab560391962aee89c344f5b8faebe0329f65c507a03483"),
            ),
            (
                ".osrel".into(),
                text("ID=vmtest\nNAME=\"vmtest\"\nVERSION_ID=1\n"),
            ),
            (".cmdline".into(), text(CMDLINE)),
            (
                ".initrd".into(),
                file("1eca6b499e180695d1e054ae3a8ecb0b0c7e3d9c2075984bf5a5a6e46696452f"),
            ),
        ],
        command_line: Some(CMDLINE.into()),
    };
    Uki::predicted("6.1.0-53", &prediction).unwrap()
}

#[test]
fn another_kernel_is_accepted_once_it_was_predicted() {
    let old = golden("vm-nosb-56c");
    let other = boot("vm-nosb-53c");
    assert_eq!(
        codes(&old, &other),
        ["policy_boot_image", "policy_initrd", "policy_uki_section"]
    );
    let new = old.clone().with_kernel_image(vec![predicted_53c()]);
    assert_eq!(codes(&new, &other), [""; 0]);
    assert_eq!(codes(&new, &boot("vm-nosb-56c")), [""; 0], "the old one still is");
    assert_eq!(new.version, old.version + 1);
    // The other kernel with the first one's command line or initrd is none of the two.
    let third = boot("vm-nosb-56g-openNET");
    assert_eq!(
        codes(&new, &third),
        ["policy_boot_image", "policy_initrd", "policy_uki_section"]
    );
}

#[test]
fn names_who_would_fall_out() {
    let hosts = || ["vm-sb-56c", "vm-sb-56c-cmd2", "vm-smp2-mem512"].map(|name| (name, boot(name)));
    let out: Vec<_> = would_fall_out(&golden("vm-sb-56c"), hosts()).collect();
    let names: Vec<_> = out.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["vm-sb-56c-cmd2", "vm-smp2-mem512"]);
    assert_eq!(out[1].1.iter().count(), 1);
}

/// Floors of `db` and `dbx`: Microsoft's keys, and the certificates of the boot loaders that were withdrawn in 2020.
#[test]
fn holds_keys_to_their_floor() {
    let key = |file: &str| format!("\"x509:{}\"", HashAlg::Sha256.digest(&[&secure_boot_file(file)]));
    let check = |list: &str, rule: &str, keys: &[&str], expected: &[&str]| {
        let keys: Vec<_> = keys.iter().map(|file| key(file)).collect();
        let policy = policy(&format!(
            "[secure_boot]\nenforced = false\n[secure_boot.{list}]\n{rule} = [{}]",
            keys.join(", ")
        ));
        let evidence = super::recorded("gotpmtools-ubuntu-2104-no-secure-boot.bin").unwrap();
        assert_eq!(
            codes(&policy, &evidence),
            expected,
            "{list} {rule}: {}",
            judge(&policy, &evidence)
        );
    };
    let withdrawn = [
        "canonical-boothole.crt",
        "cisco-boothole.crt",
        "debian-boothole.crt",
    ];
    let microsoft = [
        "MicCorUEFCA2011_2011-06-27.crt",
        "MicWinProPCA2011_2011-10-19.crt",
    ];
    check("dbx", "at_least", &[], &[]);
    check("dbx", "at_least", &withdrawn[..1], &[]);
    check("dbx", "at_least", &microsoft, &["policy_dbx"]);
    check("dbx", "at_most", &withdrawn, &["policy_dbx"]);
    check("db", "exactly", &microsoft, &[]);
    check("db", "exactly", &microsoft[..1], &["policy_db"]);
    check("db", "at_most", &[microsoft[0], microsoft[1], withdrawn[0]], &[]);
    check("db", "at_most", &microsoft[1..], &["policy_db"]);
    check("db", "at_least", &[microsoft[0], withdrawn[0]], &["policy_db"]);
    check("pk", "exactly", &["GcePk.crt"], &[]);
    check("pk", "exactly", &[], &["policy_pk"]);
    check("kek", "at_least", &["MicCorKEKCA2011_2011-06-24.crt"], &[]);
}

/// This log ends early, as those do whose firmware never says that it ended: what was learned of such a machine lets no
/// other one pass.
#[test]
fn a_boot_that_firmware_does_not_end_meets_no_rule_but_that_of_a_machine_that_never_says_so() {
    let evidence = super::recorded("goattest-crypto_agile_eventlog").unwrap();
    let mut learned = learned(&evidence).policy;
    assert_eq!(codes(&learned, &evidence), [] as [&str; 0]);
    let rule = learned.boot.as_mut().unwrap();
    assert!(rule.silent_end);
    rule.silent_end = false;
    assert_eq!(codes(&learned, &evidence), ["policy_handover"]);
}

/// The firmware of this server never says in PCR 4 that it calls a boot option.
#[test]
fn images_are_known_where_firmware_says_nothing_of_boot_options() {
    let evidence = super::recorded("guard-dl160-fwupd-report.eventlog.bin").unwrap();
    let learned = learned(&evidence).policy;
    let rule = learned.boot.as_ref().unwrap();
    assert!(!rule.silent_end);
    let [chain] = rule.chain.as_slice() else {
        panic!("{rule:?}")
    };
    assert_eq!((rule.before.len(), chain.images.len()), (0, 3));
    assert_eq!(codes(&learned, &evidence), [] as [&str; 0]);
    for position in 0..3 {
        let mut other = learned.clone();
        let chain = &mut other.boot.as_mut().unwrap().chain[0];
        chain.images.remove(position);
        assert_eq!(codes(&other, &evidence), ["policy_boot_image"], "{position}");
    }
}

/// Where the command line of PCR 11 is another, that PCR 9 has none that anybody knows is no news.
#[test]
fn a_command_line_that_is_refused_is_said_once() {
    let golden = golden("vm-sb-56c");
    let about = |evidence: &attest::policy::Evidence<'_>| -> Vec<String> {
        let words = words(&golden, evidence).into_iter();
        words.filter(|words| words.starts_with("command line")).collect()
    };
    let changed = boot("vm-sb-56c-cmd2");
    let unknown = about(&changed);
    assert!(
        !unknown.is_empty() && unknown.iter().all(|words| words.contains("in PCR 11")),
        "{unknown:?}"
    );
    let known = about(&changed.with_command_line(CHANGED));
    assert!(
        known.iter().all(|words| words.contains("vmtest.changed=1")),
        "{known:?}"
    );
}
