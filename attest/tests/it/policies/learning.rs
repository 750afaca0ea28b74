//! What is learned from the machines whose logs we have.

use attest::policy::{Learned, Policy, judge};

use super::{learned, recorded};
use crate::fixtures;

/// Of each log: the rules that it teaches, and the PCRs that have to be pinned instead; or why it teaches nothing.
const LEARNED: &str = "\
acs-tpm2bios.log | log_separator
goattest-coreos_36_shielded_vm_no_secure_boot_eventlog | firmware secure_boot sbat chain initrd, pins 2 8 13 14
goattest-crypto_agile_eventlog | firmware secure_boot chain silent_end, pins 2 8 13 14
goattest-ebs_event_missing_eventlog | pcr_bank
goattest-option_rom_eventlog | pcr_bank
goattest-short_no_action_eventlog | pcr_bank
goattest-ubuntu_2104_shielded_vm_no_secure_boot_eventlog | firmware secure_boot sbat chain initrd, pins 2 8 13 14
goattest-windows_gcp_shielded_vm.bin | pcr_bank
goeventlog-event_log_ccel.bin | log_separator
goeventlog-linux_tpm12.bin | pcr_bank
gotpmtools-confidential-gke-debug-251000_eventlog.bin | firmware secure_boot sbat chain initrd, pins 2 8 13 14
gotpmtools-cos-101-amd-sev.bin | firmware secure_boot sbat chain initrd, pins 2 8 13 14
gotpmtools-cos-85-amd-sev.bin | firmware secure_boot chain initrd, pins 2 8 13 14
gotpmtools-debian-10.bin | pcr_bank
gotpmtools-eventlogwithsp800155.bin | firmware secure_boot sbat chain initrd, pins 2 8 13 14
gotpmtools-glinux-alex.bin | firmware secure_boot chain silent_end, pins 2 8 13 14
gotpmtools-ubuntu-1804-amd-sev.bin | firmware secure_boot chain initrd, pins 2 8 13 14
gotpmtools-ubuntu-2104-no-dbx.bin | firmware secure_boot sbat chain initrd, pins 2 8 13 14
gotpmtools-ubuntu-2104-no-secure-boot.bin | firmware secure_boot sbat chain initrd, pins 2 8 13 14
guard-IMN-DELL.eventlog.bin | pcr_bank
guard-IMN-SUPERMICRO-WBCL-Quote-AIKs.eventlog.bin | firmware chain silent_end, pins 2 7 8 13 14
guard-dell-notebook-5eventlogs-WBCL-0.eventlog.bin | firmware secure_boot chain, pins 2 8 13 14
guard-dell-notebook-5eventlogs-WBCL-1.eventlog.bin | firmware secure_boot chain, pins 2 8 9 12 13 14
guard-dell-notebook-5eventlogs-WBCL-2.eventlog.bin | firmware secure_boot chain, pins 2 8 9 12 13 14
guard-dell-notebook-5eventlogs-WBCL-3.eventlog.bin | firmware secure_boot chain, pins 2 8 9 12 13 14
guard-dell-notebook-5eventlogs-WBCL-4.eventlog.bin | firmware secure_boot chain, pins 2 8 9 12 13 14
guard-dell-notebook-5eventlogs-WBCL.log | firmware secure_boot chain, pins 2 8 13 14
guard-dl160-fwupd-report.eventlog.bin | firmware secure_boot sbat chain initrd, pins 2 8 13 14
guard-failed-1.eventlog.bin | firmware secure_boot chain, pins 2 8 13 14
guard-good-1.eventlog.bin | firmware secure_boot chain, pins 2 8 13 14
guard-issue926-x1carbon-before.eventlog.bin | firmware secure_boot chain, pins 2 8 13 14
guard-supermicro-WBCL-OSLOAD-quoted.log | firmware chain silent_end, pins 2 7 8 13 14
guard-test-HP-EliteBook-830-G6-baseline.eventlog.bin | firmware secure_boot sbat chain initrd, pins 2 8 13 14
hirs-TpmLog.bin | firmware secure_boot chain silent_end, pins 2 8 13 14
hirs-laptop.default.1.rimel | firmware secure_boot chain silent_end, pins 2 8 13 14
keylime-binary_bios_measurements | firmware secure_boot sbat chain silent_end initrd, pins 2 8 13 14
keylime-binary_bios_measurements-secureboot | firmware secure_boot sbat chain initrd, pins 2 8 13 14
keylime-mb_log.bin | firmware secure_boot chain initrd, pins 2 8 13 14
rustkeylime-uefi_log.bin | firmware secure_boot sbat chain initrd, pins 2 8 13 14
tpm2tools-event-arch-linux.bin | firmware secure_boot chain silent_end, pins 2 8 13 14
tpm2tools-event-bootorder.bin | firmware secure_boot chain initrd, pins 2 8 13 14
tpm2tools-event-gce-ubuntu-2104-log.bin | firmware secure_boot sbat chain initrd, pins 2 8 13 14
tpm2tools-event-moklisttrusted.bin | firmware secure_boot sbat chain initrd, pins 2 8 13 14
tpm2tools-event-uefi-sha1-log.bin | pcr_bank
tpm2tools-event-uefiaction.bin | log_separator
tpm2tools-event-uefiservices.bin | log_separator
tpm2tools-event-uefivar.bin | log_separator
tpm2tools-event.bin | log_separator
tpm2tools-specid-vendordata.bin | log_separator
vm-mem512.bin | firmware secure_boot uki initrd, pins 2 8 13 14
vm-nosb-53c.bin | firmware secure_boot uki initrd, pins 2 8 13 14
vm-nosb-56c-again.bin | firmware secure_boot uki initrd, pins 2 8 13 14
vm-nosb-56c.bin | firmware secure_boot uki initrd, pins 2 8 13 14
vm-nosb-56g-openNET.bin | firmware secure_boot uki initrd, pins 2 8 13 14
vm-sb-56c-cmd2.bin | firmware secure_boot uki initrd, pins 2 8 13 14
vm-sb-56c.bin | firmware secure_boot uki initrd, pins 2 8 13 14
vm-sb-snakeoil-smm.bin | firmware secure_boot uki initrd, pins 2 8 13 14
vm-sb-systemd.bin | firmware secure_boot uki initrd, pins 2 8 13 14
vm-sdboot-type1.bin | firmware secure_boot chain command_line initrd, pins 2 8 13 14
vm-smp2-mem512.bin | firmware secure_boot uki initrd, pins 2 8 13 14";

#[test]
fn each_log_teaches_what_its_own_evidence_meets() {
    let rows: Vec<_> = LEARNED
        .lines()
        .map(|row| row.split_once(" | ").unwrap())
        .collect();
    let named: Vec<_> = rows.iter().map(|(log, _)| *log).collect();
    assert_eq!(fixtures::event_logs(), named, "the table names each log once");
    let wrong: Vec<_> = rows
        .iter()
        .map(|(log, expected)| (log, describe(log), expected))
        .filter(|(_, actual, expected)| actual != *expected)
        .map(|(log, actual, expected)| format!("{log} | {actual}\n  not {expected}"))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn describe(log: &str) -> String {
    let evidence = match recorded(log) {
        Ok(evidence) => evidence,
        Err(reject) => return reject.code().into(),
    };
    let learned = learned(&evidence);
    let differences = judge(&learned.policy, &evidence);
    assert!(differences.is_empty(), "{log}: {differences}");
    check_text(log, &learned);
    rules(&learned.policy)
}

/// The text is the policy; what stands behind its values does not count.
fn check_text(log: &str, learned: &Learned) {
    let parsed = Policy::parse(learned.text.as_bytes()).unwrap_or_else(|error| panic!("{log}: {error:?}"));
    assert_eq!(parsed, learned.policy, "{log}");
    assert_eq!(
        Policy::parse(parsed.canonical().as_bytes()).unwrap(),
        parsed,
        "{log}"
    );
}

fn rules(policy: &Policy) -> String {
    let rules = [
        ("firmware", policy.firmware.is_some()),
        ("secure_boot", policy.secure_boot.is_some()),
        ("sbat", policy.sbat.is_some()),
        (
            "chain",
            policy.boot.as_ref().is_some_and(|boot| !boot.chain.is_empty()),
        ),
        (
            "uki",
            policy.boot.as_ref().is_some_and(|boot| !boot.uki.is_empty()),
        ),
        (
            "silent_end",
            policy.boot.as_ref().is_some_and(|boot| boot.silent_end),
        ),
        ("command_line", policy.command_line.is_some()),
        ("initrd", policy.initrd.is_some()),
    ];
    let rules: Vec<_> = rules
        .into_iter()
        .filter(|(_, is_there)| *is_there)
        .map(|(name, _)| name)
        .collect();
    let pins: Vec<_> = policy.pcrs.iter().map(|rule| rule.index.to_string()).collect();
    format!("{}, pins {}", rules.join(" "), pins.join(" "))
}
