//! The command over the boots of virtual machines.

use std::{fs, path::Path};

use clap::Parser;
use tempfile::TempDir;

use super::*;
use crate::cli::Cli;

const CMDLINE: &str = "console=ttyS0,115200 rootfstype=ramfs ima_policy=tcb ima_hash=sha256 quiet panic=-1";

fn testdata(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../attest/testdata");
    folder.join(name).to_str().unwrap().to_owned()
}

/// A command line, parsed as the binary does.
fn parse(words: &[&str]) -> Command {
    let line = ["plastron-server", "policy"].iter().chain(words);
    match Cli::try_parse_from(line).unwrap().command {
        crate::cli::Command::Policy(command) => command,
        other => panic!("{other:?}"),
    }
}

/// The options that name the evidence of a boot.
fn boot(name: &str) -> Vec<String> {
    let file = |folder: &str, end: &str| testdata(&format!("{folder}/{name}.{end}"));
    [
        "--event-log",
        &file("eventlogs", "bin"),
        "--pcrs",
        &file("pcrs", "txt"),
    ]
    .map(str::to_owned)
    .into()
}

/// Learns from a boot, into a file.
fn learned(folder: &TempDir, name: &str, more: &[&str]) -> String {
    let evidence = boot(name);
    let mut words = vec!["learn", "--name", "golden", "--command-line", CMDLINE];
    words.extend(evidence.iter().map(String::as_str));
    words.extend(more);
    let Command::Learn(command) = parse(&words) else {
        panic!()
    };
    write(folder, &format!("{name}.toml"), &command.learn().unwrap().text)
}

fn write(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The codes of what differs, each once.
fn codes(policy: &str, host: &str, more: &[&str]) -> Vec<String> {
    let evidence = boot(host);
    let mut words = vec!["test", policy];
    words.extend(evidence.iter().map(String::as_str));
    words.extend(more);
    let Command::Test(command) = parse(&words) else {
        panic!()
    };
    let outcome = command.outcome().unwrap();
    assert_eq!(outcome.met, outcome.differences.is_empty());
    let mut codes: Vec<_> = outcome.differences.iter().map(|row| row.code.clone()).collect();
    codes.dedup();
    codes
}

#[test]
fn what_is_learned_is_met_until_something_else_boots() {
    let folder = TempDir::new().unwrap();
    let ima = testdata("ima/vm-sb-56c.bin");
    let policy = learned(
        &folder,
        "vm-sb-56c",
        &["--ima-log", &ima, "--tpm-firmware", "0x7", "--pin", "sha256:1-3"],
    );
    let same = ["--ima-log", ima.as_str(), "--tpm-firmware", "0x7"];
    assert_eq!(codes(&policy, "vm-sb-56c", &same), [""; 0]);
    assert_eq!(
        codes(&policy, "vm-sb-56c", &[]),
        ["policy_tpm_firmware", "policy_ima_missing"]
    );
    let changed = codes(&policy, "vm-sb-56c-cmd2", &same[2..]);
    assert_eq!(
        changed,
        [
            "policy_boot_image",
            "policy_uki_section",
            "policy_command_line",
            "policy_initrd",
            "policy_ima_missing"
        ]
    );
}

/// A log that does not explain the PCRs is no evidence.
#[test]
fn refuses_a_log_of_another_boot() {
    let folder = TempDir::new().unwrap();
    let policy = learned(&folder, "vm-sb-56c", &[]);
    let (log, pcrs) = (
        testdata("eventlogs/vm-nosb-56c.bin"),
        testdata("pcrs/vm-sb-56c.txt"),
    );
    let Command::Test(command) = parse(&["test", &policy, "--event-log", &log, "--pcrs", &pcrs]) else {
        panic!()
    };
    assert!(matches!(command.outcome(), Err(CommandError::Evidence { .. })));
}

#[test]
fn shows_what_differs_between_two() {
    let folder = TempDir::new().unwrap();
    let (old, new) = (
        learned(&folder, "vm-sb-56c", &[]),
        learned(&folder, "vm-nosb-56c", &[]),
    );
    let changes = |old: &str, new: &str| match parse(&["diff", old, new]) {
        Command::Diff(command) => command.changes().unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(changes(&old, &old), []);
    let changes: Vec<_> = changes(&old, &new).iter().map(ToString::to_string).collect();
    assert!(
        changes.contains(&"new: Secure Boot may be off".to_owned()),
        "{changes:#?}"
    );
}

#[test]
fn predicts_an_image_into_a_policy() {
    let folder = TempDir::new().unwrap();
    let policy = learned(&folder, "vm-sb-56c", &[]);
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/uki/image");
    let text = |words: &[&str]| match parse(words) {
        Command::Predict(command) => command.text(),
        other => panic!("{other:?}"),
    };
    let image = seed.to_str().unwrap();
    let alone = text(&["predict", "--name", "next", image]).unwrap();
    assert!(
        alone.starts_with("# PCR 11, bank sha384, as the stub leaves it: "),
        "{alone}"
    );
    assert!(
        alone.contains("\n# PCR 11, bank sha256, as the stub leaves it: "),
        "{alone}"
    );
    let one = text(&["predict", "--bank", "sha384", image]).unwrap();
    assert_eq!(
        (one.matches("[[boot.uki]]").count(), one.contains("sha256")),
        (1, false),
        "{one}"
    );
    assert!(
        alone.contains("[[boot.uki]]\nname = \"next\"\ncommand_line = \"quiet\"\n"),
        "{alone}"
    );
    let whole = format!("format = 1\nname = \"next\"\nversion = 1\n{alone}");
    assert!(
        Policy::parse(whole.as_bytes()).is_ok(),
        "the table is one of a policy"
    );

    let next = text(&["predict", "--name", "next", "--into", &policy, image]).unwrap();
    let next = write(&folder, "next.toml", next);
    let read = read_policy(Path::new(&next)).unwrap();
    assert_eq!((read.version, read.boot.unwrap().uki.len()), (2, 3));
    assert_eq!(codes(&next, "vm-sb-56c", &[]), [""; 0]);
    assert!(matches!(
        text(&["predict", &policy]),
        Err(CommandError::Evidence { .. })
    ));
}

#[test]
fn shows_a_policy_and_who_signed_it() {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    let folder = TempDir::new().unwrap();
    let policy = learned(&folder, "vm-sb-56c", &[]);
    let show = |words: &[&str]| {
        let words: Vec<_> = ["show", &policy].iter().chain(words).copied().collect();
        match parse(&words) {
            Command::Show(command) => command.text(command.policy.read(&command.socket_path)?.policy),
            other => panic!("{other:?}"),
        }
    };
    let canonical = show(&["--canonical"]).unwrap();
    let key = Ed25519KeyPair::generate().unwrap();
    let spki = [
        &hex::decode("302a300506032b6570032100").unwrap()[..],
        key.public_key().as_ref(),
    ]
    .concat();
    let key_file = write(&folder, "key", pem::encode(&pem::Pem::new("PUBLIC KEY", spki)));
    let good = write(&folder, "good", key.sign(canonical.as_bytes()));
    let bad = write(&folder, "bad", key.sign(b"something else"));
    let shown = show(&["--key", &key_file, "--signature", &good]).unwrap();
    let id = read_policy(Path::new(&policy)).unwrap().generation_id();
    assert!(
        shown.starts_with(&format!(
            "generation {id}\nneeds PCRs 0,2,4,5,7,8,9,11,12,13,14\n"
        )),
        "{shown}"
    );
    assert!(shown.ends_with("signed by the key"), "{shown}");
    let refused = show(&["--key", &key_file, "--signature", &bad]);
    assert!(matches!(refused, Err(CommandError::Evidence { .. })));
}

#[test]
fn says_where_a_policy_is_wrong_and_what_would_be_right() {
    let folder = TempDir::new().unwrap();
    let path = write(
        &folder,
        "policy.toml",
        "format = 1\nname = \"a\"\nversion = 1\n\n[secure_boot]\nenforcd = true\n",
    );
    let error = read_policy(Path::new(&path)).unwrap_err().to_string();
    assert!(
        error.ends_with("policy.toml:6: unknown key `secure_boot.enforcd`; did you mean `enforced`?"),
        "{error}"
    );
}

#[test]
fn a_command_says_whom_or_what_it_is_about() {
    use clap::error::ErrorKind::{
        ArgumentConflict, MissingRequiredArgument, UnknownArgument, ValueValidation,
    };
    let check = |words: &str, expected: Result<(), clap::error::ErrorKind>| {
        let line = ["plastron-server", "policy"].into_iter().chain(words.split(' '));
        let outcome = Cli::try_parse_from(line)
            .map(|_| ())
            .map_err(|error| error.kind());
        assert_eq!(outcome, expected, "{words}");
    };
    check("apply rack-7.toml --signature rack-7.sig", Ok(()));
    check("apply", Err(MissingRequiredArgument));
    check("assign --host x --set rack-7,base", Ok(()));
    check("assign --all --set base --dry-run", Ok(()));
    check("assign --set base", Err(MissingRequiredArgument));
    check("assign --all --host x", Err(ArgumentConflict));
    check(
        "promote rack-7 --generation 77c2 --retire-others --accept-fall-out 3 --accept-unknown 1",
        Ok(()),
    );
    check("promote", Err(MissingRequiredArgument));
    check("promote rack-7 --accept-fall-out all", Err(ValueValidation));
    check("promote rack-7 --force", Err(UnknownArgument));
    check("stage rack-7", Ok(()));
    check("retire rack-7 --generation 77c2", Ok(()));
    check("retire rack-7 --all-generations", Ok(()));
    check("retire rack-7", Err(MissingRequiredArgument));
    check("learn --name rack-7 --host x", Ok(()));
    check("learn --name rack-7 --event-log x", Ok(()));
    check("learn --name rack-7", Err(MissingRequiredArgument));
    check(
        "learn --name rack-7 --host x --event-log y",
        Err(ArgumentConflict),
    );
    check("learn --name rack-7 --host x --ima-log y", Ok(()));
    check("learn --name rack-7 --event-log x --pcrs y --ima-log z", Ok(()));
    for words in ["learn --name rack-7", "test rack-7.toml"] {
        let words = format!("{words} --event-log x --ima-log y");
        check(&words, Err(MissingRequiredArgument));
    }
    check("test rack-7.toml --event-log x --pcrs y --ima-log z", Ok(()));
    check("test rack-7.toml", Err(MissingRequiredArgument));
    check("diff server:rack-7 rack-7.toml", Ok(()));
    check("list", Ok(()));
}
