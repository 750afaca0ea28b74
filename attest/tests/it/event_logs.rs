//! What is read from logs of real machines, beside what `testdata/TABLE.txt` says of each.

use attest::{
    HashAlg, PcrSet,
    event_log::{EventLog, Measurements, Phase, boot_phases},
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
