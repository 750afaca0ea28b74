//! What the PCRs prove of a measurement list of a real machine together with its log, and what a report says of it.

use attest::{
    HashAlg, PcrValues,
    event_log::EventLog,
    ima::{MeasurementList, Progress, Quoted, explain},
    report::{Finding, ImaReport, Verdict},
    wire::{Attest, Attested},
};

use crate::fixtures::{event_log, ima_list, pcrs};

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
