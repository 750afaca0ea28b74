//! The units of systemd, as systemd itself reads and judges them.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by a panic")]

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Output},
};

const AGENT: &str = "plastron-agent";
const SERVER: &str = "plastron-server";

fn file(name: &str) -> PathBuf {
    let units = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/systemd"));
    units.join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(file(&format!("{name}.service"))).unwrap()
}

fn analyze(command: &mut Command) -> Output {
    let output = command.output();
    output.expect("systemd-analyze can't be run: apt-get install systemd")
}

/// What both outputs said.
fn said(output: &Output) -> String {
    let outputs = [&output.stdout[..], &output.stderr];
    outputs.map(String::from_utf8_lossy).concat()
}

/// Verifies a copy whose program is one that is there: this test.
fn verify(name: &str) {
    let installed = format!("ExecStart=/usr/bin/{name} ");
    let there = format!("ExecStart={} ", env::current_exe().unwrap().display());
    let original = text(name);
    assert_eq!(original.matches(&installed).count(), 1, "{installed}");
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join(format!("{name}.service"));
    fs::write(&copy, original.replace(&installed, &there)).unwrap();

    let output = analyze(Command::new("systemd-analyze").arg("verify").arg(&copy));

    let said = said(&output);
    assert!(output.status.success(), "{said}");
    // What is wrong with this machine's own units is not our matter. A key that systemd does not know is no
    // failure to it, but said.
    let ours: Vec<_> = said.lines().filter(|line| line.contains(name)).collect();
    assert!(ours.is_empty(), "{ours:#?}");
}

#[test]
fn systemd_finds_nothing_wrong_with_the_agent() {
    verify(AGENT);
}

#[test]
fn systemd_finds_nothing_wrong_with_the_server() {
    verify(SERVER);
}

/// `most` is the highest exposure, in tenths, of the 100 that a unit without any protection has.
fn check_exposure(name: &str, most: u32) {
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", &format!("--threshold={most}")]);
    let output = analyze(command.arg(file(&format!("{name}.service"))));
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_agent_is_exposed_by_what_it_needs_and_no_more() {
    check_exposure(AGENT, 25);
}

#[test]
fn the_server_is_hardly_exposed() {
    check_exposure(SERVER, 20);
}

/// The words that the settings `key` of a unit have, all lines together.
fn words(name: &str, key: &str) -> Vec<String> {
    let text = text(name);
    let values = text
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.flat_map(str::split_whitespace).map(Into::into).collect()
}

fn check(name: &str, key: &str, expected: &[&str]) {
    assert_eq!(words(name, key), expected, "{key}= of {name}");
}

#[test]
fn systemd_knows_when_they_serve_and_when_they_hang() {
    for name in [AGENT, SERVER] {
        check(name, "Type", &["notify"]);
        check(name, "NotifyAccess", &["main"]);
        check(name, "WatchdogSec", &["30s"]);
        check(name, "Restart", &["on-failure"]);
    }
}

#[test]
fn the_agent_reaches_the_tpm_and_no_other_device() {
    check(AGENT, "PrivateDevices", &["no"]);
    check(AGENT, "DevicePolicy", &["closed"]);
    check(AGENT, "DeviceAllow", &["/dev/tpmrm0", "rw"]);
    check(AGENT, "SupplementaryGroups", &["tss"]);
    let users = fs::read_to_string(file("plastron-agent.sysusers.conf")).unwrap();
    let members = users
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert!(
        members.into_iter().any(|line| line == ["m", AGENT, "tss"]),
        "{users}"
    );
}

/// The event log and that of IMA are 0440 root:root, below a /sys that is there and read-only.
#[test]
fn the_agent_reads_the_logs_of_the_boot() {
    for key in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        check(AGENT, key, &["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]);
    }
    check(AGENT, "ProtectKernelTunables", &["yes"]);
    for key in [
        "InaccessiblePaths",
        "TemporaryFileSystem",
        "RootDirectory",
        "RootImage",
        "PrivateUsers",
    ] {
        check(AGENT, key, &[]);
    }
}

#[test]
fn the_server_has_no_capability_and_no_device() {
    check(SERVER, "AmbientCapabilities", &[]);
    check(SERVER, "CapabilityBoundingSet", &[]);
    assert!(text(SERVER).contains("\nCapabilityBoundingSet=\n"));
    check(SERVER, "PrivateDevices", &["yes"]);
    check(SERVER, "DeviceAllow", &[]);
}
