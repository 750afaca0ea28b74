//! What a host is told that it may seal to, of what it was accepted by.

use std::sync::Arc;

use attest::policy::{Generation, Generations, Policy, Stage};
use node_tpm::{Config, EventLogs};
use plugin_api::{Appraised, HostPolicies, NodeProver, Sealing};
use swtpm_tests::parties::{Machine, Server, claim};
use zeroize::Zeroizing;

/// A policy with these rules.
fn policies(rules: &[(&str, Stage)]) -> HostPolicies {
    let generations = rules.iter().enumerate().map(|(index, (rule, stage))| {
        let text = format!("format = 1\nname = \"rack-7\"\nversion = {}\n{rule}", index + 1);
        Generation::new(Policy::parse(text.as_bytes()).unwrap(), *stage)
    });
    let generations = Generations::new(generations.collect()).unwrap();
    HostPolicies::new(vec![Arc::new(generations)])
}

fn pinned(pcr: u8) -> String {
    let value = "00".repeat(32);
    format!("[[pcr]]\nindex = {pcr}\nvalues = [\"{value}\"]\n")
}

fn appraised(machine: &mut Machine) -> Appraised {
    let (attested, _) = Server::of(machine).attest(machine);
    claim(&attested).appraised
}

fn check(appraised: &Appraised, policies: &HostPolicies, expected: Option<&str>) {
    let sealing = Sealing::of(appraised, policies);
    let pcrs = sealing.map(|sealing| sealing.pcrs().to_string());
    assert_eq!(pcrs.as_deref(), expected);
}

#[test]
fn state_is_sealed_to_what_enforced_policies_need_else_to_what_boots() {
    let appraised = appraised(&mut Machine::new());
    let standard = Some("sha256:0,2,4,7,8,9,14");
    check(&appraised, &HostPolicies::default(), standard);
    let (seven, one) = (pinned(7), pinned(1));
    let enforced = |rule: &str| policies(&[(rule, Stage::Enforced)]);
    check(&appraised, &enforced(&seven), Some("sha256:7"));
    check(
        &appraised,
        &enforced(&(pinned(4) + &pinned(5))),
        Some("sha256:4,5"),
    );
    check(&appraised, &policies(&[(&seven, Stage::Staged)]), standard);
    let both = [(seven.as_str(), Stage::Enforced), (one.as_str(), Stage::Enforced)];
    check(&appraised, &policies(&both), Some("sha256:1,7"));
    // What goes on while a host runs is never sealed to, nor what was not quoted.
    for pcr in [10, 11, 12, 15] {
        check(&appraised, &enforced(&pinned(pcr)), standard);
    }
}

#[test]
fn what_boots_takes_the_place_of_pcrs_that_go_on() {
    let appraised = appraised(&mut Machine::new());
    let with = |pcrs: &[u8]| {
        let rules: String = pcrs.iter().map(|pcr| pinned(*pcr)).collect();
        policies(&[(&rules, Stage::Enforced)])
    };
    // 12 holds still, but was not quoted.
    for pcr in [11, 12, 15, 23] {
        check(&appraised, &with(&[7, pcr]), Some("sha256:0,2,4,7,8,9,14"));
        check(&appraised, &with(&[1, pcr]), Some("sha256:0,1,2,4,7,8,9,14"));
    }
    // 10 is another matter: it is what the kernel measures that counts there.
    check(&appraised, &with(&[7, 10]), Some("sha256:7"));
}

#[test]
fn only_what_was_quoted_counts() {
    let mut appraised = appraised(&mut Machine::new());
    appraised.selection = "sha256:0-4,10".parse().unwrap();
    check(&appraised, &HostPolicies::default(), Some("sha256:0,2,4"));
    appraised.selection = "sha384:0-9+sha256:0-7".parse().unwrap();
    check(&appraised, &HostPolicies::default(), Some("sha256:0,2,4,7"));
    appraised.selection = "sha256:1,10".parse().unwrap();
    check(&appraised, &HostPolicies::default(), None);
}

#[test]
fn without_a_log_state_is_sealed_to_all_that_was_quoted_if_it_holds_still() {
    let mut machine = Machine::new();
    std::fs::remove_file(&machine.log).unwrap();
    let mut server = Server::new(&Config {
        event_log: EventLogs::Optional,
        ..Config::default()
    });
    server.enrol("host-1", machine.ek_hash());
    let (attested, _) = server.attest(&mut machine);
    let mut appraised = claim(&attested).appraised;
    check(
        &appraised,
        &HostPolicies::default(),
        Some("sha256:0,1,2,3,4,5,6,7,8,9,14"),
    );
    let sealing = Sealing::of(&appraised, &HostPolicies::default()).unwrap();
    assert_eq!(sealing.pcr_digest(), &appraised.pcr_digest);
    appraised.selection = "sha256:0-10,14".parse().unwrap();
    check(&appraised, &HostPolicies::default(), None);
}

#[test]
fn a_host_opens_what_it_sealed_as_long_as_it_is_what_was_accepted() {
    let mut machine = Machine::new();
    let appraised = appraised(&mut machine);
    let sealing = Sealing::of(&appraised, &HostPolicies::default()).unwrap();
    let key = Zeroizing::new([7; 32]);
    let sealed = machine.prover.seal(&key, &sealing).unwrap().unwrap();
    let extended = |machine: &Machine, pcr| {
        machine
            .tpm()
            .values
            .extend(attest::HashAlg::Sha256, pcr, &[1; 32]);
    };
    extended(&machine, 10);
    assert_eq!(machine.prover.unseal(&sealed).unwrap(), Some(key));
    extended(&machine, 4);
    assert_eq!(machine.prover.unseal(&sealed).unwrap(), None);
}
