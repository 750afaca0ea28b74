//! What is read from logs of real machines, beside what `testdata/TABLE.txt` says of each.

use attest::{
    HashAlg, PcrSet,
    event_log::{EventLog, Measurements, Phase, boot_phases, boot_texts},
};

use crate::fixtures::{self, event_log, pcrs};

/// systemd went through its phases and told the log nothing.
#[test]
fn finds_the_phases_that_the_log_lacks() {
    let phases = |log: &str, tpm: &str| {
        let log = EventLog::parse(&event_log(log)).unwrap();
        boot_phases(&log, &pcrs(tpm).values, HashAlg::Sha256)
    };
    assert_eq!(
        phases("vm-sb-systemd.bin", "vm-sb-systemd"),
        Some(&["sysinit", "ready"][..])
    );
    assert_eq!(phases("vm-sb-56c.bin", "vm-sb-56c"), Some(&[][..]));
    assert_eq!(phases("vm-sb-56c.bin", "vm-sb-56c-cmd2"), None);
}

/// All but these begin PCR 7 with the variables of Secure Boot, names included. The first is of a TPM 1.2, whose
/// firmware measured values alone; that of the others, a Supermicro, measured none.
#[test]
fn finds_the_variables_of_secure_boot() {
    let without: Vec<_> = fixtures::event_logs()
        .into_iter()
        .filter(|log| {
            firmware_variables(log).is_some_and(|names| !names.starts_with("SecureBoot PK KEK db dbx"))
        })
        .collect();
    assert_eq!(
        without,
        [
            "goeventlog-linux_tpm12.bin",
            "guard-IMN-SUPERMICRO-WBCL-Quote-AIKs.eventlog.bin",
            "guard-supermicro-WBCL-OSLOAD-quoted.log"
        ]
    );
}

/// What firmware measured into PCR 7, if the log is accepted.
fn firmware_variables(log: &str) -> Option<String> {
    let log = EventLog::parse(&event_log(log)).ok()?;
    let alg = log.banks().max()?;
    let measurements = Measurements::verify(log, alg, all_pcrs()).ok()?;
    let names: Vec<_> = measurements
        .of(7)?
        .filter(|measurement| measurement.phase == Phase::Firmware)
        .map(|measurement| {
            measurement
                .content
                .variable()
                .and_then(|variable| variable.name())
        })
        .map(|name| name.unwrap_or("?".into()))
        .collect();
    Some(names.join(" "))
}

/// What boot loaders measured by its text, in the logs that have such: how many texts, and what was not GRUB's command.
const TEXTS: &str = "\
goattest-coreos_36_shielded_vm_no_secure_boot_eventlog | 37: kernel_cmdline
goattest-ubuntu_2104_shielded_vm_no_secure_boot_eventlog | 67: kernel_cmdline
gotpmtools-confidential-gke-debug-251000_eventlog.bin | 15: kernel_cmdline
gotpmtools-cos-101-amd-sev.bin | 15: kernel_cmdline
gotpmtools-cos-85-amd-sev.bin | 15: kernel_cmdline
gotpmtools-eventlogwithsp800155.bin | 15: kernel_cmdline
gotpmtools-ubuntu-1804-amd-sev.bin | 52: kernel_cmdline
gotpmtools-ubuntu-2104-no-dbx.bin | 73: kernel_cmdline
gotpmtools-ubuntu-2104-no-secure-boot.bin | 67: kernel_cmdline
guard-dl160-fwupd-report.eventlog.bin | 64: kernel_cmdline
guard-test-HP-EliteBook-830-G6-baseline.eventlog.bin | 66: kernel_cmdline
keylime-binary_bios_measurements | 53: kernel_cmdline
keylime-binary_bios_measurements-secureboot | 52: kernel_cmdline
keylime-mb_log.bin | 60: kernel_cmdline
rustkeylime-uefi_log.bin | 60: kernel_cmdline
tpm2tools-event-bootorder.bin | 65: kernel_cmdline
tpm2tools-event-gce-ubuntu-2104-log.bin | 73: kernel_cmdline
tpm2tools-event-moklisttrusted.bin | 52: kernel_cmdline
vm-sdboot-type1.bin | 1: load_options";

#[test]
fn finds_the_texts_of_boot_loaders() {
    let found: Vec<_> = fixtures::event_logs()
        .iter()
        .filter_map(|log| texts(log))
        .collect();
    assert_eq!(found.join("\n"), TEXTS);
}

fn texts(name: &str) -> Option<String> {
    let log = EventLog::parse(&event_log(name)).ok()?;
    let alg = log.banks().max()?;
    let measurements = Measurements::verify(log, alg, all_pcrs()).ok()?;
    let texts = boot_texts(&measurements).unwrap_or_else(|reject| panic!("{name}: {reject}"));
    let mut named: Vec<_> = texts.iter().map(|text| text.claimed).collect();
    let all = named.len();
    named.retain(|claimed| *claimed != "grub_cmd");
    (all > 0).then(|| {
        format!("{name} | {all}: {}", named.join(" "))
            .trim_end()
            .to_owned()
    })
}

fn all_pcrs() -> PcrSet {
    (0..PcrSet::COUNT).collect()
}

#[test]
fn what_windows_measured_is_shown_by_its_names() {
    let log = EventLog::parse(&event_log("goattest-windows_gcp_shielded_vm.bin")).unwrap();
    let remarks: Vec<_> = log.events().map(|event| event.remark()).collect();
    let starts = |start: &str| remarks.iter().any(|remark| remark.starts_with(start));
    assert!(
        starts("TRUSTBOUNDARY{BOOTCOUNTER=4 LOADEDMODULE{AUTHENTICODEHASH=44e1ea32b24a0488"),
        "{remarks:#?}"
    );
    assert!(
        starts("TRUSTBOUNDARY{APPLICATION_SVN=1 SVN_CHAIN_STATUS=0 BOOTDEBUGGING=0 TESTSIGNING=0"),
        "{remarks:#?}"
    );
    assert!(remarks.iter().all(|remark| remark.chars().count() < 2048));
}
