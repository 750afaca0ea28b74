//! Reference values against the boots of real and virtual machines.

mod boots;
mod generations;
mod learning;
mod properties;
mod rules;
mod texts;

use attest::{
    HashAlg, PcrSelection, PcrSet, PcrValues, Reject,
    event_log::EventLog,
    policy::{Difference, Evidence, Learned, Policy, judge, learn},
};

use crate::fixtures::{event_log, pcrs};

/// The command line of the virtual machines.
const CMDLINE: &str = "console=ttyS0,115200 rootfstype=ramfs ima_policy=tcb ima_hash=sha256 quiet panic=-1";
const CHANGED: &str =
    "console=ttyS0,115200 rootfstype=ramfs ima_policy=tcb ima_hash=sha256 quiet panic=-1 vmtest.changed=1";

/// The evidence of a virtual machine, by its PCRs 0 to 14 without that of IMA.
fn boot(name: &str) -> Evidence<'static> {
    let pcrs = pcrs(name).values.select(&selection(HashAlg::Sha256, boot_pcrs()));
    let log = EventLog::parse(&event_log(&format!("{name}.bin"))).unwrap();
    Evidence::recorded(&pcrs, &log).unwrap()
}

fn boot_pcrs() -> PcrSet {
    (0..=9).chain(11..=14).collect()
}

/// What the log of a real machine says of the PCRs, in each bank.
fn replayed(log: &EventLog) -> PcrValues {
    let mut values = PcrValues::default();
    for bank in log.banks() {
        let Ok(replayed) = log.replay(bank) else { continue };
        let replayed = replayed.select(&selection(bank, boot_pcrs()));
        replayed
            .iter()
            .for_each(|(alg, pcr, value)| values.set(alg, pcr, *value));
    }
    values
}

/// The evidence that a log gives, if its PCRs were what it says.
fn recorded(log: &str) -> Result<Evidence<'static>, Reject> {
    let log = EventLog::parse(&event_log(log))?;
    Evidence::recorded(&replayed(&log), &log)
}

fn learned(evidence: &Evidence<'_>) -> Learned {
    learn(&"golden".parse().unwrap(), 1, evidence, Learned::usual_pins())
}

fn policy(text: &str) -> Policy {
    let text = format!("format = 1\nname = \"test\"\nversion = 1\n{text}");
    Policy::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

fn selection(alg: HashAlg, pcrs: PcrSet) -> PcrSelection {
    PcrSelection::new(vec![(alg, pcrs)]).unwrap()
}

/// The codes of what differs, sorted, each once.
fn codes(policy: &Policy, evidence: &Evidence<'_>) -> Vec<&'static str> {
    let differences = judge(policy, evidence);
    let mut codes: Vec<_> = differences.iter().map(|found| found.kind.code()).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// What differs, in words.
fn words(policy: &Policy, evidence: &Evidence<'_>) -> Vec<String> {
    judge(policy, evidence)
        .iter()
        .map(Difference::to_string)
        .collect()
}
