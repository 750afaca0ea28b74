//! What holds of any policy and any evidence.

use std::collections::BTreeSet;

use attest::{
    HashAlg, PcrSet, Reject,
    event_log::EventLog,
    policy::{Evidence, KeyRule, Learned, Policy, PolicyName, judge, learn},
};
use proptest::{prelude::*, sample::Index};

use super::{CMDLINE, recorded, replayed};
use crate::fixtures::event_log;

/// Logs of which policies are learned, of machines of all kinds.
const LOGS: [&str; 9] = [
    "goattest-coreos_36_shielded_vm_no_secure_boot_eventlog",
    "gotpmtools-cos-101-amd-sev.bin",
    "guard-dell-notebook-5eventlogs-WBCL-4.eventlog.bin",
    "guard-good-1.eventlog.bin",
    "keylime-binary_bios_measurements-secureboot",
    "vm-nosb-56c.bin",
    "vm-sb-56c.bin",
    "vm-sb-56c-cmd2.bin",
    "vm-sdboot-type1.bin",
];

fn name() -> PolicyName {
    "golden".parse().unwrap()
}

fn learned(log: &str, pins: PcrSet) -> Policy {
    let evidence = recorded(log).unwrap().with_command_line(CMDLINE);
    learn(&name(), 1, &evidence, pins).policy
}

/// A log of SHA-256 alone in which one byte of an event's digest is changed: the PCR follows, as it does where something
/// else is booted.
fn changed(bytes: &[u8], index: u32, byte: usize) -> Result<Evidence<'static>, Reject> {
    let mut changed = bytes.to_vec();
    changed[digest_at(bytes, index) + byte] ^= 1;
    let log = EventLog::parse(&changed).unwrap();
    Evidence::recorded(&replayed(&log), &log)
}

/// Where the digest of an event stands in a log of SHA-256 alone.
fn digest_at(bytes: &[u8], index: u32) -> usize {
    let len = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let header = 32 + len(28);
    let event = (1..index).fold(header, |at, _| at + 50 + len(at + 46));
    event + 14
}

/// Each byte of each event counts, and the difference names the event; unless the log is refused before any policy is
/// asked.
#[test]
fn a_change_in_any_event_is_named() {
    let logs = [
        "guard-dell-notebook-5eventlogs-WBCL-4.eventlog.bin",
        "vm-nosb-56c.bin",
        "vm-sb-56c.bin",
        "vm-sdboot-type1.bin",
    ];
    for name in logs {
        let policy = learned(name, (0..PcrSet::COUNT).collect());
        let bytes = event_log(name);
        let mut named = 0;
        for event in EventLog::parse(&bytes).unwrap().events() {
            match changed(&bytes, event.index, event.index as usize % 32) {
                Err(reject) => assert!(
                    matches!(reject, Reject::LogEventData(_) | Reject::LogSeparator(_)),
                    "{name} event {}: {reject}",
                    event.index
                ),
                Ok(evidence) => {
                    let differences = judge(&policy, &evidence);
                    let is_named = differences
                        .iter()
                        .filter_map(|difference| difference.event)
                        .any(|place| place.index == event.index && place.pcr == event.pcr);
                    assert!(is_named, "{name} event {}: {differences}", event.index);
                    named += 1;
                }
            }
        }
        assert!(named > 10, "{name}: {named} events are named");
    }
}

/// What a policy says of one thing that it lets pass, taken away.
fn without(mut policy: Policy, which: usize, at: Index) -> Option<Policy> {
    fn take<T: Ord + Clone>(set: &mut BTreeSet<T>, at: Index) -> Option<()> {
        let value = set.iter().nth(at.index(set.len().max(1)))?.clone();
        set.remove(&value).then_some(())
    }
    fn pop<T>(list: &mut Vec<T>, at: Index) -> Option<()> {
        (!list.is_empty()).then(|| drop(list.remove(at.index(list.len()))))
    }
    let keys = |rule: &mut Option<KeyRule>| take(rule.as_mut()?.exactly.as_mut()?, at);
    let boot = policy.boot.as_mut();
    match which {
        0 => keys(&mut policy.secure_boot.as_mut()?.pk)?,
        1 => keys(&mut policy.secure_boot.as_mut()?.kek)?,
        2 => keys(&mut policy.secure_boot.as_mut()?.db)?,
        3 => take(policy.secure_boot.as_mut()?.authorities.as_mut()?, at)?,
        4 => pop(&mut boot?.chain, at)?,
        5 => pop(&mut boot?.uki, at)?,
        6 => pop(&mut boot?.before, at)?,
        7 => pop(&mut boot?.loaders, at)?,
        8 => take(&mut policy.command_line.as_mut()?.exact, at)?,
        9 => take(&mut policy.initrd.as_mut()?.digests, at)?,
        10 => take(&mut policy.initrd.as_mut()?.files, at)?,
        11 => pop(policy.firmware.as_mut()?, at)?,
        12 => take(&mut policy.firmware.as_mut()?.get_mut(0)?.pcr0, at)?,
        13 => take(&mut policy.pcrs.get_mut(0)?.values, at)?,
        _ => pop(&mut boot?.uki.get_mut(0)?.sections, at)?,
    }
    Some(policy)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn a_learned_policy_is_met_by_its_evidence(
        log in prop::sample::select(&LOGS[..]),
        pins in any::<u32>(),
        names_command_line in any::<bool>(),
    ) {
        let mut evidence = recorded(log).unwrap();
        if names_command_line {
            evidence = evidence.with_command_line(CMDLINE);
        }
        let pins = PcrSet::from_mask(pins >> 8).unwrap();
        let Learned { policy, text } = learn(&name(), 1, &evidence, pins);
        prop_assert!(judge(&policy, &evidence).is_empty());
        prop_assert_eq!(Policy::parse(text.as_bytes()).unwrap(), policy);
    }

    /// Where less is let pass, nobody passes who did not before.
    #[test]
    fn taking_a_value_away_lets_nobody_in(
        golden in prop::sample::select(&LOGS[..]),
        which in 0..15_usize,
        at in any::<Index>(),
        pins in any::<u32>(),
    ) {
        let policy = learned(golden, PcrSet::from_mask(pins >> 8).unwrap());
        let Some(stricter) = without(policy.clone(), which, at) else { return Ok(()) };
        for host in LOGS {
            let evidence = recorded(host).unwrap().with_command_line(CMDLINE);
            if judge(&stricter, &evidence).is_empty() {
                prop_assert!(judge(&policy, &evidence).is_empty(), "{} under the policy of {}", host, golden);
            }
        }
        let own = recorded(golden).unwrap().with_command_line(CMDLINE);
        let lets_pass = judge(&stricter, &own).is_empty();
        // Of several banks one value may go: the others still say it.
        prop_assert!(!lets_pass || own.values().iter().any(|(alg, ..)| alg != HashAlg::Sha256), "rule {}", which);
    }

    /// A PCR that a quote does not cover is never taken for one that is as it should be.
    #[test]
    fn what_is_not_quoted_is_not_met(golden in prop::sample::select(&LOGS[..]), left_out in 0..15_u8) {
        let policy = learned(golden, PcrSet::default());
        let log = EventLog::parse(&event_log(golden)).unwrap();
        let all = replayed(&log);
        let mut fewer = attest::PcrValues::default();
        all.iter()
            .filter(|(_, pcr, _)| *pcr != left_out)
            .for_each(|(alg, pcr, value)| fewer.set(alg, pcr, *value));
        let evidence = Evidence::recorded(&fewer, &log).unwrap().with_command_line(CMDLINE);
        let differences = judge(&policy, &evidence);
        let is_needed = policy.needed_pcrs().contains(left_out);
        prop_assert_eq!(is_needed, !differences.is_empty(), "PCR {}: {}", left_out, differences);
    }
}
