//! What is read from each log of a real machine, and what it explains of the PCRs that the machine had.

use attest::{
    HashAlg, PcrSelection, PcrSet, PcrValues, Reject,
    event_log::{Content, EventLog, Format, Measurements, Phase, explain},
    wire::{Attest, Attested},
};

use crate::fixtures::{self, event_log, pcrs};

/// Of each log: format, banks and events; then what the check of the contents says in the strongest bank: why
/// it is refused, or of how many events the whole data, a part of it, or nothing has the digest.
const LOGS: &str = "\
acs-tpm2bios.log | crypto-agile sha256+sha1, 26 events: log_separator
goattest-coreos_36_shielded_vm_no_secure_boot_eventlog | crypto-agile sha1+sha256+sha384, 75 events: 21 whole, 41 part, 13 absent
goattest-crypto_agile_eventlog | crypto-agile sha256, 26 events: 22 whole, 0 part, 4 absent
goattest-ebs_event_missing_eventlog | legacy sha1, 38 events: 16 whole, 18 part, 4 absent
goattest-option_rom_eventlog | legacy sha1, 60 events: 34 whole, 21 part, 5 absent
goattest-short_no_action_eventlog | legacy sha1, 0 events: log_separator
goattest-ubuntu_2104_shielded_vm_no_secure_boot_eventlog | crypto-agile sha1+sha256+sha384, 105 events: 20 whole, 72 part, 13 absent
goattest-windows_gcp_shielded_vm.bin | legacy sha1, 21 events: log_separator
goeventlog-event_log_ccel.bin | crypto-agile sha384, 27 events: log_separator
goeventlog-linux_tpm12.bin | legacy sha1, 40 events: 15 whole, 18 part, 7 absent
gotpmtools-confidential-gke-debug-251000_eventlog.bin | crypto-agile sha1+sha256+sha384, 52 events: 23 whole, 18 part, 11 absent
gotpmtools-cos-101-amd-sev.bin | crypto-agile sha1+sha256+sha384, 48 events: 22 whole, 18 part, 8 absent
gotpmtools-cos-85-amd-sev.bin | crypto-agile sha1+sha256+sha384, 45 events: 22 whole, 18 part, 5 absent
gotpmtools-debian-10.bin | legacy sha1, 25 events: 19 whole, 3 part, 3 absent
gotpmtools-eventlogwithsp800155.bin | crypto-agile sha1+sha256+sha384, 51 events: 23 whole, 18 part, 10 absent
gotpmtools-glinux-alex.bin | crypto-agile sha1+sha256, 27 events: 21 whole, 0 part, 6 absent
gotpmtools-ubuntu-1804-amd-sev.bin | crypto-agile sha1+sha256+sha384, 87 events: 19 whole, 56 part, 12 absent
gotpmtools-ubuntu-2104-no-dbx.bin | crypto-agile sha1+sha256+sha384, 111 events: 20 whole, 78 part, 13 absent
gotpmtools-ubuntu-2104-no-secure-boot.bin | crypto-agile sha1+sha256+sha384, 105 events: 20 whole, 72 part, 13 absent
guard-IMN-DELL.eventlog.bin | legacy sha1, 73 events: 32 whole, 3 part, 38 absent
guard-IMN-SUPERMICRO-WBCL-Quote-AIKs.eventlog.bin | crypto-agile sha1+sha256, 37 events: 34 whole, 0 part, 3 absent
guard-dell-notebook-5eventlogs-WBCL-0.eventlog.bin | crypto-agile sha256, 60 events: 32 whole, 5 part, 23 absent
guard-dell-notebook-5eventlogs-WBCL-1.eventlog.bin | crypto-agile sha256, 60 events: 32 whole, 5 part, 23 absent
guard-dell-notebook-5eventlogs-WBCL-2.eventlog.bin | crypto-agile sha256, 60 events: 32 whole, 5 part, 23 absent
guard-dell-notebook-5eventlogs-WBCL-3.eventlog.bin | crypto-agile sha256, 60 events: 32 whole, 5 part, 23 absent
guard-dell-notebook-5eventlogs-WBCL-4.eventlog.bin | crypto-agile sha256, 60 events: 32 whole, 5 part, 23 absent
guard-dell-notebook-5eventlogs-WBCL.log | crypto-agile sha256, 60 events: 32 whole, 5 part, 23 absent
guard-dl160-fwupd-report.eventlog.bin | crypto-agile sha1+sha256, 132 events: 22 whole, 82 part, 28 absent
guard-failed-1.eventlog.bin | crypto-agile sha1+sha256, 51 events: 25 whole, 14 part, 12 absent
guard-good-1.eventlog.bin | crypto-agile sha1+sha256, 51 events: 25 whole, 14 part, 12 absent
guard-issue926-x1carbon-before.eventlog.bin | crypto-agile sha1+sha256, 51 events: 25 whole, 14 part, 12 absent
guard-supermicro-WBCL-OSLOAD-quoted.log | crypto-agile sha1+sha256, 37 events: 34 whole, 0 part, 3 absent
guard-test-HP-EliteBook-830-G6-baseline.eventlog.bin | crypto-agile sha1+sha256, 119 events: 23 whole, 75 part, 21 absent
hirs-TpmLog.bin | crypto-agile sha256, 55 events: 18 whole, 7 part, 30 absent
hirs-laptop.default.1.rimel | crypto-agile sha1+sha256, 29 events: 21 whole, 0 part, 8 absent
keylime-binary_bios_measurements | crypto-agile sha1+sha256, 119 events: 22 whole, 67 part, 30 absent
keylime-binary_bios_measurements-secureboot | crypto-agile sha256, 98 events: 21 whole, 56 part, 21 absent
keylime-mb_log.bin | crypto-agile sha256, 101 events: 20 whole, 64 part, 17 absent
rustkeylime-uefi_log.bin | crypto-agile sha256, 123 events: 23 whole, 72 part, 28 absent
tpm2tools-event-arch-linux.bin | crypto-agile sha1+sha256, 24 events: 19 whole, 0 part, 5 absent
tpm2tools-event-bootorder.bin | crypto-agile sha1+sha256, 103 events: 18 whole, 69 part, 16 absent
tpm2tools-event-gce-ubuntu-2104-log.bin | crypto-agile sha1+sha256+sha384, 111 events: 20 whole, 78 part, 13 absent
tpm2tools-event-moklisttrusted.bin | crypto-agile sha256, 96 events: 22 whole, 56 part, 18 absent
tpm2tools-event-uefi-sha1-log.bin | legacy sha1, 17 events: 15 whole, 0 part, 2 absent
tpm2tools-event-uefiaction.bin | crypto-agile sha1+sha256+sha384+sha512, 1 events: log_banks
tpm2tools-event-uefiservices.bin | crypto-agile sha1+sha256, 1 events: log_separator
tpm2tools-event-uefivar.bin | crypto-agile sha1+sha256+sha384+sha512, 1 events: log_banks
tpm2tools-event.bin | crypto-agile sha1+sha256+sha384+sha512, 1 events: log_separator
tpm2tools-specid-vendordata.bin | crypto-agile sha1+sha256, 0 events: log_separator
vm-mem512.bin | crypto-agile sha256, 36 events: 18 whole, 4 part, 14 absent
vm-nosb-53c.bin | crypto-agile sha256, 36 events: 18 whole, 4 part, 14 absent
vm-nosb-56c-again.bin | crypto-agile sha256, 36 events: 18 whole, 4 part, 14 absent
vm-nosb-56c.bin | crypto-agile sha256, 36 events: 18 whole, 4 part, 14 absent
vm-nosb-56g-openNET.bin | crypto-agile sha256, 36 events: 18 whole, 4 part, 14 absent
vm-sb-56c-cmd2.bin | crypto-agile sha256, 36 events: 19 whole, 4 part, 13 absent
vm-sb-56c.bin | crypto-agile sha256, 36 events: 19 whole, 4 part, 13 absent
vm-sb-snakeoil-smm.bin | crypto-agile sha256, 36 events: 19 whole, 4 part, 13 absent
vm-sb-systemd.bin | crypto-agile sha256, 36 events: 19 whole, 4 part, 13 absent
vm-sdboot-type1.bin | crypto-agile sha256, 29 events: 19 whole, 4 part, 6 absent
vm-smp2-mem512.bin | crypto-agile sha256, 36 events: 19 whole, 4 part, 13 absent";

/// Of each log with values that a TPM had: how many PCRs of each bank are equal and which differ, or why
/// there is no replay. IMA extends PCR 10, and systemd PCR 11, without writing it into this log.
const REPLAYS: &str = "\
goattest-windows_gcp_shielded_vm.bin | goattest-windows_gcp_shielded_vm | sha1 24 equal, [] differ
goeventlog-linux_tpm12.bin | goeventlog-linux_tpm12 | sha1 23 equal, [10] differ
guard-IMN-SUPERMICRO-WBCL-Quote-AIKs.eventlog.bin | guard-IMN-SUPERMICRO-WBCL-Quote-AIKs | sha1 log_banks; sha256 24 equal, [] differ
guard-dell-notebook-5eventlogs-WBCL-0.eventlog.bin | guard-dell-notebook-5eventlogs-WBCL | sha256 21 equal, [12, 13, 14] differ
guard-dell-notebook-5eventlogs-WBCL-1.eventlog.bin | guard-dell-notebook-5eventlogs-WBCL | sha256 23 equal, [12] differ
guard-dell-notebook-5eventlogs-WBCL-2.eventlog.bin | guard-dell-notebook-5eventlogs-WBCL | sha256 23 equal, [12] differ
guard-dell-notebook-5eventlogs-WBCL-3.eventlog.bin | guard-dell-notebook-5eventlogs-WBCL | sha256 23 equal, [12] differ
guard-dell-notebook-5eventlogs-WBCL-4.eventlog.bin | guard-dell-notebook-5eventlogs-WBCL | sha256 24 equal, [] differ
guard-dl160-fwupd-report.eventlog.bin | guard-dl160-fwupd-report | sha1 22 equal, [0, 10] differ; sha256 22 equal, [0, 10] differ
guard-failed-1.eventlog.bin | guard-failed-1 | sha256 8 equal, [0] differ
guard-good-1.eventlog.bin | guard-good-1 | sha256 9 equal, [] differ
guard-issue926-x1carbon-before.eventlog.bin | guard-issue926-x1carbon-before | sha256 23 equal, [10] differ
guard-test-HP-EliteBook-830-G6-baseline.eventlog.bin | guard-test-HP-EliteBook-830-G6-baseline | sha256 23 equal, [10] differ
vm-mem512.bin | vm-mem512 | sha256 23 equal, [10] differ
vm-nosb-53c.bin | vm-nosb-53c | sha256 23 equal, [10] differ
vm-nosb-56c-again.bin | vm-nosb-56c-again | sha256 23 equal, [10] differ
vm-nosb-56c.bin | vm-nosb-56c | sha256 23 equal, [10] differ
vm-nosb-56g-openNET.bin | vm-nosb-56g-openNET | sha256 23 equal, [10] differ
vm-sb-56c-cmd2.bin | vm-sb-56c-cmd2 | sha256 23 equal, [10] differ
vm-sb-56c.bin | vm-sb-56c | sha256 23 equal, [10] differ
vm-sb-snakeoil-smm.bin | vm-sb-snakeoil-smm | sha256 23 equal, [10] differ
vm-sb-systemd.bin | vm-sb-systemd | sha256 22 equal, [10, 11] differ
vm-sdboot-type1.bin | vm-sdboot-type1 | sha256 23 equal, [10] differ
vm-smp2-mem512.bin | vm-smp2-mem512 | sha256 23 equal, [10] differ";

/// Of each log with a quote: how many PCRs were quoted, and whether the log explains them.
const QUOTES: &str = "\
goattest-windows_gcp_shielded_vm.bin | goattest-windows_gcp_shielded_vm | 24 quoted: 24 explained
guard-IMN-DELL.eventlog.bin | guard-IMN-DELL | 0 quoted: pcr_selection
guard-IMN-SUPERMICRO-WBCL-Quote-AIKs.eventlog.bin | guard-IMN-SUPERMICRO-WBCL-Quote-AIKs | 48 quoted: log_banks
guard-dell-notebook-5eventlogs-WBCL-0.eventlog.bin | guard-dell-notebook-5eventlogs-WBCL | 24 quoted: log_mismatch sha256:12
guard-dell-notebook-5eventlogs-WBCL-1.eventlog.bin | guard-dell-notebook-5eventlogs-WBCL | 24 quoted: log_mismatch sha256:12
guard-dell-notebook-5eventlogs-WBCL-2.eventlog.bin | guard-dell-notebook-5eventlogs-WBCL | 24 quoted: log_mismatch sha256:12
guard-dell-notebook-5eventlogs-WBCL-3.eventlog.bin | guard-dell-notebook-5eventlogs-WBCL | 24 quoted: log_mismatch sha256:12
guard-dell-notebook-5eventlogs-WBCL-4.eventlog.bin | guard-dell-notebook-5eventlogs-WBCL | 24 quoted: 24 explained
guard-dl160-fwupd-report.eventlog.bin | guard-dl160-fwupd-report | 48 quoted: log_mismatch sha256:0
guard-failed-1.eventlog.bin | guard-failed-1 | 9 quoted: log_mismatch sha256:0
guard-good-1.eventlog.bin | guard-good-1 | 9 quoted: 9 explained
guard-issue926-x1carbon-before.eventlog.bin | guard-issue926-x1carbon-before | 24 quoted: log_mismatch sha256:10
vm-sb-systemd.bin | vm-sb-systemd | 15 quoted: pcr_digest";

#[test]
fn reads_each_log_as_expected() {
    let named: Vec<_> = rows(LOGS).map(|(log, ..)| log).collect();
    assert_eq!(fixtures::event_logs(), named, "the table names each log once");
    check(LOGS, |log, _| describe(log));
}

#[test]
fn replays_to_the_values_that_the_tpm_had() {
    check(REPLAYS, replay);
}

#[test]
fn explains_the_quotes_that_it_should() {
    check(QUOTES, quote);
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

/// Prints all rows that differ, not only the first.
fn check(table: &'static str, actual: fn(&str, &str) -> String) {
    let wrong: Vec<_> = rows(table)
        .map(|(log, tpm, expected)| (log, actual(log, tpm), expected))
        .filter(|(_, actual, expected)| actual != expected)
        .map(|(log, actual, expected)| format!("{log}\n  expected {expected}\n  actual   {actual}"))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The log, the TPM if there is one, and what is expected.
fn rows(table: &'static str) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    table.lines().map(|row| {
        let (log, rest) = row.split_once(" | ").unwrap();
        let (tpm, expected) = rest.split_once(" | ").unwrap_or(("", rest));
        (log, tpm, expected)
    })
}

fn describe(name: &str) -> String {
    let log = match EventLog::parse(&event_log(name)) {
        Ok(log) => log,
        Err(reject) => return reject.code().into(),
    };
    let format = match log.format() {
        Format::CryptoAgile => "crypto-agile",
        Format::Legacy => "legacy",
    };
    let banks: Vec<_> = log.banks().map(|alg| alg.to_string()).collect();
    let events = log.events().count();
    format!("{format} {}, {events} events: {}", banks.join("+"), contents(log))
}

/// How many events have the digest of all, a part, and nothing of their data.
fn contents(log: EventLog) -> String {
    let alg = log.banks().max().unwrap();
    let measurements = match Measurements::verify(log, alg, all_pcrs()) {
        Ok(measurements) => measurements,
        Err(reject) => return reject.code().into(),
    };
    let contents: Vec<_> = all_pcrs()
        .iter()
        .flat_map(|pcr| measurements.of(pcr).unwrap())
        .map(|measurement| measurement.content)
        .collect();
    let count = |is: fn(&Content<'_>) -> bool| contents.iter().filter(|content| is(content)).count();
    let whole = count(|content| matches!(content, Content::Whole(_)));
    let part = count(|content| matches!(content, Content::Part(_)));
    let absent = count(|content| matches!(content, Content::Absent));
    format!("{whole} whole, {part} part, {absent} absent")
}

fn replay(log: &str, tpm: &str) -> String {
    let log = EventLog::parse(&event_log(log)).unwrap();
    let known = pcrs(tpm).values;
    let rows: Vec<_> = [HashAlg::Sha1, HashAlg::Sha256]
        .into_iter()
        .filter(|alg| known.iter().any(|(bank, ..)| bank == *alg))
        .map(|alg| format!("{alg} {}", compare(&log, alg, &known)))
        .collect();
    rows.join("; ")
}

/// How many PCRs are equal, and which differ.
fn compare(log: &EventLog, alg: HashAlg, known: &PcrValues) -> String {
    let set: PcrSet = known
        .iter()
        .filter(|(bank, ..)| *bank == alg)
        .map(|(_, pcr, _)| pcr)
        .collect();
    let selection = PcrSelection::new(vec![(alg, set)]).unwrap();
    let replayed = match log.replay(alg) {
        Ok(replayed) => replayed.select(&selection),
        Err(reject) => return reject.code().into(),
    };
    let (equal, differ): (Vec<u8>, Vec<u8>) = set
        .iter()
        .partition(|pcr| replayed.get(alg, *pcr) == known.get(alg, *pcr));
    format!("{} equal, {differ:?} differ", equal.len())
}

fn quote(log: &str, tpm: &str) -> String {
    let log = EventLog::parse(&event_log(log)).unwrap();
    let tpm = pcrs(tpm);
    let Attested::Quote {
        selection,
        pcr_digest,
    } = Attest::parse(&tpm.quote.unwrap()).unwrap().attested
    else {
        panic!("not a quote");
    };
    let hash = if pcr_digest.len() == 20 {
        HashAlg::Sha1
    } else {
        HashAlg::Sha256
    };
    let verdict = match explain(&selection, &pcr_digest, hash, Some(&tpm.values), &log) {
        Ok(values) => format!("{} explained", values.iter().count()),
        Err(Reject::LogMismatch(alg, pcr)) => format!("log_mismatch {alg}:{pcr}"),
        Err(reject) => reject.code().into(),
    };
    format!("{} quoted: {verdict}", selection.len())
}

fn all_pcrs() -> PcrSet {
    (0..PcrSet::COUNT).collect()
}
