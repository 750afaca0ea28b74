//! What is read from each measurement list of a real machine, and what of it the PCRs prove.

use std::collections::BTreeMap;

use attest::{
    HashAlg, PcrValues, Reject,
    event_log::EventLog,
    ima::{MeasurementList, Progress, ProvenList, Quoted, explain},
    report::{Finding, ImaReport, Verdict},
    wire::{Attest, Attested},
};

use crate::fixtures::{self, event_log, ima_list, pcrs};

/// Of each list: how many entries of which template in which PCR, and how many of them are violations.
const LISTS: &str = "\
guard-dl160-fwupd-report.measurements | 1000 ima-ng in 10, 7 violations
guard-h12ssl.ascii_measurements | 300 ima-ng in 10, 0 violations
guard-h12ssl.before.measurements | 225 ima-ng in 10, 4 violations
guard-h12ssl.binary_measurements | 300 ima-ng in 10, 0 violations
guard-h12ssl.created.measurements | 300 ima-ng in 10, 4 violations
guard-sr630.binary_measurements | 3 ima-sig in 10, 597 ima-sig in 11, 2 violations
rustkeylime-ascii_runtime_measurements | 200 ima-ng in 10, 0 violations
rustkeylime-ima_log.txt | 1 ima-ng in 10, 0 violations
rustkeylime-invalid_ima_log.txt | ima_malformed
tss-sml-ima-ng-sha1-invalidated.bin | ima_malformed
tss-sml-ima-ng-sha1.bin | 6 ima-ng in 10, 0 violations
tss-sml-ima-sha1-invalidated.bin | 1 ima in 10, 1 violations
tss-sml-ima-sha1.bin | 12 ima in 10, 0 violations
vm-mem512.bin | 60 ima-sig in 10, 0 violations
vm-nosb-53c.bin | 60 ima-sig in 10, 0 violations
vm-nosb-56c-again.bin | 60 ima-sig in 10, 0 violations
vm-nosb-56c.bin | 60 ima-sig in 10, 0 violations
vm-nosb-56c.txt | 60 ima-sig in 10, 0 violations
vm-nosb-56g-openNET.bin | 60 ima-sig in 10, 0 violations
vm-sb-56c-cmd2.bin | 60 ima-sig in 10, 0 violations
vm-sb-56c.bin | 60 ima-sig in 10, 0 violations
vm-sb-snakeoil-smm.bin | 60 ima-sig in 10, 0 violations
vm-sb-systemd.bin | 340 ima-sig in 10, 0 violations
vm-sb-systemd.txt | 340 ima-sig in 10, 0 violations
vm-sdboot-type1.bin | 60 ima-sig in 10, 0 violations
vm-smp2-mem512.bin | 60 ima-sig in 10, 0 violations";

/// Of each list with values that a TPM had: how many entries they prove, how many follow, what policies refuse.
const PROVEN: &str = "\
guard-dl160-fwupd-report.measurements | 1000 proven, 0 follow, refused: [ima_violation, ima_continuity]
vm-mem512.bin | 58 proven, 2 follow, refused: []
vm-nosb-53c.bin | 58 proven, 2 follow, refused: []
vm-nosb-56c-again.bin | 58 proven, 2 follow, refused: []
vm-nosb-56c.bin | 58 proven, 2 follow, refused: []
vm-nosb-56c.txt | 58 proven, 2 follow, refused: []
vm-nosb-56g-openNET.bin | 58 proven, 2 follow, refused: []
vm-sb-56c-cmd2.bin | 58 proven, 2 follow, refused: []
vm-sb-56c.bin | 58 proven, 2 follow, refused: []
vm-sb-snakeoil-smm.bin | 58 proven, 2 follow, refused: []
vm-sb-systemd.bin | 340 proven, 0 follow, refused: []
vm-sb-systemd.txt | 340 proven, 0 follow, refused: []
vm-sdboot-type1.bin | 58 proven, 2 follow, refused: []
vm-smp2-mem512.bin | 58 proven, 2 follow, refused: []";

#[test]
fn reads_each_list_as_expected() {
    let named: Vec<_> = rows(LISTS).map(|(list, _)| list).collect();
    assert_eq!(fixtures::ima_lists(), named, "the table names each list once");
    check(LISTS, describe);
}

#[test]
fn proves_what_the_pcrs_hold() {
    check(PROVEN, |list| match prove(list) {
        Ok(proven) => judge(list, &proven),
        Err(reject) => reject.code().into(),
    });
}

/// Prints all rows that differ, not only the first.
fn check(table: &'static str, actual: fn(&str) -> String) {
    let wrong: Vec<_> = rows(table)
        .map(|(list, expected)| (list, actual(list), expected))
        .filter(|(_, actual, expected)| actual != expected)
        .map(|(list, actual, expected)| format!("{list} | {actual}\n  not {expected}"))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn rows(table: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    table.lines().map(|row| row.split_once(" | ").unwrap())
}

fn describe(name: &str) -> String {
    let list = match MeasurementList::parse(&ima_list(name)) {
        Ok(list) => list,
        Err(reject) => return reject.code().into(),
    };
    let mut kinds = BTreeMap::new();
    for entry in list.entries() {
        *kinds.entry((entry.template, entry.pcr)).or_insert(0) += 1;
    }
    let kinds: Vec<_> = kinds
        .iter()
        .map(|((template, pcr), count)| format!("{count} {template} in {pcr}"))
        .collect();
    let violations = list.entries().filter(attest::ima::Entry::is_violation).count();
    format!("{}, {violations} violations", kinds.join(", "))
}

/// Proves a list by the values of the TPM of the same name. That of the DL160 goes on after entries that were left
/// out.
fn prove(name: &str) -> Result<ProvenList, Reject> {
    let list = MeasurementList::parse(&ima_list(name))?;
    let (tpm, _) = name.rsplit_once('.').unwrap();
    let values = pcrs(tpm).values;
    let from = match tpm {
        "guard-dl160-fwupd-report" => {
            Progress::resumed(0, 15_169, pcrs("guard-dl160-fwupd-report-before").values)
        }
        _ => Progress::of_boot(0),
    };
    explain(list, from.entries(), &from, 0, &Quoted::Values(&values))
}

fn judge(name: &str, proven: &ProvenList) -> String {
    let (tpm, _) = name.rsplit_once('.').unwrap();
    let refused = |outcome: Result<ProvenList, Reject>| outcome.err().map(Reject::code);
    let demands = [
        refused(proven.clone().without_violations()),
        refused(proven.clone().from_this_boot(&pcrs(tpm).values)),
        refused(proven.clone().hashed_whole()),
    ];
    let refused: Vec<_> = demands.into_iter().flatten().collect();
    format!(
        "{} proven, {} follow, refused: [{}]",
        proven.entries().count(),
        proven.trailing(),
        refused.join(", ")
    )
}

/// Firmware and kernel image by the log, phases of the boot by what is known of them, and what ran by the list: together
/// they are what the TPM signed.
#[test]
fn log_phases_and_list_explain_a_quote_together() {
    let list = MeasurementList::parse(&ima_list("vm-sb-systemd.bin")).unwrap();
    let tpm = pcrs("vm-sb-systemd");
    let Attested::Quote {
        selection,
        pcr_digest,
    } = Attest::parse(&tpm.quote.unwrap()).unwrap().attested
    else {
        panic!("not a quote");
    };
    let mut others = EventLog::parse(&event_log("vm-sb-systemd.bin"))
        .unwrap()
        .replay(HashAlg::Sha256)
        .unwrap();
    others.set(HashAlg::Sha256, 11, *tpm.values.get(HashAlg::Sha256, 11).unwrap());
    let quoted = Quoted::Digest {
        selection: &selection,
        pcr_digest: &pcr_digest,
        hash: HashAlg::Sha256,
        others: &others,
    };
    let proven = explain(list, 0, &Progress::of_boot(3), 3, &quoted).unwrap();
    assert_eq!((proven.entries().count(), proven.trailing()), (338, 2));
}

#[test]
fn a_report_refuses_another_boot_and_notes_an_unknown_one() {
    let list = ima_list("vm-nosb-56c.bin");
    let verdicts = |pcrs_of: fn(u8) -> bool, other_pcr: Option<u8>| {
        let mut values = PcrValues::default();
        for (alg, pcr, value) in pcrs("vm-nosb-56c")
            .values
            .iter()
            .filter(|(_, pcr, _)| pcrs_of(*pcr))
        {
            values.set(alg, pcr, *value);
        }
        if let Some(pcr) = other_pcr {
            values.extend(HashAlg::Sha256, pcr, &[1; 32]);
        }
        let report = ImaReport::of(&list, Some(&values));
        let verdict = |finding: &Finding| (finding.verdict, finding.code);
        report.findings.iter().map(verdict).collect::<Vec<_>>()
    };
    let boot = "ima_boot_aggregate";
    assert_eq!(verdicts(|_| true, None), []);
    assert_eq!(verdicts(|pcr| pcr == 10, None), [(Verdict::Noted, boot)]);
    assert_eq!(verdicts(|pcr| pcr != 9, None), [(Verdict::Noted, boot)]);
    assert_eq!(verdicts(|_| true, Some(0)), [(Verdict::Refused, boot)]);
}
